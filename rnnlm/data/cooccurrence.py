"""Vectors of tokens from what stands near them in a corpus, in seconds: a start for embeddings.

    PPMI(w, c) = max(0, log(P(w, c) / (P(w) P_a(c))))        P_a(c) ~ count(c)^0.75
    PPMI ~ U S V'                                             the `size` largest singular values
    vector of w = row w of U sqrt(S), as a unit vector        turned at random, so that no coordinate is special

The tokens next to a word count most, those `window` away least, as in word2vec; smoothing the contexts with the power
0.75 keeps rare ones from standing out (Levy, Goldberg & Dagan 2015, "Improving Distributional Similarity with Lessons
Learned from Word Embeddings", sections 3 and 7; the factorisation is Levy & Goldberg 2014). The singular vectors come
from a randomised range finder (Halko, Martinsson & Tropp 2011, algorithm 4.4).
"""

import warnings

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rnnlm.data.tokens import TokenTable

SMOOTHING = 0.75
MOST_TOKENS = 10_000_000  # of a larger corpus, evenly spaced blocks; bounds memory at some gigabytes
BLOCK = 10_000  # tokens
SPARE = 20  # more directions than asked for make the largest ones exact
POWER_ITERATIONS = 2
SEED = 1  # of the directions to begin with; what is found hardly depends on them


def cooccurrence_vectors(table: TokenTable, *, vocab_size: int, eos_id: int, size: int, window: int) -> Tensor:
    """`vocab_size` x `size`, float32; zeros for tokens that stand next to nothing."""
    generator = torch.Generator().manual_seed(SEED)
    pairs, counts = count_pairs(table, vocab_size=vocab_size, eos_id=eos_id, window=window)
    if not len(pairs):
        return torch.zeros(vocab_size, size)
    matrix = ppmi(torch.from_numpy(pairs), torch.from_numpy(counts), vocab_size)
    vectors = left_singular(matrix, min(size, vocab_size), generator)
    vectors = torch.nn.functional.normalize(vectors, dim=1)
    alone = torch.ones(vocab_size, dtype=torch.bool)
    alone[matrix.indices()[0]] = False
    vectors[alone] = 0.0  # rounding is all there was
    turn = torch.linalg.qr(torch.randn(size, size, generator=generator))[0]
    turned: Tensor = vectors @ turn[: vectors.shape[1]]
    return turned


def count_pairs(
    table: TokenTable, *, vocab_size: int, eos_id: int, window: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """2 x P pairs of tokens that stand within `window` of one another in a document, in both orders, and how often;
    at a distance of d they count `window` - d + 1 times."""
    ends = table.offsets[1:]
    tokens = np.insert(table.tokens.astype(np.int64), ends, eos_id)
    document = np.repeat(np.arange(table.num_documents), np.diff(table.offsets) + 1)
    if len(tokens) > MOST_TOKENS:
        starts = np.linspace(0, len(tokens) - BLOCK, MOST_TOKENS // BLOCK).astype(np.int64)
        chosen = (starts[:, None] + np.arange(BLOCK)).ravel()
        # Blocks are told apart like documents.
        tokens, document = tokens[chosen], document[chosen] * len(starts) + np.repeat(np.arange(len(starts)), BLOCK)
    parts = []
    for distance in range(1, min(window, len(tokens) - 1) + 1):
        near = document[:-distance] == document[distance:]
        keys = tokens[:-distance][near] * vocab_size + tokens[distance:][near]
        parts += [keys] * (window - distance + 1)
    if not parts:
        return np.zeros((2, 0), dtype=np.int64), np.zeros(0, dtype=np.float32)
    keys, counts = np.unique(np.concatenate(parts), return_counts=True)
    first, second = np.divmod(keys, vocab_size)
    pairs = np.stack([np.concatenate([first, second]), np.concatenate([second, first])])
    return pairs, np.concatenate([counts, counts]).astype(np.float32)


def ppmi(pairs: Tensor, counts: Tensor, vocab_size: int) -> Tensor:
    """The sparse matrix (COO) of positive pointwise mutual information."""
    matrix = torch.sparse_coo_tensor(pairs, counts, (vocab_size, vocab_size), check_invariants=False).coalesce()
    (words, contexts), together = matrix.indices(), matrix.values().double()
    alone = torch.zeros(vocab_size, dtype=torch.float64).index_add_(0, words, together)
    smoothed = alone.pow(SMOOTHING)
    information = (together / alone[words] / smoothed[contexts] * smoothed.sum()).log()
    positive = information > 0.0
    return torch.sparse_coo_tensor(
        matrix.indices()[:, positive],
        information[positive].float(),
        matrix.shape,
        is_coalesced=True,
        check_invariants=False,
    )


def left_singular(matrix: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """U sqrt(S) of the `size` largest singular values of a sparse matrix."""
    with warnings.catch_warnings():  # CSR is "in beta state", and three times as fast
        warnings.simplefilter("ignore", UserWarning)
        rows, columns = matrix.to_sparse_csr(), matrix.t().coalesce().to_sparse_csr()
    width = min(size + SPARE, len(matrix))
    basis = torch.linalg.qr(rows @ torch.randn(len(matrix), width, generator=generator))[0]
    for _ in range(POWER_ITERATIONS):
        basis = torch.linalg.qr(columns @ basis)[0]
        basis = torch.linalg.qr(rows @ basis)[0]
    small = columns @ basis  # its Gram matrix is that of the rows within the basis
    squares, turn = torch.linalg.eigh(small.t() @ small)
    largest = torch.arange(len(squares) - 1, len(squares) - 1 - size, -1)
    vectors: Tensor = (basis @ turn[:, largest]) * squares[largest].clamp_min(0.0).pow(0.25)
    return vectors
