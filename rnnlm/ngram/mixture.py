"""A mixture of two models' probabilities: a network and an n-gram model make different mistakes.

    p(w | h) = (1 - weight) p_network(w | h) + weight p_ngram(w | h)          (Jelinek & Mercer 1980)

The weight that makes held-out text most probable is found by expectation maximisation (Dempster, Laird & Rubin 1977):

    weight <- mean over targets of   weight p_ngram / ((1 - weight) p_network + weight p_ngram)

The log-likelihood is concave in the weight, so there is one best weight and every step comes closer to it. Both models
must predict the same targets: one tokenizer, and bos before each document. Nothing but the probabilities of the targets
is needed, so a whole corpus can be mixed from two scored tables.
"""

import math

import numpy as np
import numpy.typing as npt

from rnnlm.errors import DataError

TOLERANCE = 1e-7  # the change of the weight at which EM has arrived; far below what a perplexity shows
MAX_STEPS = 10_000  # each a pass over the targets; thousands only where both models are all but the same

Logprobs = npt.NDArray[np.floating]


def interpolate(network: Logprobs, ngram: Logprobs, weight: float) -> npt.NDArray[np.float64]:
    """Natural log-probabilities of the mixture; `weight`, 0 to 1, is the n-gram model's."""
    _check(network, ngram)
    if not 0.0 <= weight <= 1.0:
        raise DataError(f"a weight of {weight} is no share", todo="give the n-gram model a weight from 0 to 1")
    with np.errstate(divide="ignore"):
        of_network, of_ngram = np.log1p(-np.float64(weight)), np.log(np.float64(weight))
    mixed: npt.NDArray[np.float64] = np.logaddexp(
        of_network + network.astype(np.float64), of_ngram + ngram.astype(np.float64)
    )
    return mixed


def fit_weight(network: Logprobs, ngram: Logprobs) -> float:
    """The n-gram model's weight that makes these targets most probable; fit it on text that neither has seen."""
    _check(network, ngram)
    if not network.size:
        raise DataError("there is no target to fit a weight on", todo="give held-out text that is not empty")
    ratio = np.exp(np.clip(ngram.astype(np.float64) - network.astype(np.float64), -700.0, 700.0))
    weight = 0.5
    for _ in range(MAX_STEPS):
        last, weight = weight, float(np.mean(weight * ratio / (1.0 - weight + weight * ratio)))
        if math.isclose(weight, last, rel_tol=0.0, abs_tol=TOLERANCE):
            break
    return weight


def _check(network: Logprobs, ngram: Logprobs) -> None:
    if network.shape != ngram.shape:
        raise DataError(
            f"log-probabilities of {network.size:,} targets cannot be mixed with those of {ngram.size:,}",
            todo="score the same documents with both models, and with one tokenizer",
        )
