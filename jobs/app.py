"""The frame of every job: compose the configuration, validate it, run, and turn errors into exit codes.

Everything Hydra offers works (groups, multirun, --cfg job, --config-dir). What it reports piecemeal is reported at
once: overrides go in unchecked, and the strict conversion to dataclasses then names every problem with its path.
Nothing is written and Ray is not started before that is done.
"""

import gc
import logging
import os
import re
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Generic, TypeVar

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from jobs.discretion import keep_secrets
from jobs.help import show_help
from jobs.trial import Trial
from rnnlm.config import from_dict, to_dict
from rnnlm.errors import ConfigError, EnvironmentFailure, RnnlmError, TerminatedError

T = TypeVar("T")

EXIT_BUG = 1

# Hydra writes into the working directory by itself; a job writes to its output folder and nowhere else.
QUIET_HYDRA = [
    "hydra/job_logging=none",
    "hydra/hydra_logging=none",
    "hydra.output_subdir=null",
    "hydra.run.dir=.",
    "hydra.sweep.subdir=.",
]


@dataclass
class Job(Generic[T]):
    """A command `python -m jobs.<name>`, and the exit codes of its runs: one, or one a trial of a sweep."""

    name: str
    schema: type[T]
    function: Callable[[T], None]
    codes: list[int] = field(default_factory=list)
    _sweep: Any = None

    def run(self, composed: DictConfig) -> None:
        """What Hydra calls: the job with its configuration, or a trial of a sweep, in this process."""
        output = OmegaConf.select(composed, "output")
        if HydraConfig.get().mode == RunMode.MULTIRUN and isinstance(output, str):
            self._run_trial(composed, output)
        else:
            self.codes.append(guarded(lambda: self.function(_validated(self.schema, composed))))

    def trial(self, composed: DictConfig) -> Trial:
        """A trial of a sweep, checked but not run."""
        try:
            settings = to_dict(_validated(self.schema, composed))
        except ConfigError as error:
            return Trial(trial_name(), swept_values(), None, f"{type(error).__name__}: {error}")
        return Trial(trial_name(), swept_values(), settings)

    def _run_trial(self, composed: DictConfig, output: str) -> None:
        from jobs.sweep import SweepFolder, state_of  # noqa: PLC0415 - only a sweep draws plots

        self._sweep = self._sweep or SweepFolder(output, sweep_title(self.name))
        trial, began, errors = self.trial(composed), time.monotonic(), list[str]()
        self._sweep.begin(trial)
        code = guarded(lambda: self.function(_validated(self.schema, composed)), errors.append)
        self._sweep.end(trial.name, state_of(code), time.monotonic() - began, error="".join(errors))
        self._sweep.publish()
        self.codes.append(code)

    def close(self) -> None:
        """After the last run."""
        if self._sweep is not None:
            self._sweep.publish(last=True)


def sweep_title(name: str) -> str:
    """Heading of a leaderboard."""
    return f"Sweep of jobs.{name}"


def conf_dir() -> Path:
    """The configuration folder: beside `jobs` in a checkout, inside it in an installed wheel."""
    here = Path(__file__).resolve().parent
    inside = here / "conf"
    return inside if inside.is_dir() else here.parent / "conf"


def run_job(name: str, schema: type[T], function: Callable[[T], None]) -> None:
    """Run `function` with the validated config of job `name`; ends the process with the job's exit code."""
    gc.freeze()  # what is imported stays: the collector, held back until here, need not look at it, not even at the end
    gc.enable()
    keep_secrets()
    if {"--help", "-h"} & set(sys.argv[1:]):
        show_help(name, schema, conf_dir())
        sys.exit(0)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    signal.signal(signal.SIGTERM, on_sigterm)
    job = Job(name, schema, function)
    # Lets Hydra's errors through to us instead of printing them and leaving with 1.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    job.codes += [guarded(lambda: _hydra_main(name, job.run)), guarded(job.close)]
    sys.exit(max(job.codes, key=_severity))


def guarded(action: Callable[[], None], tell: Callable[[str], None] = lambda text: None) -> int:  # noqa: ARG005
    """Run something; on an error tell the user (and `tell`) what is needed and return the exit code."""

    def say(error: RnnlmError) -> None:
        tell(_say(error))

    try:
        action()
    except RnnlmError as error:
        say(error)
        return error.exit_code
    except (HydraException, OmegaConfBaseException) as error:
        say(ConfigError(_condensed(error)))
        return ConfigError.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except OSError as error:
        say(EnvironmentFailure(f"{type(error).__name__}: {error}"))
        if os.environ.get("RNNLM_TRACEBACK"):
            traceback.print_exc()
        return EnvironmentFailure.exit_code
    except Exception as error:  # noqa: BLE001 - a bug of ours: say everything and go on with the next trial of a sweep
        traceback.print_exc()
        tell(f"{type(error).__name__}: {error}")
        return EXIT_BUG
    return 0


