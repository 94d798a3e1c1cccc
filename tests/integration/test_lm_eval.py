"""A local task by lm_eval's own command with `--model rnnlm`; its figures are those of the library.

python -m venv outputs/peers/lm_eval
outputs/peers/lm_eval/bin/pip install -c constraints.txt -e '.[lm-eval]'
"""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from rnnlm.decoding.greedy import GreedyConfig
from rnnlm.inference.generate import Generator
from rnnlm.inference.score import Scorer
from tests.corpora import save_tiny

ROOT = Path(__file__).parents[2]
PEER = ROOT / "outputs" / "peers" / "lm_eval" / "bin" / "python"
ROWS = [
    {"text": "the cat sat on", "first": "the mat", "second": "a dog ran", "answer": 0},
    {"text": "a dog", "first": "ran under a tree .", "second": ".", "answer": 1},
    {"text": "", "first": "the cat", "second": "cat the", "answer": 1},
]
TASK = """
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: {kind}
metric_list: [{{metric: {metric}, aggregation: {aggregation}, higher_is_better: true}}]
"""
TASKS = {
    "multiple_choice": (
        "acc",
        "mean",
        "doc_to_text: text\ndoc_to_choice: '{{[first, second]}}'\ndoc_to_target: answer",
    ),
    "loglikelihood_rolling": ("byte_perplexity", "weighted_perplexity", "doc_to_text: ''\ndoc_to_target: first"),
    "generate_until": (
        "exact_match",
        "mean",
        "doc_to_text: first\ndoc_to_target: second\ngeneration_kwargs: {until: [' the'], max_gen_toks: 6}",
    ),
}


def python_with_lm_eval():
    if importlib.util.find_spec("lm_eval") is not None:
        return sys.executable
    return str(PEER) if PEER.exists() else None


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """The checkpoint, and the rows that the harness wrote for each kind of task."""
    python = python_with_lm_eval()
    if python is None:
        pytest.skip("lm_eval is not installed, neither here nor in outputs/peers/lm_eval (how: see this file)")
    folder = tmp_path_factory.mktemp("lm_eval")
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    for kind, (metric, aggregation, rest) in TASKS.items():
        head = TASK.format(
            name=f"tiny_{kind}", data=folder / "rows.jsonl", kind=kind, metric=metric, aggregation=aggregation
        )
        (folder / f"{kind}.yaml").write_text(head + rest)
    checkpoint = save_tiny(folder / "model")
    command = [python, "-m", "rnnlm_lm_eval", "run", "--model", "rnnlm", "--model_args", f"path={folder / 'model'}"]
    command += ["--tasks", ",".join(f"tiny_{kind}" for kind in TASKS), "--include_path", str(folder)]
    command += ["--output_path", str(folder / "out"), "--log_samples"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = {}
    for kind in TASKS:
        (file,) = (folder / "out").rglob(f"samples_tiny_{kind}_*.jsonl")
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        found[kind] = [row["resps"] for row in sorted(rows, key=lambda row: row["doc_id"])]
    return checkpoint, found


def test_choices_have_the_librarys_log_probabilities(evaluated):
    checkpoint, found = evaluated
    scorer, tokenizer = Scorer(checkpoint), checkpoint.tokenizer
    for row, responses in zip(ROWS, found["multiple_choice"], strict=True):
        context = len(tokenizer.encode([row["text"]])[0])
        for name, ((logprob, is_greedy),) in zip(("first", "second"), responses, strict=True):
            (tokens,) = scorer.score_texts([f"{row['text']} {row[name]}"], keep_tokens=True).token_logprobs
            assert float(logprob) == pytest.approx(tokens[context:-1].sum(dtype=np.float64), abs=1e-4)
            assert str(is_greedy) in {"True", "False"}


def test_whole_texts_have_the_librarys_log_probabilities(evaluated):
    checkpoint, found = evaluated
    scored = Scorer(checkpoint).score_texts([row["first"] for row in ROWS], keep_tokens=True).token_logprobs
    for tokens, ((response,),) in zip(scored, found["loglikelihood_rolling"], strict=True):
        value = response[0] if isinstance(response, list) else response
        assert float(value) == pytest.approx(tokens[:-1].sum(dtype=np.float64), abs=1e-4)


def test_texts_are_those_of_greedy_decoding_up_to_the_stop(evaluated):
    checkpoint, found = evaluated
    generator = Generator(checkpoint)
    prompts = [row["first"] for row in ROWS]
    written = generator.generate(prompts, GreedyConfig(max_tokens=6))
    expected = [
        generator.continuation(p, one[0].tokens).split(" the")[0] for p, one in zip(prompts, written, strict=True)
    ]
    assert [response for ((response,),) in found["generate_until"]] == expected
