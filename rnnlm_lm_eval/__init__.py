"""Language models in EleutherAI's lm-evaluation-harness (Gao et al. 2021), as `--model rnnlm` (extra `lm-eval`).

    python -m rnnlm_lm_eval run --model rnnlm --model_args path=outputs/model --tasks lambada_openai

The command is `lm_eval` itself, which has no way to find models of other packages by name; from Python, importing this
package registers the model. A state carries all that was read, so nothing is cut into windows: figures of models with
a longest context are for less of it. As in the harness's other models, the end of a text is not counted.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.api.registry import register_model
from lm_eval.models.utils import normalize_gen_kwargs, postprocess_generated_text

from rnnlm import DataError, Generator, GreedyConfig, SamplingConfig, load
from rnnlm.bulk.work import Device
from rnnlm.decoding.base import DecodingConfig
from rnnlm.inference.continuations import ContinuationScorer
from rnnlm.inference.devices import put_on_device
from rnnlm.inference.packed import Ids

# The harness says cuda:0 if nobody asks for a device.
DEVICES: dict[str | None, Device] = {None: "auto", "cpu": "cpu", "cuda": "cuda", "cuda:0": "auto"}
SAMPLING = ("temperature", "top_k", "top_p", "min_p", "typical_p")
KNOWN = {"until", "do_sample", "max_gen_toks", *SAMPLING}


@register_model("rnnlm")
class RnnlmLM(TemplateLM):  # type: ignore[misc]  # an extra, which is not there when types are checked
    """A checkpoint's language model."""

    def __init__(
        self,
        path: str,
        device: str | None = None,
        seed: int = 1,
        max_gen_toks: int = 256,
        batch_size: int | str = 1,  # noqa: ARG002 - rows are packed, in batches of our own
        max_batch_size: int | None = None,  # noqa: ARG002
    ) -> None:
        """`path` is whatever `rnnlm.load` reads; `seed` is the root of sampled texts."""
        super().__init__()
        if device not in DEVICES:
            raise DataError(f"device={device} is unknown", todo="take cpu or cuda")
        self._loaded = load(str(path))
        checkpoint = self._loaded.checkpoint
        put_on_device(checkpoint, DEVICES[device])
        self._seed, self._max_tokens = seed, max_gen_toks
        self._tokenizer = checkpoint.tokenizer
        self._scorer = ContinuationScorer(checkpoint)
        self._generator = Generator(checkpoint)

    @property
    def eot_token_id(self) -> int:
        return self._tokenizer.eos_id

    @property
    def prefix_token_id(self) -> int:
        return self._tokenizer.bos_id

    @property
    def tokenizer_name(self) -> str:
        return self._tokenizer.fingerprint

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:  # noqa: ARG002 - there are none
        return [int(token) for token in self._tokenizer.encode([string])[0]]

    def _loglikelihood_tokens(
        self, requests: Sequence[tuple[tuple[str, str], list[int], list[int]]], **_: Any
    ) -> list[tuple[float, bool]]:
        # Every text begins with bos; the harness puts it where there is no context.
        before = [_ids(context if texts[0] else []) for texts, context, _ in requests]
        found = self._scorer.score(before, [_ids(continuation) for _, _, continuation in requests])
        return [(float(logprob), bool(best)) for logprob, best in zip(found.logprob, found.is_greedy, strict=True)]

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:  # noqa: ARG002 - no bar
        texts = [_ids(self.tok_encode(request.args[0])) for request in requests]
        return [float(one) for one in self._scorer.score([_ids([])] * len(texts), texts).logprob]

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:  # noqa: ARG002 - no bar
        texts = [""] * len(requests)
        asked = [normalize_gen_kwargs(dict(request.args[1]), self._max_tokens) for request in requests]
        groups: dict[str, list[int]] = {}
        for row, options in enumerate(asked):
            groups.setdefault(str(options), []).append(row)
        for rows in groups.values():
            options = asked[rows[0]]
            prompts = [requests[row].args[0] for row in rows]
            found = self._generator.generate(prompts, _strategy(options), seed=self._seed, row_ids=rows)
            for row, prompt, hypotheses in zip(rows, prompts, found, strict=True):
                text = self._generator.continuation(prompt, hypotheses[0].tokens)
                texts[row] = postprocess_generated_text(text, options["until"], None)
        return texts


def _strategy(options: Any) -> DecodingConfig:
    """Raises DataError at what a task asks for and no strategy has."""
    unknown = sorted(options.keys() - KNOWN)
    if unknown:
        raise DataError(f"generation_kwargs: {unknown[0]} is unknown; there are {', '.join(sorted(KNOWN))}")
    if not options["do_sample"]:
        return GreedyConfig(max_tokens=options["max_gen_toks"])
    return SamplingConfig(
        max_tokens=options["max_gen_toks"], **{name: options[name] for name in SAMPLING if name in options}
    )


def _ids(tokens: Sequence[int]) -> Ids:
    return np.array(tokens, dtype=np.int64)
