"""A checkpoint as a folder for the Hugging Face hub, which is a checkpoint in turn: every job and `rnnlm.load` read it.

config.json          that of the checkpoint, `model_type` and the identity of the export beside
model.safetensors    the weights, byte for byte those of the checkpoint
tokenizer.model/.json
README.md            the model card: what it is, validation, parameters, data, how to load it
"""

import math
from typing import Any

import yaml
from torch import nn

from rnnlm.checkpoint import CONFIG, HUB_WEIGHTS, Checkpoint, read_weights
from rnnlm.config import to_dict
from rnnlm.hub import HUB_FILES
from rnnlm.nn.language_model import LanguageModel
from rnnlm.nn.translation_model import TranslationModel
from rnnlm.storage import Location

README, RUN = "README.md", "run.json"
PIPELINES: dict[type[nn.Module], str] = {LanguageModel: "text-generation", TranslationModel: "translation"}
FILES = (*HUB_FILES, README)


def export_huggingface(checkpoint: Checkpoint, folder: Location, identity: dict[str, Any]) -> None:
    """Write the folder, `config.json` last."""
    folder.join(HUB_WEIGHTS).write_bytes(read_weights(checkpoint.location))
    checkpoint.tokenizer.save(folder)
    folder.join(README).write_text(model_card(checkpoint))
    card = checkpoint.location.join(CONFIG).read_json()
    card["trained"] = {**card.get("trained", {}), "identity": identity}
    folder.join(CONFIG).write_json({**card, "model_type": "rnnlm", "library_name": "rnnlm"})


def model_card(checkpoint: Checkpoint) -> str:
    """README.md."""
    model, facts = checkpoint.model, figures(checkpoint)
    head = {"library_name": "rnnlm", "tags": ["rnn", "recurrent", checkpoint.task.__class__.__name__]}
    head |= {"pipeline_tag": PIPELINES[type(model)]} if type(model) in PIPELINES else {}
    rows = "\n".join(f"| {name} | {value} |" for name, value in facts.items())
    method = "score" if type(model) in PIPELINES else "predict"
    return f"""---
{yaml.safe_dump(head, sort_keys=False).strip()}
---

# {type(model).__name__} trained with rnnlm

| | |
|---|---|
{rows}

## How to load it

```python
import rnnlm

model = rnnlm.load("path/of/this/folder")  # or hf://owner/name, with pip install 'rnnlm[hub]'
model.{method}(["A text."])
```

## Configuration

```yaml
{yaml.safe_dump(to_dict(checkpoint.task), sort_keys=False).strip()}
```
"""


def figures(checkpoint: Checkpoint) -> dict[str, str]:
    """Names and values of the card's table; what a checkpoint does not tell is left out."""
    trained, run = checkpoint.trained, _run_card(checkpoint.location)
    nll = trained.get("best_valid_nll")
    found = {
        "parameters": f"{sum(parameter.numel() for parameter in checkpoint.model.parameters()):,}",
        "tokenizer": f"{checkpoint.tokenizer.kind}, {checkpoint.tokenizer.vocab_size:,} tokens",
    }
    if nll is not None:
        found["validation nll (nats a target)"] = f"{nll:.4f}"
        if type(checkpoint.model) in PIPELINES:
            found["validation perplexity"] = f"{math.exp(nll):.2f}"
    names = {"step": "training steps", "tokens": "training targets"}
    found |= {shown: f"{trained[name]:,}" for name, shown in names.items() if trained.get(name)}
    prints = {"train_tokens": "training data (SHA-256)", "valid_tokens": "validation data (SHA-256)"}
    found |= {shown: f"`{run[name]}`" for name, shown in prints.items() if run.get(name)}
    return found | {"fingerprint": f"`{checkpoint.fingerprint}`"}


def _run_card(folder: Location) -> dict[str, Any]:
    """What the run says of itself in whose `checkpoints/` the checkpoint is; nothing if it is in none."""
    card = folder.ancestor(2).join(RUN)
    found: dict[str, Any] = card.read_json() if card.exists() else {}
    return found
