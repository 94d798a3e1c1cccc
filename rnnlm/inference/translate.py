"""Sequence to sequence with a checkpoint: targets for sources, and log P(target | source).

    log P(y | x) = sum over t of log P(y_t | y_1, ..., y_{t-1}, x) + log P(eos | y, x)

Natural logarithms, summed in float64. A row's result does not depend on the other rows (up to the rounding of float32
products of another shape, 1e-4 nats a row).
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from rnnlm.checkpoint import Checkpoint
from rnnlm.data.pair_stream import PairBatch, PairReader
from rnnlm.data.pairs import PairTable
from rnnlm.data.tokenizers.pair import PairTokenizer
from rnnlm.data.tokens import TokenTable
from rnnlm.decoding.base import DecodingConfig, Hypothesis, Started, decode_by_length
from rnnlm.inference.packed import Ids, Report, ignore
from rnnlm.inference.precision import Products
from rnnlm.inference.score import Scores
from rnnlm.nn.translation_model import TranslationModel
from rnnlm.tasks.translation import target_logprobs
from rnnlm.types import Context, State, StepLogits, StepTokens

BATCH_TOKENS = 4096  # target tokens that are scored at a time


class Source(NamedTuple):
    """What is to be written about, and how what is written has to begin; both without bos and eos."""

    tokens: Ids
    prefix: Ids


class TranslationStepper:
    """An encoder-decoder as decoding sees it."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._model, self._pair = _parts(checkpoint)
        self.bos_id, self.eos_id, self.vocab_size = self._pair.bos_id, self._pair.eos_id, self._pair.vocab_size
        self._table: Tensor | None = None  # what the decoder's first layer makes of each token

    def start(self, prompts: Sequence[Source]) -> Started:
        source = [torch.from_numpy(np.append(prompt.tokens, self._pair.source.eos_id)) for prompt in prompts]
        lengths = torch.tensor([len(tokens) for tokens in source])
        padded = pad_sequence(source, batch_first=True, padding_value=0)
        state, context = self._model.encode(padded.long().to(self._model.device), lengths)
        last = [int(prompt.prefix[-1]) if len(prompt.prefix) else self.bos_id for prompt in prompts]
        self._read_prefixes([prompt.prefix for prompt in prompts], state, context)
        return Started(torch.tensor(last, device=self._model.device), state, context)

    def step(self, tokens: StepTokens, state: State, context: Context) -> tuple[StepLogits, State]:
        if self._model.input_feeding:
            return self._model.step(tokens, state, context)
        if self._table is None:  # not before weights are prepared: it is a product of the chosen precision
            self._table = self._model.decoder.project(self._model.target_embedding.weight)
        return self._model.step_projected(self._table.index_select(0, tokens), state, context)

    def _read_prefixes(self, prefixes: Sequence[Ids], state: State, context: Context) -> None:
        """Let the decoder read what is given of each target, its last token apart; those of one length together."""
        lengths = np.array([len(prefix) for prefix in prefixes])
        for length in sorted(set(lengths.tolist()) - {0}):
            rows = np.flatnonzero(lengths == length)
            places = torch.from_numpy(rows).to(self._model.device)
            inputs = np.array([[self.bos_id, *prefixes[row][:-1]] for row in rows.tolist()], dtype=np.int64)
            before, seen = tuple(one[places] for one in state), tuple(one[places] for one in context)
            read = self._model.read(torch.from_numpy(inputs).to(self._model.device), before, seen)
            for whole, part in zip(state, read.state, strict=True):
                whole[places] = part


