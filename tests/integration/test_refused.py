"""Input a user can get wrong: a clear message, the right exit code, nothing written."""

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.integration.pipeline import pipeline, refusal, run_job, run_well


@pytest.fixture(scope="module")
def made():
    return pipeline()


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def parquet(folder: Path, **columns) -> list[str]:
    pq.write_table(pa.table(columns), folder / "corpus.parquet")
    return ["corpus=parquet", f"corpus.path={folder / 'corpus.parquet'}"]


def file(folder: Path, kind: str, content: bytes) -> list[str]:
    (folder / f"corpus.{kind}").write_bytes(content)
    return [f"corpus={kind}", f"corpus.path={folder / f'corpus.{kind}'}"]


def test_all_problems_of_a_configuration_are_said_at_once(made, out):
    done = run_job(
        "train", "cel=gru", "cell.hidden_sise=8", "loop.max_epochs=x", "seed=1.5", "loop.clip_norm=-1", f"output={out}"
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    lines = done.stderr.removeprefix("ConfigError: ").strip().splitlines()
    for start, words in {
        "cel:": "did you mean 'cell'?",
        "task.cell.hidden_sise:": "did you mean 'hidden_size'?",
        "loop.max_epochs:": "valid number, got 'x'",
        "loop.clip_norm:": "greater than 0, got -1",
        "seed:": "valid integer, got 1.5",
        "train_tokens:": "required",
        "tokenizer_path:": "required",
    }.items():
        assert any(line.startswith(start) and words in line for line in lines), (start, lines)
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["cell=lstmm"], ["cell/lstmm", "elman, gru, jordan", ", lstm,"]),
        (["a=b=c"], ["quote"]),
        (["task.embedding_size=7"], ["cell.hidden_size (16)", "softmax.tied=false"]),
        (
            ["task.num_layers=0", "batching.window=0"],
            ["task.num_layers", "batching.window", "greater than or equal to 1"],
        ),
        (["batching.num_lanes=4000000"], ["4,000,000 lanes", "targets"]),
        (["batching.num_lanes=5", "workers=2"], ["5 lanes", "2 workers"]),
        (["tokenizer_path=/nowhere"], ["/nowhere", "jobs.train_tokenizer"]),
        (["train_tokens=/nowhere"], ["/nowhere", "check the path"]),
    ],
)
def test_a_training_that_cannot_be(made, out, arguments, words):
    said = refusal(2, "train", *made.train_arguments, f"output={out}", *arguments)
    assert all(word in said for word in words), said
    assert not out.exists()


def test_a_gpu_that_is_not_there(made, out):
    said = refusal(4, "train", *made.train_arguments, f"output={out}", "device=cuda")
    assert "device=auto" in said
    assert not out.exists()


@pytest.mark.parametrize(
    ("corpus", "words"),
    [
        (lambda f: ["corpus=parquet", "corpus.path=/nowhere"], ["/nowhere", "check the path"]),
        (lambda f: parquet(f, body=["a"]), ["'text'", "body", "corpus.text_column"]),
        (lambda f: parquet(f, text=[1]), ["int64", "text is needed"]),
        (lambda f: parquet(f, text=pa.array([], pa.string())), ["no rows"]),
        (lambda f: parquet(f, text=["a"], logprob=[0.5]), ["'logprob'"]),
        (lambda f: file(f, "lines", b"good\nbad \xff\n"), ["line 2", "UTF-8", "corpus.lines"]),
        (lambda f: file(f, "lines", b""), ["no rows"]),
        (lambda f: file(f, "jsonl", b'{"text": "a"}\n{"text": \n'), ["corpus.jsonl", "line 2"]),
        (lambda f: file(f, "jsonl", b'{"text": "a", "n": 1}\n{"text": "b", "n": "x"}\n'), ["corpus.jsonl", "/n"]),
        (lambda f: ["corpus=parquet", *file(f, "parquet", b"PAR1 cut short")], ["corpus.parquet", "cut short"]),
    ],
)
def test_a_corpus_that_cannot_be_scored(made, out, tmp_path, corpus, words):
    said = refusal(2, "score", f"checkpoint={made.model}", f"output={out}", *corpus(tmp_path))
    assert all(word in said for word in words), said
    assert not out.exists()


