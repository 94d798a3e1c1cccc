"""One torch thread, reproducible examples, and the tiny tokenizer and checkpoint that many tests read."""

import pytest
import torch
from hypothesis import settings

# Settles what Ray reads from the environment, before any test imports Ray.
from jobs.distributed.token import ensure_token
from tests.corpora import save_tiny, words_tokenizer
from tests.servers import s3, s3_server  # noqa: F401 - fixtures

ensure_token()
settings.register_profile("rnnlm", derandomize=True, max_examples=50, deadline=None, database=None, print_blob=True)
settings.load_profile("rnnlm")


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def torch_seed():
    """Tests that draw weights draw the same ones, in any order of tests."""
    torch.manual_seed(1234)


@pytest.fixture(scope="session")
def tokenizer():
    return words_tokenizer()


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory):
    """A tied one-layer LSTM with random weights; to be read, not changed."""
    torch.manual_seed(4321)
    return save_tiny(tmp_path_factory.mktemp("tiny") / "checkpoint")
