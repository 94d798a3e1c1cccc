"""Weights & Biases: settings as config, rows as history, the best checkpoint's place in the summary.

Offline by default: files in <output>/wandb, and no connection. Nothing of the machine, of the source code or of the
environment is collected. A run that is killed and goes on is the same run: its id is kept in <output>/wandb.json. Each
part of it that was offline holds the run from its start, so `wandb sync` needs only the newest.
"""

import importlib.util
import uuid
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field

from rnnlm.config import config
from rnnlm.errors import ConfigError, EnvironmentFailure, without_secrets
from rnnlm.storage import Location
from rnnlm.training.metrics import Row, Tracker, TrackerConfig
from rnnlm.training.trackers.background import BackgroundTracker, Service
from rnnlm.training.trackers.run_folder import best_checkpoint, is_finished, keep_id, kept_id, name_of, settings_of

KINDS = ("train", "valid")


@config
class WandbConfig(TrackerConfig):
    """A run of a project at Weights & Biases. The key belongs into the environment variable WANDB_API_KEY."""

    mode: Literal["offline", "online"] = "offline"
    "offline writes files to be sent by `wandb sync`; online sends as it goes."
    project: str = "rnnlm"
    "Project that the run belongs to."
    entity: str | None = None
    "User or team that owns the project; null takes the user's own."
    group: str | None = None
    "Group of runs, such as the trials of a sweep."
    run_name: str | None = None
    "What people call the run; null takes the name of the output folder."
    tags: list[str] = Field(default_factory=list)
    "Tags of the run."

    def open(self, folder: Location) -> Tracker:
        if not folder.is_local:
            raise ConfigError("tracker: wandb needs a local output folder; set tracker=none")
        if importlib.util.find_spec("wandb") is None:
            raise EnvironmentFailure("tracker=wandb needs a package that is missing", todo="pip install wandb")
        return BackgroundTracker(_Wandb(self, folder), folder)


class _Wandb(Service):
    name = "wandb"

    def __init__(self, settings: WandbConfig, folder: Location) -> None:
        self._settings, self._folder = settings, folder
        self._run: Any = None

    def connect(self) -> dict[str, int]:
        import wandb  # noqa: PLC0415 - takes seconds; only when wanted

        run_id = kept_id(self._folder, self.name)
        if run_id is None:
            run_id = uuid.uuid4().hex[:8]
            keep_id(self._folder, self.name, run_id)
        told = {path: without_secrets(str(value)) for path, value in settings_of(self._folder).items()}
        wanted = self._settings
        online = wanted.mode == "online"
        self._run = wandb.init(
            id=run_id,
            resume="allow" if online else None,
            mode=wanted.mode,
            project=wanted.project,
            entity=wanted.entity,
            group=wanted.group,
            name=wanted.run_name or name_of(self._folder),
            tags=wanted.tags,
            dir=self._folder.path,
            config=told,
            settings=_close_mouthed(wandb),
        )
        for kind in KINDS:
            self._run.define_metric(f"{kind}/*", step_metric=f"{kind}/step")
        return {kind: int(self._run.summary.get(f"{kind}/step") or 0) for kind in KINDS} if online else {}

    def send(self, rows: Sequence[Row]) -> None:
        for row in rows:
            self._run.log({f"{row['kind']}/{name}": value for name, value in row.items() if name != "kind"})

    def finish(self) -> None:
        checkpoint = best_checkpoint(self._folder)
        if checkpoint is not None:
            self._run.summary["checkpoint"] = checkpoint
        self._run.finish(exit_code=0 if is_finished(self._folder) else 1)


def _close_mouthed(wandb: Any) -> Any:
    """Settings under which only what the tracker says is kept and sent."""
    return wandb.Settings(
        silent=True,
        console="off",
        host="",
        disable_code=True,
        disable_git=True,
        disable_job_creation=True,
        save_code=False,
        x_disable_meta=True,
        x_disable_machine_info=True,
        x_disable_stats=True,
    )