def checkpoint_copy(made, folder: Path) -> Path:
    shutil.copytree(made.model, folder / "model")
    return next((folder / "model" / "checkpoints").glob("step-*"))


def test_a_truncated_checkpoint(made, out, tmp_path):
    weights = checkpoint_copy(made, tmp_path) / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    arguments = ["corpus=parquet", f"corpus.path={made.corpus}", f"output={out}"]
    said = refusal(2, "score", f"checkpoint={tmp_path / 'model'}", *arguments)
    assert "1000 bytes" in said
    weights.unlink()
    assert "weights.safetensors; copy the checkpoint again" in refusal(
        2, "score", f"checkpoint={tmp_path / 'model'}", *arguments
    )
    assert not out.exists()


def test_a_checkpoint_with_the_tokenizer_of_another(made, out, tmp_path):
    folder = checkpoint_copy(made, tmp_path)
    words = tmp_path / "words"
    source = ["corpus=parquet", f"corpus.path={made.corpus}"]
    run_well("train_tokenizer", *source, "tokenizer=words", f"output={words}")
    for name in ("tokenizer.model", "tokenizer.json"):
        shutil.copy(words / name, folder / name)
    said = refusal(2, "score", f"checkpoint={tmp_path / 'model'}", *source, f"output={out}")
    assert "was trained with tokenizer" in said
    assert not out.exists()


def test_tokens_of_another_tokenizer(made, out, tmp_path):
    words = tmp_path / "words"
    run_well("train_tokenizer", "corpus=parquet", f"corpus.path={made.corpus}", "tokenizer=words", f"output={words}")
    said = refusal(2, "train", *made.train_arguments, f"tokenizer_path={words}", f"output={out}")
    assert "tokenize again" in said
    assert not out.exists()


def test_an_output_of_another_run_is_refused_with_the_difference(made, out, tmp_path):
    run_well("score", *made.score_arguments(out), "cluster=here")
    said = refusal(2, "score", *made.score_arguments(out), "cluster=here", "token_logprobs=true")
    assert "token_logprobs: False -> True" in said
    other = tmp_path / "other.parquet"
    pq.write_table(pa.table({"text": ["a"]}), other)
    said = refusal(2, "score", f"checkpoint={made.model}", "corpus=parquet", f"corpus.path={other}", f"output={out}")
    assert "other.parquet" in said
    assert (out / "_SUCCESS").exists()


def test_a_run_of_another_model_is_refused_with_the_difference(made):
    said = refusal(2, "train", *made.train_arguments, "loop.max_steps=30", "cell=gru", f"output={made.model}")
    assert "task.cell._target_" in said


def test_a_folder_with_something_else_is_left_alone(made, out):
    out.mkdir()
    (out / "thesis.tex").write_text("precious")
    assert "thesis.tex" in refusal(2, "score", *made.score_arguments(out))
    assert "thesis.tex" in refusal(2, "train", *made.train_arguments, f"output={out}")
    assert [path.name for path in out.iterdir()] == ["thesis.tex"]


def test_the_corpus_in_the_output(made, tmp_path):
    corpus = parquet(tmp_path, text=["a"])
    assert "output" in refusal(2, "score", f"checkpoint={made.model}", *corpus, f"output={tmp_path}")


def test_empty_and_null_texts_are_rows_like_others(made, out, tmp_path):
    corpus = parquet(tmp_path, text=["", None, "row"])
    run_well("score", f"checkpoint={made.model}", *corpus, f"output={out}")
    empty, null, row = pq.read_table(out / "data").to_pylist()
    assert (empty["num_tokens"], empty["bits_per_byte"], empty["error"]) == (1, None, None)
    assert empty["logprob"] < 0
    assert null["logprob"] is None
    assert null["error"].startswith("null_text")
    assert row["bits_per_byte"] > 0
