"""Configuration: there and back for every config class, and every problem of a bad one in one error."""

import dataclasses
import importlib
import json
import pkgutil
import random
import time
import types
import typing
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import jobs.schemas
import rnnlm
from jobs.schemas import DiagnoseJob, EvaluateJob, NeighboursJob, TrainTokenizerJob, TuneJob
from rnnlm.config import TARGET, config, differences, field_docs, flatten, from_dict, to_dict
from rnnlm.errors import ConfigError
from rnnlm.evaluation.metric_names import METRICS
from rnnlm.nn.cells.base import CellConfig
from rnnlm.nn.layer import LayerConfig
from rnnlm.nn.softmax.adaptive import AdaptiveSoftmaxConfig
from rnnlm.nn.softmax.mixture import MixtureSoftmaxConfig
from rnnlm.tasks.base import TaskConfig
from rnnlm.tasks.language_model import LanguageModelConfig
from rnnlm.tasks.translation import TranslationConfig
from rnnlm.training.settings import LoopConfig, TrainingConfig

LSTM = {TARGET: "rnnlm.nn.cells.lstm.LSTMConfig", "hidden_size": 4}
SOFTMAX = {TARGET: "rnnlm.nn.softmax.full.FullSoftmaxConfig", "tied": False}
TASK = {TARGET: "rnnlm.tasks.language_model.LanguageModelConfig", "cell": LSTM, "softmax": SOFTMAX}
TEXTS = st.text(max_size=5).filter(lambda text: text != "???")  # stands for a value that nobody gave


@config
class Listed:
    """Configs in a list."""

    cells: list[CellConfig]
    "Some cells."
    names: tuple[str, ...] = ("a",)
    "Some names."
    maybe: CellConfig | None = None
    "A cell or none."
    some: list[CellConfig] | None = None
    "A list of cells or none."


def _config_classes():
    modules = [jobs.schemas]
    names = [module.name for module in pkgutil.walk_packages(rnnlm.__path__, "rnnlm.")]
    modules += [importlib.import_module(name) for name in names if not name.endswith("_triton")]  # an extra, no configs
    found = {
        item
        for module in modules
        for item in vars(module).values()
        if isinstance(item, type) and "__pydantic_fields__" in vars(item)
    }
    # The base of a group says so in its docstring and holds nothing to run.
    return sorted((c for c in found if not c.__doc__.startswith("Base of")), key=lambda c: c.__qualname__)


CLASSES = _config_classes()


