"""Every YAML of conf/: it has the fields of its class, with the class's defaults, and every job composes and validates.

Which values may differ from the defaults? Files of a group with the same `_target_` are variants of one class (bpe and
unigram, auto and here). A field in which they differ from one another is what they are there for; one variant has all
the defaults, and all agree in every other field. A file that is alone has all the defaults. A field without a default
is `???`, to be given, or `${group}`, to be composed.
"""

import importlib
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

import jobs.schemas
from rnnlm.config import TARGET, field_docs, flatten, from_dict, to_dict
from rnnlm.errors import ConfigError

CONF = Path(__file__).resolve().parents[2] / "conf"
GROUP_FILES = sorted(p for p in CONF.glob("*/*.yaml") if p.parent.name != "experiment")
JOB_FILES = sorted(CONF.glob("*.yaml"))
RECIPES = sorted((CONF / "experiment").rglob("*.yaml"))
GROUPS = {path.parent.name for path in GROUP_FILES}


def read(path):
    return yaml.safe_load(path.read_text())


def read_choice(path):
    """A choice's own fields, without what it chooses of other groups."""
    return {name: value for name, value in read(path).items() if name != "defaults"}


def name_of(path):
    return str(path.relative_to(CONF).with_suffix(""))


def class_of(path):
    module, _, name = read(path)[TARGET].rpartition(".")
    return getattr(importlib.import_module(module), name)


def is_open(value):
    """A value that is to be given or composed."""
    return isinstance(value, str) and (value == "???" or value.startswith("${"))


def defaults_of(cls):
    """The defaults of a config class as plain data; a field without one is `???`."""
    required = [name for name, info in cls.__pydantic_fields__.items() if info.is_required()]
    return {
        **{
            name: to_plain(info.get_default(call_default_factory=True))
            for name, info in cls.__pydantic_fields__.items()
            if name not in required
        },
        **dict.fromkeys(required, "???"),
    }


def to_plain(value):
    return to_dict(value) if hasattr(value, "__pydantic_fields__") else value


def variants_of(path):
    return [other for other in path.parent.glob("*.yaml") if read(other)[TARGET] == read(path)[TARGET]]


@pytest.mark.parametrize("path", [*GROUP_FILES, *JOB_FILES, *RECIPES], ids=name_of)
def test_every_file_begins_by_saying_what_it_is_for(path):
    lines = path.read_text().splitlines()
    first = lines[1] if lines[0] == "# @package _global_" else lines[0]
    assert first.startswith("# ")
    assert len(first) > 15


@pytest.mark.parametrize("path", GROUP_FILES, ids=name_of)
def test_a_choice_has_exactly_the_fields_of_its_class_in_their_order(path):
    fields = list(class_of(path).__pydantic_fields__)
    assert list(read_choice(path)) == [TARGET, *fields]
    assert all(field_docs(class_of(path))[name] for name in fields)


@pytest.mark.parametrize("path", GROUP_FILES, ids=name_of)
def test_a_choice_has_the_defaults_of_its_class(path):
    defaults = defaults_of(class_of(path))
    variants = [read(other) for other in variants_of(path)]
    selecting = {name for name in defaults if any(v[name] != variants[0][name] for v in variants)}
    for name, default in defaults.items():
        value = read(path)[name]
        if name not in selecting and not is_open(value):
            assert value == default, name
        assert default == "???" or not is_open(value) or value == f"${{{name}}}", name
    closed = [name for name in defaults if not is_open(read(path)[name])]
    assert any(all(variant[name] == defaults[name] for name in closed) for variant in variants)


# ----- jobs


def schema_of(name):
    return getattr(jobs.schemas, "".join(part.capitalize() for part in name.split("_")) + "Job")