def _hydra_main(name: str, one_run: Callable[[DictConfig], None]) -> None:
    arguments = sys.argv
    # A sweep's multirun.yaml, with credentials as they were given, goes where it is lost.
    with tempfile.TemporaryDirectory() as lost:
        quoted = lost.replace("'", r"\'")
        sys.argv = [arguments[0], *open_overrides(arguments[1:]), *QUIET_HYDRA, f"hydra.sweep.dir='{quoted}'"]
        try:
            hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=name)(one_run)()
        finally:
            sys.argv = arguments


def open_overrides(arguments: Sequence[str]) -> list[str]:
    """Let unknown fields through (`a.b=1` becomes `++a.b=1`), so that all are checked at the same place."""
    folders = [conf_dir()]
    for index, argument in enumerate(arguments):
        if argument in {"--config-dir", "-cd"} and index + 1 < len(arguments):
            folders.append(Path(arguments[index + 1]))
    opened = []
    for argument in arguments:
        key, sign, _ = argument.partition("=")
        plain = bool(sign) and not argument.startswith(("-", "+", "~", "hydra.", "hydra/"))
        group = any((folder / key.partition("@")[0]).is_dir() for folder in folders)
        opened.append(f"++{argument}" if plain and not group else argument)
    return opened


def compose_job(name: str, schema: type[T], overrides: Sequence[str]) -> T:
    """The validated config of job `name` with these overrides, away from the command line."""
    GlobalHydra.instance().clear()  # of a command that runs: it has composed its own
    with hydra.initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        composed = hydra.compose(name, overrides=open_overrides(overrides), return_hydra_config=True)
    choices = set(composed.hydra.runtime.choices)
    return from_dict(schema, _plain(schema, without_hydra(composed), choices))


def without_hydra(composed: DictConfig) -> DictConfig:
    """The job's own part of a configuration."""
    return OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"])


def _validated(schema: type[T], composed: DictConfig) -> T:
    choices = set(HydraConfig.get().runtime.choices)
    plain = _plain(schema, composed, choices)
    if HydraConfig.get().mode == RunMode.MULTIRUN and isinstance(plain.get("output"), str):
        plain["output"] = f"{plain['output'].rstrip('/')}/{trial_name()}"
    return from_dict(schema, plain, also_known=_referred(schema, choices))


def _plain(schema: type[Any], composed: DictConfig, choices: set[str]) -> dict[str, Any]:
    data = OmegaConf.to_container(composed, resolve=True, throw_on_missing=False)
    assert isinstance(data, dict)
    referred = _referred(schema, choices)
    return {str(key): value for key, value in data.items() if key not in referred}


def _referred(schema: type[Any], choices: set[str]) -> set[str]:
    """Groups that another group refers to (cell, softmax): they have done their part once references are resolved."""
    return choices - set(getattr(schema, "__pydantic_fields__", {}))


def trial_name() -> str:
    """Name of a trial of a sweep: the overrides that were swept, with their values."""
    chosen = [f"{key}={value}" for key, value in swept_values().items()]
    # The name is part of a path that is typed again as an override: none of Hydra's own signs may be in it.
    return "+".join(re.sub(r"[^\w.-]", "-", text) for text in chosen) or f"trial-{HydraConfig.get().job.num}"


def swept_values() -> dict[str, str]:
    """The swept overrides of a trial, with its values."""
    swept = _swept_keys(sys.argv[1:])
    split = [text.lstrip("+").partition("=") for text in HydraConfig.get().overrides.task]
    return {key: value for key, _, value in split if key in swept}


def _swept_keys(arguments: Sequence[str]) -> set[str]:
    overrides = [a for a in arguments if "=" in a and not a.startswith("-")]
    parsed = OverridesParser.create().parse_overrides(overrides)
    return {override.get_key_element().lstrip("+") for override in parsed if override.is_sweep_override()}


def _condensed(error: BaseException) -> str:
    """At most two lines of a message that may be a page."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip() and "HYDRA_FULL_ERROR" not in line]
    kept = [line for line in lines if not line.startswith(("full_key", "object_type", "Config search path"))]
    available = next((i for i, line in enumerate(kept) if line.startswith("Available options")), None)
    if available is not None:
        choices = ", ".join(line for line in kept[available + 1 :] if "/" not in line and ":" not in line)
        return f"{kept[0]}; {kept[available].rstrip(':')}: {choices}"
    if kept and "<EOF>" in kept[0]:
        return f"cannot read an override: {kept[0]}; quote a value that holds one of = , [ ] {{ }}, as in 'key=\"a=b\"'"
    return "; ".join(kept[:2])


def _say(error: RnnlmError) -> str:
    text = f"{type(error).__name__}: {error}"
    print(text, file=sys.stderr)
    return text


def _severity(code: int) -> int:
    """A bug outweighs a failure, a failure outweighs a refusal, anything outweighs success."""
    order = [0, 2, 3, 4, 5, 143, 130, EXIT_BUG]
    return order.index(code) if code in order else len(order)


def on_sigterm(signum: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the signature is the system's
    """Handler of SIGTERM: raises TerminatedError."""
    raise TerminatedError("terminated; what is finished is saved", todo="run the same command again to go on")
