"""Classes of rows of words with a classifier.

Rows that are read together are of like length and padded to the longest; one that is longer than a batch is read alone
and whole. A row's result does not depend on the other rows, up to the rounding of float32 products of another shape.

A network is often surer than it is right. `fitted_temperature` finds on held-out rows the number that its logits are to
be divided by; `python -m jobs.calibrate` keeps it for `jobs.predict`.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from rnnlm.checkpoint import Checkpoint
from rnnlm.data.labelled import LabelledTable
from rnnlm.data.tokenizers.labels import LabelTokenizer
from rnnlm.inference.packed import Report, ignore
from rnnlm.inference.precision import Products
from rnnlm.inference.spelled import in_pools, with_spellings_once
from rnnlm.nn.calibration import fit_temperature
from rnnlm.nn.classification_model import ClassificationModel, counted_rows, only_class, several_hot
from rnnlm.tasks.word_encoder import WordEncoderConfig, in_batches

Probabilities = npt.NDArray[np.float32]  # rows x classes


class Classifier:
    """Classifies rows of words; build it once."""

    def __init__(self, checkpoint: Checkpoint, *, products: Products | None = None, temperature: float = 1.0) -> None:
        """`products` (default: float32) says how the model computes; logits are divided by `temperature`."""
        assert isinstance(checkpoint.model, ClassificationModel)
        assert isinstance(checkpoint.tokenizer, LabelTokenizer)
        self._model, self._once = with_spellings_once(checkpoint.model)
        self.tokenizer = checkpoint.tokenizer
        self.multi_label = checkpoint.model.multi_label
        self._temperature = temperature
        self._weights = (products or Products()).prepare(checkpoint.model.device)
        self.num_padding = 0  # positions computed by the last call that belong to no word

    def classify(self, rows: Sequence[Sequence[str]], *, report: Report = ignore) -> Probabilities:
        """The probability of each class of the vocabulary, for each row in its order; nan for a row without words.

        `report` is told the share of words that is done.
        """
        found = np.full((len(rows), len(self.tokenizer.labels)), np.nan, dtype=np.float32)
        done = self.num_padding = 0
        num_words = sum(map(len, rows))
        with torch.inference_mode(), self._weights.active():
            for read in in_pools(rows, self.tokenizer, self._once):
                found[read.rows] = self._model.probabilities(read.batch, self._temperature).cpu().numpy()
                self.num_padding += read.num_padding
                done += int(read.lengths.sum())
                report(done / num_words)
        return found


def fitted_temperature(checkpoint: Checkpoint, table: LabelledTable) -> float:
    """The temperature that calibrates a classifier on held-out rows (`rnnlm.nn.calibration`)."""
    return fit_temperature(*held_out(checkpoint, table))


def held_out(checkpoint: Checkpoint, table: LabelledTable) -> tuple[Float[Tensor, "N L"], Tensor]:
    """The logits of rows whose class is known, and the targets: their classes (N, int64), or of several labels 1 and 0
    for each (N L). Both on the CPU, in no particular order."""
    model = checkpoint.model
    assert isinstance(model, ClassificationModel)
    assert isinstance(checkpoint.task, WordEncoderConfig)
    assert table.of_rows, "labels of words are no classes"
    logits, targets = [], []
    with torch.inference_mode():
        for batch in in_batches(checkpoint.task.reader(table), np.flatnonzero(np.diff(table.offsets))):
            rows = counted_rows(batch, multi_label=model.multi_label)
            logits.append(model.logits(batch).cpu()[rows])
            classes = batch.classes[rows]
            several = model.multi_label
            targets.append(several_hot(classes, logits[0].shape[1]) if several else only_class(classes))
    return torch.cat(logits), torch.cat(targets)
