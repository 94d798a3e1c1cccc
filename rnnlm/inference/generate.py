"""Continuations of prompts with a checkpoint's language model: the bridge from a model to decoding."""

from collections.abc import Sequence

import torch

from rnnlm.checkpoint import Checkpoint
from rnnlm.decoding.base import DecodingConfig, Hypothesis, Ids, Started, decode_by_length
from rnnlm.inference.packed import PackedRunner, Report, ignore
from rnnlm.inference.precision import Products
from rnnlm.nn.language_model import LanguageModel
from rnnlm.types import Context, State, StepLogits, StepTokens


class LanguageModelStepper:
    """A language model as decoding sees it; prompts are read packed, without any softmax."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        assert isinstance(checkpoint.model, LanguageModel)
        self._model = checkpoint.model
        self.bos_id, self.eos_id = checkpoint.tokenizer.bos_id, checkpoint.tokenizer.eos_id
        self.vocab_size = checkpoint.tokenizer.vocab_size
        self._runner = PackedRunner(checkpoint.model, bos_id=self.bos_id, eos_id=self.eos_id)

    @property
    def device(self) -> torch.device:
        return self._model.device

    def start(self, prompts: Sequence[Ids]) -> Started:
        state = self._model.initial_state(len(prompts))
        # The last token of a prompt is left to the first step, which needs the logits after it.
        read = [row for row, prompt in enumerate(prompts) if len(prompt)]
        documents = [prompts[row][:-1] for row in read]
        after = tuple(tensor[: len(read)].clone() for tensor in state)
        for block in self._runner.blocks(documents):
            for _ in self._runner.run(documents, block, after):
                pass
        for whole, part in zip(state, after, strict=True):
            whole[read] = part
        last = [int(prompt[-1]) if len(prompt) else self.bos_id for prompt in prompts]
        return Started(torch.tensor(last, device=self._model.device), state, ())

    def step(
        self,
        tokens: StepTokens,
        state: State,
        context: Context,  # noqa: ARG002 - all that was read is in the state
    ) -> tuple[StepLogits, State]:
        hidden, state = self._runner.step(tokens, state)
        return self._model.softmax.logits(hidden), state


class Generator:
    """Continues prompts; build it once."""

    def __init__(self, checkpoint: Checkpoint, *, products: Products | None = None) -> None:
        """`products` (default: float32) says how the model computes."""
        self.tokenizer = checkpoint.tokenizer
        self._stepper = LanguageModelStepper(checkpoint)
        self._weights = (products or Products()).prepare(self._stepper.device)

    def generate(
        self,
        prompts: Sequence[str],
        strategy: DecodingConfig,
        *,
        num_hypotheses: int = 1,
        seed: int = 0,
        row_ids: Sequence[int] | None = None,
        report: Report = ignore,
    ) -> list[list[Hypothesis]]:
        """The hypotheses of each prompt, in their order. `row_ids` (default: places) name rows for their random
        numbers; `report` is told the share of prompts that is done. Raises ConfigError if the strategy has not as many
        hypotheses."""
        encoded = self.tokenizer.encode(prompts)
        with torch.inference_mode(), self._weights.active():
            return decode_by_length(
                self._stepper,
                encoded,
                [len(tokens) for tokens in encoded],
                strategy,
                num_hypotheses=num_hypotheses,
                tokenizer=self.tokenizer,
                seed=seed,
                row_ids=row_ids,
                report=report,
            )

    def continuation(self, prompt: str, tokens: Sequence[int]) -> str:
        """The text of generated tokens as it stands behind the prompt, blanks at the seam included."""
        before = self.tokenizer.encode([prompt])[0].tolist()
        head, whole = self.tokenizer.decode(before), self.tokenizer.decode([*before, *tokens])
        return whole[len(head) :] if whole.startswith(head) else self.tokenizer.decode(tokens)