class Translator:
    """Writes targets for sources, and scores pairs; build it once."""

    def __init__(self, checkpoint: Checkpoint, *, products: Products | None = None) -> None:
        """`products` (default: float32) says how the model computes."""
        self._model, self.tokenizer = _parts(checkpoint)
        self._stepper = TranslationStepper(checkpoint)
        self._weights = (products or Products()).prepare(self._model.device)

    def generate(
        self,
        sources: Sequence[str],
        strategy: DecodingConfig,
        *,
        prefixes: Sequence[str] | None = None,
        num_hypotheses: int = 1,
        seed: int = 0,
        row_ids: Sequence[int] | None = None,
        report: Report = ignore,
    ) -> list[list[Hypothesis]]:
        """The hypotheses of each source, in their order. A target begins with its prefix, if there are prefixes; the
        hypotheses are what comes behind. `row_ids` (default: places) name rows for their random numbers; `report` is
        told the share of sources that is done."""
        encoded = self.tokenizer.source.encode(sources)
        before = self.tokenizer.encode([""] * len(sources) if prefixes is None else prefixes)
        return self.decode(
            [Source(*one) for one in zip(encoded, before, strict=True)],
            strategy,
            num_hypotheses=num_hypotheses,
            seed=seed,
            row_ids=row_ids,
            report=report,
        )

    def decode(
        self,
        sources: Sequence[Source],
        strategy: DecodingConfig,
        *,
        num_hypotheses: int = 1,
        seed: int = 0,
        row_ids: Sequence[int] | None = None,
        report: Report = ignore,
    ) -> list[list[Hypothesis]]:
        """The same of token ids."""
        with torch.inference_mode(), self._weights.active():
            # The short ones first: what runs side by side is of like length, and the memory of sources only grows.
            return decode_by_length(
                self._stepper,
                sources,
                [len(source.tokens) for source in sources],
                strategy,
                num_hypotheses=num_hypotheses,
                tokenizer=self.tokenizer,
                seed=seed,
                row_ids=row_ids,
                report=report,
            )

    def continuation(self, prefix: str, tokens: Sequence[int]) -> str:
        """The whole target: a prefix and what was written behind it."""
        before = self.tokenizer.encode([prefix])[0].tolist() if prefix else []
        return self.tokenizer.decode([*before, *tokens])

    def score_pairs(
        self, sources: Sequence[str], targets: Sequence[str], *, keep_tokens: bool = False, report: Report = ignore
    ) -> Scores:
        """log P of each target given its source."""
        return self.score_tokens(
            self.tokenizer.source.encode(sources),
            self.tokenizer.encode(targets),
            keep_tokens=keep_tokens,
            report=report,
        )

    def score_tokens(
        self, sources: Sequence[Ids], targets: Sequence[Ids], *, keep_tokens: bool = False, report: Report = ignore
    ) -> Scores:
        """The same of token ids without bos and eos; an empty target has one prediction, its end."""
        logprob, num_tokens = np.zeros(len(sources)), np.array([len(target) + 1 for target in targets], dtype=np.int32)
        kept: list[npt.NDArray[np.float32]] = [np.zeros(0, np.float32)] * len(sources)
        done = 0
        with torch.inference_mode(), self._weights.active():
            for rows, batch in self._batches(sources, targets):
                found = target_logprobs(self._model, batch).numpy()
                logprob[rows] = (found.astype(np.float64) * batch.mask.numpy()).sum(1)
                if keep_tokens:
                    for row, values in zip(rows.tolist(), found, strict=True):
                        kept[row] = values[: num_tokens[row]].astype(np.float32)
                done += int(batch.mask.sum())
                report(done / int(num_tokens.sum()))
        return Scores(logprob, num_tokens, kept if keep_tokens else None)

    def alignments(self, sources: Sequence[Ids], targets: Sequence[Ids]) -> list[npt.NDArray[np.float32]] | None:
        """Where the decoder looked when it wrote each token of a target, its end included, and of the source with its
        end: target x source weights that sum to 1. None if the model has no attention."""
        if self._model.attention is None:
            return None
        found: list[npt.NDArray[np.float32]] = [np.zeros((0, 0), np.float32)] * len(sources)
        with torch.inference_mode(), self._weights.active():
            for rows, batch in self._batches(sources, targets):
                state, context = self._model.encode(batch.source.to(self._model.device), batch.lengths)
                weights = self._model.read(batch.inputs.to(self._model.device), state, context).weights
                assert weights is not None
                for row, one in zip(rows.tolist(), weights.float().cpu().numpy(), strict=True):
                    found[row] = one[: len(targets[row]) + 1, : len(sources[row]) + 1].copy()
        return found

    def _batches(
        self, sources: Sequence[Ids], targets: Sequence[Ids]
    ) -> Iterator[tuple[npt.NDArray[np.int64], PairBatch]]:
        """All pairs, those of like length together; which are together depends on the pairs given and nothing else."""
        if not sources:
            return
        table = PairTable(TokenTable.from_documents(sources), TokenTable.from_documents(targets), {})
        pair = self.tokenizer
        reader = PairReader(table, source_eos=pair.source.eos_id, bos_id=pair.bos_id, eos_id=pair.eos_id)
        for rows in reader.plan(reader.by_length(np.arange(len(sources))), BATCH_TOKENS):
            yield rows, reader.read(rows)


def _parts(checkpoint: Checkpoint) -> tuple[TranslationModel, PairTokenizer]:
    assert isinstance(checkpoint.model, TranslationModel)
    assert isinstance(checkpoint.tokenizer, PairTokenizer)
    return checkpoint.model, checkpoint.tokenizer