def composed(job, *overrides):
    """The plain data a job would be given, by the rules of jobs/app.py: groups that others refer to are dropped."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        data = OmegaConf.to_container(compose(job, overrides=list(overrides)), resolve=True)
    fields = schema_of(job).__pydantic_fields__
    return {name: value for name, value in data.items() if name in fields or name not in GROUPS}


def filled(data, schema):
    """The same with a path for each value that the user has to give."""
    for dotted, value in flatten(data).items():
        if value == "???":
            *above, last = dotted.split(".")
            inner = data
            for part in above:
                inner = inner[part]
            inner[last] = {"de": "a/path", "en": "another"} if dotted == "corpus.files" else "a/path"
    if schema is jobs.schemas.EvaluateJob:  # needs one of three
        if data["intent_column"] or data["labels_of"] != "auto":
            data["predictions"] = "a/path"
        else:
            data["scored"] = data["scored"] or "a/path"
            data["hypotheses"] = data["reference_column"] and "a/path"  # they belong together
    if schema is jobs.schemas.NeighboursJob:  # needs one of two
        data.update(vectors="a/path", output="a/path")
    if schema is jobs.schemas.DiagnoseJob:  # the same
        data["checkpoint"] = "a/path"
    if schema is jobs.schemas.CompareJob:  # a list
        data["runs"] = ["a/path", "another"]
    return data


def test_every_job_has_a_schema():
    assert [name for name in map(name_of, JOB_FILES) if not hasattr(schema_of(name), "__pydantic_fields__")] == []


@pytest.mark.parametrize("job", [name_of(path) for path in JOB_FILES])
def test_a_job_composes_and_validates_and_asks_for_what_it_needs(job):
    schema = schema_of(job)
    data = composed(job)
    missing = sorted(path for path, value in flatten(data).items() if value == "???")
    if missing:
        with pytest.raises(ConfigError) as caught:
            from_dict(schema, data)
        assert sorted(p.split(":")[0] for p in caught.value.problems) == missing
    assert from_dict(schema, filled(data, schema))


@pytest.mark.parametrize("job", [name_of(path) for path in JOB_FILES])
def test_a_job_has_the_fields_of_its_class_with_its_defaults(job):
    schema = schema_of(job)
    data, defaults = composed(job), defaults_of(schema)
    assert set(data) == set(defaults)
    own = {name: value for name, value in read(CONF / f"{job}.yaml").items() if name != "defaults"}
    for name, value in own.items():
        if isinstance(value, dict):
            value = {TARGET: defaults[name][TARGET], **value}
        assert value == defaults[name], name


def job_and_choices():
    """(job, group=choice) for each group a job lets one choose from."""
    for path in JOB_FILES:
        defaults = [entry for entry in read(path)["defaults"] if isinstance(entry, dict)]
        for group in [name for entry in defaults for name in entry if name != "experiment"]:
            for choice in sorted((CONF / group).glob("*.yaml")):
                yield name_of(path), f"{group}={choice.stem}"


@pytest.mark.parametrize(("job", "override"), list(job_and_choices()))
def test_every_choice_of_every_group_fits_its_job(job, override):
    schema = schema_of(job)
    stream = ["tokens=here", "checkpoint=there"] if job == "evaluate" else []  # what its groups are about
    own = {"batching=pairs": "translation", "batching=sentences": "tagging"}  # batches that one task alone learns from
    task = [f"task={own[override]}"] if override in own else []
    assert from_dict(schema, filled(composed(job, override, *stream, *task), schema))


@pytest.mark.parametrize("path", RECIPES, ids=name_of)
def test_a_recipe_runs_with_its_job(path):
    schema = schema_of(path.stem)
    recipe = str(path.relative_to(CONF / "experiment").with_suffix(""))
    assert from_dict(schema, filled(composed(path.stem, f"experiment={recipe}"), schema))


@pytest.mark.parametrize("path", RECIPES, ids=name_of)
def test_a_recipe_holds_differences_only(path):
    overrides = [entry for entry in read(path).get("defaults", []) if isinstance(entry, dict)]
    choices = [f"{key.removeprefix('override /')}={value}" for entry in overrides for key, value in entry.items()]
    without = flatten(composed(path.stem, *choices))
    own = flatten({key: value for key, value in read(path).items() if key != "defaults"})
    assert [key for key, value in own.items() if without.get(key) == value] == []


def test_every_group_is_offered_by_a_job():
    offered = {override.split("=")[0] for _, override in job_and_choices()}
    assert offered == GROUPS


def test_the_launcher_has_the_fields_and_defaults_of_its_class():
    data = read(CONF / "hydra" / "launcher" / "ray.yaml")
    assert data.pop(TARGET) == "hydra_plugins.rnnlm_ray.RayLauncher"
    schema = importlib.import_module("jobs.distributed.sweep").RayLauncherConfig
    assert data == {name: value for name, value in to_dict(schema()).items() if name != TARGET}
