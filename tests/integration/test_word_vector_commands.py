"""A tagger with vectors from a file and pieces of words, job by job: it labels words that only the file knows."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from jobs.app import conf_dir
from jobs.predict import predict
from jobs.schemas import PredictJob, TokenizeCorpusJob, TrainJob, TrainTokenizerJob
from jobs.tokenize_corpus import tokenize_corpus
from jobs.train import train_model
from jobs.train_tokenizer import train_tokenizer
from rnnlm.config import from_dict
from rnnlm.errors import DataError

JOBS = {
    "train_tokenizer": (TrainTokenizerJob, train_tokenizer),
    "tokenize_corpus": (TokenizeCorpusJob, tokenize_corpus),
    "train": (TrainJob, train_model),
    "predict": (PredictJob, predict),
}
LABELS = ["up", "down"]
TRAINED, UNSEEN = [f"w{one}" for one in "abcdefgh"], [f"w{one}" for one in "stuvwxyz"]


def run(job, *overrides):
    """A job as its command composes it, in this process: to import everything five times takes half a minute."""
    schema, function = JOBS[job]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        composed = OmegaConf.to_container(compose(job, overrides=list(overrides)), resolve=True)
    fields = {name: value for name, value in composed.items() if name in schema.__pydantic_fields__}
    function(from_dict(schema, fields))


def write(path, words):
    """Rows of four words; the label of a word is the sign of its vector."""
    rows = [[words[(row + step * step) % len(words)] for step in range(4)] for row in range(40)]
    labels = [[LABELS[ord(word[1]) % 2] for word in row] for row in rows]
    pq.write_table(pa.table({"words": rows, "labels": labels}), path)
    return ["corpus=parquet", f"corpus.path={path}"]


def test_words_that_only_the_file_of_vectors_knows_get_their_label(tmp_path, capsys):
    vectors = tmp_path / "vectors.txt"
    vectors.write_text("".join(f"{word} {(-1) ** ord(word[1])} 0.5\n" for word in [*TRAINED, *UNSEEN]))
    seen, unseen = write(tmp_path / "seen.parquet", TRAINED), write(tmp_path / "unseen.parquet", UNSEEN)
    learn = ["tokenizer=labels", "labels_column=labels", f"tokenizer.vectors={vectors}"]
    learn.append("tokenizer.subwords={model_type: bpe, vocab_size: 270}")
    run("train_tokenizer", *seen, *learn, f"output={tmp_path / 'tokenizer'}")
    assert "17 words" in capsys.readouterr().out
    vocabulary, table = f"tokenizer_path={tmp_path / 'tokenizer'}", tmp_path / "table"
    run("tokenize_corpus", *seen, "labels_column=labels", "cluster=here", vocabulary, f"output={table}")
    arguments = [vocabulary, "task=tagging", f"train_tokens={table}", f"valid_tokens={table}", "cell.hidden_size=8"]
    arguments += ["batching.words=64", "optimizer.learning_rate=0.05", "loop.max_steps=60", "tracker=none", "threads=1"]
    features = (
        f"{{_target_: rnnlm.nn.words.embedding.WordEmbeddingConfig, pretrained: '{vectors}', trainable: false, size: %d}}, "
        "{_target_: rnnlm.nn.words.subwords.SubwordsConfig, embedding_size: 4, combine: mean}"
    )
    output = f"output={tmp_path / 'model'}"
    with pytest.raises(DataError, match=r"set size \(task.words\)=2"):
        run("train", *arguments, f"task.words=[{features % 3}]", output)
    run("train", *arguments, f"task.words=[{features % 2}]", output)
    vectors.unlink()  # a checkpoint has all it needs
    predicted = [f"checkpoint={tmp_path / 'model'}", "cluster=here", f"output={tmp_path / 'out'}", "prefix=p_"]
    run("predict", *unseen, *predicted)
    rows = [row for part in (tmp_path / "out" / "data").iterdir() for row in pq.read_table(part).to_pylist()]
    pairs = [pair for row in rows for pair in zip(row["labels"], row["p_labels"], strict=True)]
    assert sum(right == guess for right, guess in pairs) > 0.95 * len(pairs)
