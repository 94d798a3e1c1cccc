"""A checkpoint from a stranger: it runs no code, leads to no file outside of itself, and takes no memory it has not."""

import ast
import hashlib
import json
import struct
from pathlib import Path

import pytest

from rnnlm.checkpoint import load_checkpoint, load_training_state, resolve_checkpoint
from rnnlm.config import TARGET, from_dict
from rnnlm.errors import CheckpointError, ConfigError, RnnlmError
from rnnlm.nn.cells.base import CellConfig
from rnnlm.storage import open_location
from rnnlm.tasks.base import TaskConfig
from tests.corpora import save_tiny, tiny_task

DEEP = 100_000
ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path):
    save_tiny(tmp_path / "checkpoint")
    return tmp_path / "checkpoint"


def edit_task(folder, **changed):
    card = json.loads((folder / "config.json").read_text())
    card["task"] |= changed
    (folder / "config.json").write_text(json.dumps(card))


def replace_weights(folder, content):
    """Other weights that are vouched for."""
    (folder / "weights.safetensors").write_bytes(content)
    card = json.loads((folder / "config.json").read_text())
    card["weights_sha256"] = hashlib.sha256(content).hexdigest()
    (folder / "config.json").write_text(json.dumps(card))


def refused(folder, said):
    with pytest.raises(CheckpointError, match=said):
        load_checkpoint(str(folder))


# ----- code

FOREIGN = [
    "os.system",
    "subprocess.Popen",
    "builtins.eval",
    "rnnlm.storage.os.system",
    "rnnlm.storage.importlib.import_module",
    "rnnlm.config.pydantic_dataclass",
    "rnnlm.config.importlib",
    "rnnlm.tasks.base.CheckpointError",
    "rnnlm.\0.System",
    "rnnlm.\ud800.System",
    "rnnlm..os.system",
    "rnnlm/../os.system",
    "jobs.app.guarded",
    "jobs.app.run_job",
]


@pytest.mark.parametrize("target", FOREIGN)
@pytest.mark.parametrize("slot", [TaskConfig, CellConfig, object])
def test_no_name_of_code_is_a_config(target, slot):
    with pytest.raises(ConfigError, match=r"^_target_: ") as caught:
        from_dict(slot, {TARGET: target, "command": "touch pwned"})
    assert len(caught.value.problems) == 1


@pytest.mark.parametrize("target", FOREIGN)
def test_a_checkpoint_that_names_code_is_refused_wherever_it_does(folder, target):
    for changed in ({TARGET: target}, {"cell": {TARGET: target}}, {"dropout": {TARGET: target, "x": 1}}):
        save_tiny(folder)
        edit_task(folder, **changed)
        with pytest.raises(ConfigError, match="_target_"):
            load_checkpoint(str(folder))


def test_a_config_class_that_a_trusted_module_took_from_elsewhere_is_not_trusted(monkeypatch):
    from rnnlm.tasks import base
    from tests.toy_cell import RunningMeanConfig

    monkeypatch.setattr(base, "RunningMeanConfig", RunningMeanConfig, raising=False)
    with pytest.raises(ConfigError, match="is not a config class"):
        from_dict(CellConfig, {TARGET: "rnnlm.tasks.base.RunningMeanConfig", "hidden_size": 4})


UNPICKLING = {"pickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
LOADING = {"load", "unsafe_load", "full_load"}  # of torch, numpy and yaml


@pytest.mark.parametrize("file", [*ROOT.glob("rnnlm/**/*.py"), *ROOT.glob("jobs/**/*.py")], ids=lambda f: f.stem)
def test_no_module_unpickles_or_runs_what_it_reads(file):
    for node in ast.walk(ast.parse(file.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        assert not {name.partition(".")[0] for name in names} & UNPICKLING
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in {"eval", "exec"}
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in LOADING:
            if "weights_only=True" in map(ast.unparse, node.keywords):
                continue  # torch's own reader of tensors alone
            assert ast.unparse(node.func.value) not in {"torch", "np", "numpy", "yaml"}


# ----- paths


@pytest.mark.parametrize("name", ["../../elsewhere", "/etc", "..", ".", "", "a/b", "a\\b", "a\0b", 3, None, ["x"]])
@pytest.mark.parametrize("which", ["best", "last"])
def test_a_run_folder_points_only_to_what_lies_in_it(tmp_path, name, which):
    save_tiny(tmp_path / "elsewhere")
    (tmp_path / "run/checkpoints").mkdir(parents=True)
    (tmp_path / "run/checkpoints/index.json").write_text(json.dumps({"best": "x", "last": "x", which: name}))
    with pytest.raises(CheckpointError, match=rf"index.json: {which} is .*, not the name of a folder beside it"):
        resolve_checkpoint(str(tmp_path / "run"), which)


# ----- sizes


HUGE = {TARGET: "rnnlm.nn.cells.lstm.LSTMConfig", "hidden_size": 10**8}


@pytest.mark.parametrize("changed", [{"cell": HUGE}, {"embedding_size": 10**9}, {"num_layers": 1000}])
def test_a_network_that_has_nothing_to_do_with_its_weights_is_refused_before_it_is_built(folder, changed):
    save_tiny(folder, tiny_task(tied=False))
    edit_task(folder, **changed)
    refused(folder, r"describes a network of more than [\d,]+ bytes, its weights are [\d,]+")


@pytest.mark.parametrize(
    "header",
    [
        {"x": {"dtype": "F32", "shape": [1 << 40, 1 << 20], "data_offsets": [0, 4]}},
        {"x": {"dtype": "F32", "shape": [1 << 63], "data_offsets": [0, 1 << 65]}},
        {"x": {"dtype": "F32", "shape": [2], "data_offsets": [-8, 0]}},
        {"x": {"dtype": "F32", "shape": [1], "data_offsets": [4096, 4100]}},
        {"../../x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}},
    ],
)
def test_weights_whose_header_lies_are_refused(folder, header):
    plain = json.dumps(header).encode()
    replace_weights(folder, struct.pack("<Q", len(plain)) + plain + b"\0" * 4)
    refused(folder, "do not fit")


@pytest.mark.parametrize("length", [1 << 62, (1 << 64) - 1, 200 << 20])
def test_weights_that_announce_an_absurd_header_are_refused(folder, length):
    replace_weights(folder, struct.pack("<Q", length) + b"{}")
    refused(folder, "do not fit")


@pytest.mark.parametrize("content", ["[" * DEEP, '{"task":' * DEEP, '{"a":' * DEEP + "1" + "}" * DEEP])
@pytest.mark.parametrize("name", ["config.json", "training.json"])
def test_json_nested_without_end_is_refused(folder, name, content):
    (folder / name).write_text(content)
    with pytest.raises(RnnlmError, match=rf"{name} is (nested too deeply|not valid JSON)"):
        load_checkpoint(str(folder)) if name == "config.json" else load_training_state(open_location(str(folder)))


def test_a_task_nested_deeply_is_refused(folder):
    nested = {}
    for _ in range(400):
        nested = {"cell": nested, TARGET: "rnnlm.tasks.language_model.LanguageModelConfig"}
    edit_task(folder, cell=nested)
    with pytest.raises(RnnlmError, match=r"nested too deeply|does not fit here|choose one kind"):
        load_checkpoint(str(folder))


def test_a_card_that_is_a_sparse_giant_is_not_read(folder):
    with (folder / "config.json").open("ab") as stream:
        stream.truncate(1 << 40)
    refused(folder, r"config.json has 1,099,511,627,776 bytes: it is not that of a checkpoint")
