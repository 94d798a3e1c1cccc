"""Every layer that the contract tests run: each YAML of conf/layer and conf/cell, small, and choices inside them."""

from pathlib import Path

import yaml

from rnnlm.config import TARGET, from_dict
from rnnlm.nn.layer import LayerConfig

CONF = Path(__file__).resolve().parents[1] / "conf"
SIZE = 4  # of inputs, and of the cells inside layers: a residual needs both equal

SMALL = {"hidden_size": SIZE, "inner_size": 6, "num_heads": 2}
CELLS = {path.stem: {**yaml.safe_load(path.read_text())} for path in sorted((CONF / "cell").glob("*.yaml"))}
for _cell in CELLS.values():
    _cell["hidden_size"] = SIZE


def _small(value, cell):
    """The plain data of a YAML with `cell` for `${cell}`, and small sizes."""
    if value == "${cell}":
        return cell
    if isinstance(value, dict):
        return {name: SMALL.get(name, _small(item, cell)) for name, item in value.items()}
    return [CELLS["gru"], CELLS["elman"]] if value == "???" else value


def _read(path, cell="lstm"):
    return _small(yaml.safe_load(path.read_text()), CELLS[cell])


FILES = sorted((CONF / "layer").glob("*.yaml"))
LAYERS = {path.stem: _read(path) for path in FILES}
_SEQUENCE = {**LAYERS["sequence"], "layers": [CELLS["gru"], LAYERS["layer_norm"], CELLS["elman"]]}

CHOICES = {
    "attention-short": {**LAYERS["attention"], "window": 3, "size": 6},
    "attention-least": {**LAYERS["attention"], "window": 2, "num_heads": 1},
    "attention_both_ways-short": {**LAYERS["attention_both_ways"], "window": 2},
    "convolution-full": {**LAYERS["convolution"], "depthwise": False, "size": 5, "activation": "silu", "width": 3},
    "convolution-pair": {**LAYERS["convolution"], "width": 2, "activation": "tanh"},
    "convolution_both_ways-even": {**LAYERS["convolution_both_ways"], "width": 2},
    "feed_forward-narrow": {**LAYERS["feed_forward"], "size": 3, "activation": "tanh"},
    "residual-plain": {**LAYERS["residual"], "pre_norm": False},
    "residual-of-attention": {**LAYERS["residual"], "inner": {**LAYERS["attention"], "window": 3}},
    "residual-of-layers": {**LAYERS["residual"], "inner": _SEQUENCE},
    "highway-of-feed_forward": {**LAYERS["highway"], "inner": LAYERS["feed_forward"]},
    "highway-of-residual": {**LAYERS["highway"], "inner": LAYERS["residual"]},
    "sequence-of-one": {**LAYERS["sequence"], "layers": [LAYERS["convolution"]]},
    "residual-of-backward": {**LAYERS["residual"], "inner": LAYERS["backward"]},
    "sequence-with-both": {**LAYERS["sequence"], "layers": [CELLS["lstm"], LAYERS["bidirectional"], CELLS["gru"]]},
    "bidirectional-sum": {**LAYERS["bidirectional"], "combine": "sum"},
    "bidirectional-product": {**LAYERS["bidirectional"], "combine": "product"},
    "bidirectional-gate": {**LAYERS["bidirectional"], "combine": "gate"},
    "bidirectional-unlike": {**LAYERS["bidirectional"], "backward": {**CELLS["elman"], "hidden_size": 3}},
    "bidirectional-of-middle_out": {**LAYERS["bidirectional"], "forward": LAYERS["middle_out"]},
}
ALL = {**LAYERS, **CHOICES}
CONFIGS = {name: from_dict(LayerConfig, data) for name, data in ALL.items()}
CELL_CONFIGS = {name: from_dict(LayerConfig, data) for name, data in CELLS.items()}
CAUSAL = [name for name, found in CONFIGS.items() if found.sees_future() is None]
AHEAD = [name for name in CONFIGS if name not in CAUSAL]


def target(name):
    """The name of the class that a YAML stands for."""
    return ALL[name][TARGET].rpartition(".")[2]
