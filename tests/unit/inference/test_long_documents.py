"""One document of any length: its score is that of its pieces read with carried state, its memory that of its ids."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from rnnlm.data.tokenizers.bytes import BytesTokenizer
from rnnlm.inference.score import Scorer
from tests.corpora import random_documents, save_tiny, tiny_task

LONG, SHORT = 2_000_000, 200_000
PIECE = 70_001  # no multiple of anything

SUM_SHARE = 1e-6  # of a sum: float32 products of other shapes round otherwise, each token's by about as much
BYTES_A_TOKEN = 32  # the ids on their way through: framed by bos and eos, then flat, in int64
BYTES_A_LOGPROB = 8
SLACK_BYTES = 16 << 20  # what allocators keep; hidden states of all steps would be 256 MB

MEASURE = """
import json, resource, sys
import torch
torch.set_num_threads(1)
from rnnlm.checkpoint import load_checkpoint
from rnnlm.inference.score import Scorer
from tests.corpora import random_documents

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

folder, length, keep_tokens = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "True"
checkpoint = load_checkpoint(folder)
scorer = Scorer(checkpoint)
[document] = random_documents([length], checkpoint.model.vocab_size)
scorer.score_tokens([document[:20_000]], keep_tokens=keep_tokens)
before = peak()
scores = scorer.score_tokens([document], keep_tokens=keep_tokens)
print(json.dumps([float(scores.logprob[0]), peak() - before]))
"""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    torch.manual_seed(5)
    task = tiny_task("lstm", hidden_size=32)
    return save_tiny(tmp_path_factory.mktemp("long") / "c", task, BytesTokenizer())


def read_in_pieces(checkpoint, document, piece):
    """log P of a document by the plain model, which hands its state from piece to piece."""
    model, tokenizer = checkpoint.model, checkpoint.tokenizer
    inputs = torch.from_numpy(np.concatenate([[tokenizer.bos_id], document]))
    targets = torch.from_numpy(np.concatenate([document, [tokenizer.eos_id]]))
    state, total = model.initial_state(1), 0.0
    with torch.inference_mode():
        for start in range(0, len(inputs), piece):
            hidden, state = model(inputs[None, start : start + piece], state)
            logprobs = torch.log_softmax(model.softmax.logits(hidden[0]), -1)
            chosen = logprobs.gather(1, targets[start : start + piece, None])
            total += chosen.double().sum().item()
    return total


def measured(checkpoint, length, *, keep_tokens=False):
    """log P of a document, and how much more memory its process took at most, in bytes."""
    command = [sys.executable, "-c", MEASURE, checkpoint.location.path, str(length), str(keep_tokens)]
    root = Path(__file__).parents[3]
    found = subprocess.run(command, check=True, capture_output=True, text=True, cwd=root)
    logprob, grown = json.loads(found.stdout)
    return logprob, grown


def test_a_document_has_the_score_of_its_pieces(checkpoint):
    [document] = random_documents([12_000], checkpoint.model.vocab_size)
    whole = Scorer(checkpoint).score_tokens([document], keep_tokens=True)
    for piece in (12_001, 5_003):
        np.testing.assert_allclose(whole.logprob[0], read_in_pieces(checkpoint, document, piece), rtol=SUM_SHARE)
    assert len(whole.token_logprobs[0]) == 12_001


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("keep_tokens", [False, True])
def test_only_the_document_itself_takes_memory(checkpoint, keep_tokens):
    [document] = random_documents([LONG], checkpoint.model.vocab_size)
    _, short = measured(checkpoint, SHORT, keep_tokens=keep_tokens)
    logprob, long = measured(checkpoint, LONG, keep_tokens=keep_tokens)
    np.testing.assert_allclose(logprob, read_in_pieces(checkpoint, document, PIECE), rtol=SUM_SHARE)
    own = BYTES_A_TOKEN + BYTES_A_LOGPROB * keep_tokens
    assert long - short <= own * (LONG - SHORT) + SLACK_BYTES
