"""In which precision products are done, and by what: given, or chosen by a trial on the user's own rows.

Less precise products are faster, and change scores. `choose` scores a sample of the corpus in float32 and in the faster
precisions of this machine, the fastest first, and takes the first that moves the sample's perplexity by at most
TOLERANCE; if none does, float32. What was found stays with the run: in its identity, its report and its parts.
"""

import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import nn

from rnnlm.config import config
from rnnlm.errors import EnvironmentFailure
from rnnlm.native.library import has_products, kind, library
from rnnlm.nn.prepared import HAS_INT8, Precision, PreparedWeights

Kernels = Literal["avx512", "native", "torch"]
"""By what: rnnlm's own kernels with its own products; its own kernels with oneDNN's products; torch's operations."""

TOLERANCE = 0.001  # relative change of perplexity
SAMPLE_ROWS = 1024
PROBE_SIZE = (256, 1024, 1024)  # rows, inputs and outputs of the product that tells which precisions are fast
PROBE_ROUNDS, PROBE_PRODUCTS = 5, 4
WORTH = 1.2  # times the rate of float32; less is not worth another result


@config
class Trial:
    """What a precision did to the scores of a sample."""

    rows: int = Field(ge=1)
    "Rows of the sample."
    tokens: int = Field(ge=1)
    "Their tokens."
    perplexity_change: float
    "Perplexity of the sample divided by that in float32, less 1."
    largest_row_change: float = Field(ge=0.0)
    "Largest change of a row's log-probability, in nats."


@config
class Products:
    """How a model computes; belongs to the identity of a run, for its last digits depend on it."""

    precision: Precision = "float32"
    "Precision of matrix products; states, nonlinearities and sums are in float32."
    kernels: Kernels | None = None
    "Whether rnnlm's own products and kernels are used, kernels alone, or torch's operations; null takes what there is."
    trial: Trial | None = None
    "The trial by which the precision was chosen, if it was."

    def card(self) -> dict[str, Any]:
        """For identities and reports; without a trial, nothing of one."""
        trial = None if self.trial is None else asdict(self.trial)
        return {"precision": self.precision, "kernels": self.kernels, **({"trial": trial} if trial else {})}

    def settled(self, threads: int) -> "Products":
        """With `kernels` as they are on this machine, unless they were given. They have one thread."""
        found = kind(self.precision) if threads == 1 else "torch"
        return Products(precision=self.precision, kernels=self.kernels or found, trial=self.trial)

    def prepare(self, device: torch.device) -> PreparedWeights:
        """Ready to prepare a model's weights. Raises EnvironmentFailure if this machine cannot do it as it was settled
        on another, ConfigError if the device does not have the precision."""
        compiled = self.kernels in ("avx512", "native")
        if compiled and device.type == "cpu" and library() is None:
            raise EnvironmentFailure(
                "this run's kernels were compiled where it began, and here they cannot be",
                todo="install a C compiler (cc) on every machine, or begin anew with RNNLM_NATIVE=0",
            )
        if self.kernels == "avx512" and device.type == "cpu" and not has_products(self.precision):
            raise EnvironmentFailure(
                f"this run's products in {self.precision} need AVX-512, which the machine has where it began, and this "
                "one has not",
                todo="use machines of one kind, or begin anew with RNNLM_NATIVE=0",
            )
        allowed = self.kernels is None
        return PreparedWeights(
            self.precision, device, native=allowed or compiled, products=allowed or self.kernels == "avx512"
        )


Score = Callable[[Products], tuple[npt.NDArray[np.float64], npt.NDArray[np.int32]]]
"""Scores a sample: log-probability and number of tokens of each row."""


def choose(score: Score, device: torch.device) -> Products:
    """The fastest precision whose scores of a sample are as good as those of float32."""
    exact, num_tokens = score(Products())
    finite = np.isfinite(exact)
    rows, tokens = int(finite.sum()), int(num_tokens[finite].sum())
    for precision in fast_precisions(device) if tokens else ():
        change = score(Products(precision=precision))[0][finite] - exact[finite]
        perplexity_change = float(np.expm1(-change.sum() / tokens))
        if abs(perplexity_change) <= TOLERANCE:
            largest = float(np.abs(change).max())
            # Rounded, since it is shown.
            trial = Trial(
                rows=rows,
                tokens=tokens,
                perplexity_change=round(perplexity_change, 7),
                largest_row_change=round(largest, 5),
            )
            return Products(precision=precision, trial=trial)
    return Products()


def fast_precisions(device: torch.device) -> list[Precision]:
    """Those whose products are clearly faster than float32's on this machine, the fastest first."""
    candidates: list[Precision] = ["bfloat16", "float16"]
    if device.type == "cpu" and HAS_INT8:
        candidates.append("int8")
    least = WORTH * product_rate("float32", device)
    rates = {precision: product_rate(precision, device) for precision in candidates}
    return sorted((one for one in candidates if rates[one] > least), key=lambda one: -rates[one])


def product_rate(precision: Precision, device: torch.device) -> float:
    """Operations a second (two a multiplication) of a product of usual size, with the threads that torch has."""
    rows, inputs, outputs = PROBE_SIZE
    weight = nn.Parameter(torch.ones(outputs, inputs, device=device))
    values = torch.ones(rows, inputs, device=device)
    with torch.inference_mode():
        prepared = PreparedWeights(precision, device).of(weight)
        operand = values if prepared is None else prepared.operand(values)

        def once() -> None:
            _ = values @ weight.t() if prepared is None else prepared.unscaled(operand)
            if device.type == "cuda":
                torch.cuda.synchronize()

        # The time of this process, not the clock: another one may have the core for a while.
        clock = time.perf_counter if device.type == "cuda" else time.process_time
        once()
        best = min(_seconds(once, clock) for _ in range(PROBE_ROUNDS))
    return 2.0 * rows * inputs * outputs / best


def _seconds(once: Callable[[], None], clock: Callable[[], float]) -> float:
    began = clock()
    for _ in range(PROBE_PRODUCTS):
        once()
    return max(1e-9, clock() - began) / PROBE_PRODUCTS