def _values(hint, info):
    """Values a field may have, from its type hint and bounds."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return st.sampled_from(arguments)
    if origin in {typing.Union, types.UnionType}:
        return st.one_of([_values(one, info) for one in arguments])
    if origin is list:
        return st.lists(_values(arguments[0], info), max_size=3)
    if typing.get_origin(hint) is dict:
        anything = st.one_of(st.none(), st.booleans(), TEXTS, st.lists(TEXTS))
        item = anything if arguments[1] is typing.Any else _values(arguments[1], info)
        least = max((getattr(one, "min_length", 0) for one in info.metadata), default=0)
        return st.dictionaries(TEXTS, item, min_size=least, max_size=3)
    if dataclasses.is_dataclass(hint):
        fitting = [c for c in CLASSES if issubclass(c, hint)]
        if hint is LayerConfig:  # layers can hold layers: one level of them is enough
            fitting = [
                c for c in fitting if not any("LayerConfig" in str(t) for t in typing.get_type_hints(c).values())
            ]
        return st.one_of([_instances(c) for c in fitting])
    bounds = {name: getattr(m, name) for m in info.metadata for name in ("ge", "gt", "le", "lt") if hasattr(m, name)}
    if hint is int:
        return st.integers(bounds.get("ge", -5), bounds.get("ge", -5) + 9)
    if hint is float:
        low, high = bounds.get("ge", bounds.get("gt", -9.0)), bounds.get("le", bounds.get("lt", 9.0))
        return st.floats(low, high, exclude_min="gt" in bounds, exclude_max="lt" in bounds)
    return {bool: st.booleans(), str: TEXTS, types.NoneType: st.none()}[hint]


def _make_fit(cls, fields):
    """Change fields of a task, few of which go together by chance."""
    if issubclass(cls, LanguageModelConfig):
        if fields["layers"] is not None:
            fields["num_layers"] = 1
        if fields["one_hot_input"] or fields["layers"] is not None:
            fields["softmax"] = dataclasses.replace(fields["softmax"], tied=False)
        if fields["one_hot_input"]:
            fields["pretrained_vectors"] = fields["cooccurrence_window"] = None
    if cls is TranslationConfig:
        half = fields["cell"].hidden_size
        fields["cell"] = dataclasses.replace(fields["cell"], hidden_size=2 * half)
        fields["softmax"] = dataclasses.replace(fields["softmax"], tied=False)
        fields["copies"] = False
        if fields["shared_embedding"]:
            fields["source_embedding_size"] = None


def _make_job_fit(draw, cls, fields):
    """The same of jobs."""
    if cls is NeighboursJob:
        fields |= {"output": draw(TEXTS), "analogies": None}
        if fields["checkpoint"] is None:
            fields |= {"vectors": draw(TEXTS), "words": None}
            fields["include_self"] = fields["include_self"] and fields["queries"] is None
        else:
            fields |= {"vectors": None, "queries": None, "id_column": None, "dry_run": False, "include_self": False}
            fields["words"] = draw(st.lists(TEXTS, min_size=1))
    if fields.get("intents_column") is not None:
        fields["labels_column"] = draw(TEXTS)
        if "target_column" in fields:
            fields["target_column"] = None
    if cls is TrainTokenizerJob:
        fields["joint"] = fields["joint"] and fields["target_column"] is not None
        if fields["target_column"] is None or fields["joint"]:
            fields["target_tokenizer"] = None
    if cls is TuneJob:
        fields["workers"] = 1
    if cls is DiagnoseJob:
        fields |= {"tokenizer_path": draw(TEXTS), "cells": None}


@st.composite
def _instances(draw, cls):
    hints = typing.get_type_hints(cls)
    fields = {name: draw(_values(hints[name], info)) for name, info in cls.__pydantic_fields__.items()}
    _make_fit(cls, fields)
    if issubclass(cls, TrainingConfig):
        fitting = [one for one in CLASSES if issubclass(one, fields["task"].batching_type)]
        fields["batching"] = draw(st.one_of([_instances(one) for one in fitting]))
    if cls in {AdaptiveSoftmaxConfig, MixtureSoftmaxConfig}:
        fields["label_smoothing"] = 0.0
    if cls is AdaptiveSoftmaxConfig and fields["cutoffs"]:
        fields["cutoffs"] = sorted({max(1, cutoff) for cutoff in fields["cutoffs"]})
    if cls is EvaluateJob:
        fields |= {"tokens": draw(TEXTS), "checkpoint": draw(TEXTS), "lanes": 1}
        fields |= {"hypotheses": draw(TEXTS), "reference_column": draw(TEXTS)}
        fields |= {"predictions": None, "prefix": None, "scheme": None, "against": draw(st.none() | TEXTS)}
        fields |= {"labels_of": "auto", "intent_column": None, "train_tokens": None}
        fields["metrics"] = fields["metrics"] and draw(st.lists(st.sampled_from(METRICS), min_size=1, unique=True))
    _make_job_fit(draw, cls, fields)
    if "fallback_discounts" in fields:
        fields["fallback_discounts"] = [draw(st.floats(0.0, count)) for count in (1.0, 2.0, 3.0)]
    state = random.getstate()  # the run-time check of annotations looks at random items of lists
    try:
        return cls(**fields)
    except ValueError:  # fields that do not go together
        assume(False)
    finally:
        random.setstate(state)


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
@given(data=st.data())
def test_a_config_comes_back_from_its_json(cls, data):
    instance = data.draw(_instances(cls))
    plain = json.loads(json.dumps(to_dict(instance)))
    again = from_dict(cls, plain)
    assert again == instance
    assert type(again) is cls
    assert to_dict(again) == plain
    assert differences(plain, to_dict(again)) == []


def test_threads_that_use_a_class_for_the_first_time_together_wait_for_one_another():
    built = []

    class Slow(int):
        @classmethod
        def __get_pydantic_core_schema__(cls, source, handler):
            built.append(source)
            time.sleep(0.05)  # the other threads are here by then
            return handler(int)

    @config
    class New:
        size: Slow

    together = Barrier(4)

    def first_use(size):
        together.wait()
        return New(size=size).size

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(first_use, range(4))) == [0, 1, 2, 3]
    assert len(built) == 1


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_field_says_what_it_is_for(cls):
    assert [name for name, text in field_docs(cls).items() if not text] == []


def problems(cls, data, **options):
    with pytest.raises(ConfigError) as caught:
        from_dict(cls, data, **options)
    assert str(caught.value).splitlines() == caught.value.problems
    return caught.value.problems


def test_all_problems_are_said_at_once_each_with_its_path():
    data = {
        TARGET: TASK[TARGET],
        "cell": {TARGET: "rnnlm.nn.cells.lstm.LSTMConfig", "hiden_size": 4, "forget_bias": "x"},
        "softmax": {TARGET: "os.system"},
        "num_layers": 0,
        "dropout": 1.0,
    }
    found = problems(TaskConfig, data)
    assert sorted(problem.split(":")[0] for problem in found) == [
        "cell.forget_bias",
        "cell.hiden_size",
        "dropout",
        "num_layers",
        "softmax._target_",
    ]
    assert any("did you mean 'hidden_size'?" in problem for problem in found)
    assert any("got 'x'" in problem for problem in found)


def test_an_unknown_field_without_a_close_name_lists_what_there_is():
    assert problems(LoopConfig, {"zzz": 1})[0].startswith("zzz: unknown field of LoopConfig; it has max_epochs, ")


def test_names_that_are_known_elsewhere_are_suggested_too():
    assert "did you mean 'cell'?" in problems(LoopConfig, {"cel": 1}, also_known={"cell"})[0]


@pytest.mark.parametrize("target", ["os.system", "rnnlmx.nn.Cell", "", 3, None, ["rnnlm.nn.cells.lstm.LSTMConfig"]])
def test_a_target_outside_the_trusted_modules_is_not_even_imported(target):
    assert "is not below a trusted prefix (rnnlm., jobs.)" in problems(CellConfig, {TARGET: target})[0]


def test_a_trusted_prefix_can_be_added():
    assert "trusted" in problems(CellConfig, LSTM, trusted=("mine.",))[0]
    assert from_dict(CellConfig, LSTM, trusted=("mine.", "rnnlm.")).hidden_size == 4


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("rnnlm.nn.cells.nowhere.LSTMConfig", "cannot import"),
        ("rnnlm.nn.cells.lstm.Nothing", "is not a config class"),
        ("rnnlm.nn.cells.lstm.LSTM", "is not a config class"),
        ("rnnlm.nn.cells.lstm", "is not a config class"),
        ("rnnlm.nn.softmax.full.FullSoftmaxConfig", "FullSoftmaxConfig does not fit here, a CellConfig is needed"),
    ],
)
def test_a_target_that_does_not_fit_says_why(target, said):
    found = problems(TaskConfig, {**TASK, "cell": {TARGET: target}})
    assert len(found) == 1
    assert found[0].startswith("cell._target_: ")
    assert said in found[0]


@pytest.mark.parametrize("value", [None, 3, "lstm", [LSTM]])
def test_something_that_is_no_config_is_refused_in_a_config_slot(value):
    assert [p.split(":")[0] for p in problems(TaskConfig, {**TASK, "cell": value})] == ["cell"]


@pytest.mark.parametrize("cell", [{"hidden_size": 4}, {TARGET: "rnnlm.nn.cells.base.CellConfig"}])
def test_a_group_needs_a_choice(cell):
    assert problems(TaskConfig, {**TASK, "cell": cell})[0].startswith("cell")


@pytest.mark.parametrize("given", [{}, {"task": "???"}])
def test_a_missing_value_names_the_way_to_give_it(given):
    found = problems(TrainingConfig, {**given, "loop": {"max_steps": "x"}})
    assert "task: required, but missing; set task=..." in found
    assert any(problem.startswith("loop.max_steps: ") for problem in found)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("log_every_steps", True),
        ("log_every_steps", "3"),
        ("log_every_steps", 3.0),
        ("log_every_steps", None),
        ("clip_norm", "1"),
        ("clip_norm", True),
        ("max_epochs", 0),
        ("max_epochs", float("nan")),
    ],
)
def test_types_are_strict_and_bounds_are_kept(field, value):
    found = problems(LoopConfig, {field: value})
    assert len(found) == 1
    assert found[0].startswith(f"{field}: ")
    assert found[0].endswith(f"got {value!r}")


def test_a_whole_number_serves_as_a_float():
    assert from_dict(LoopConfig, {"max_epochs": 2}).max_epochs == 2.0


def test_a_key_that_is_no_string_is_a_problem_like_others():
    assert problems(LoopConfig, {1: 2})[0].startswith("1: unknown field")


def test_lists_of_configs_are_built_and_their_problems_have_an_index():
    listed = from_dict(Listed, {"cells": [LSTM, {**LSTM, "hidden_size": 5}], "names": ["x"], "maybe": LSTM})
    assert [cell.hidden_size for cell in listed.cells] == [4, 5]
    assert listed.names == ("x",)
    assert listed.maybe.hidden_size == 4
    assert listed.some is None
    assert from_dict(Listed, {"cells": [], "some": [LSTM]}).some == [listed.maybe]
    found = problems(Listed, {"cells": [LSTM, {TARGET: "os.system"}, {**LSTM, "hidden_size": 0}]})
    assert [problem.split(":")[0] for problem in found] == ["cells[1]._target_", "cells[2].hidden_size"]


def test_a_config_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        from_dict(LoopConfig, {}).max_steps = 3


def test_differences_are_dotted_sorted_and_show_both_sides():
    old = {"b": {"x": 1, "y": [1]}, "a": None, "gone": {}}
    new = {"b": {"x": 2, "y": [1]}, "a": None, "new": "v"}
    assert differences(old, new) == ["b.x: 1 -> 2", "gone: {} -> 'absent'", "new: 'absent' -> 'v'"]
    assert differences(old, old) == []


def test_flatten_keeps_empty_dicts_as_values():
    assert flatten({"a": {"b": {"c": 1}, "d": {}}}) == {"a.b.c": 1, "a.d": {}}
