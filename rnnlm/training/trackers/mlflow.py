"""MLflow: settings as parameters, rows as metrics by step, the best checkpoint's place as a tag; on a tracking server.

A run that is killed and goes on is the same run there: its id is kept in <output>/mlflow.json. Times of metrics are the
start of the run plus its wall_seconds, so a row that is sent twice is one.
"""

import importlib.metadata
import importlib.util
import os
from collections.abc import Sequence
from typing import Any

from pydantic import Field

from rnnlm.config import config
from rnnlm.errors import ConfigError, EnvironmentFailure, without_secrets
from rnnlm.storage import Location
from rnnlm.training.metrics import Row, Tracker, TrackerConfig
from rnnlm.training.trackers.background import BackgroundTracker, Service
from rnnlm.training.trackers.run_folder import best_checkpoint, is_finished, keep_id, kept_id, name_of, settings_of

URI_VARIABLE = "MLFLOW_TRACKING_URI"
BATCH = 100  # parameters or metrics a request; a server takes 100 and 1,000
LONGEST = 6000  # characters of a parameter, on a server


@config
class MlflowConfig(TrackerConfig):
    """A run of an experiment on an MLflow server. Credentials belong into MLflow's environment variables."""

    tracking_uri: str | None = None
    "Address of the server; null takes it from the environment variable MLFLOW_TRACKING_URI."
    experiment: str = "rnnlm"
    "Experiment that the run belongs to; made if there is none."
    run_name: str | None = None
    "What people call the run; null takes the name of the output folder."
    tags: dict[str, str] = Field(default_factory=dict)
    "Tags of the run beside rnnlm.version, rnnlm.output and rnnlm.checkpoint."

    def open(self, folder: Location) -> Tracker:
        uri = self.tracking_uri or os.environ.get(URI_VARIABLE)
        if not uri:
            raise ConfigError(f"tracker.tracking_uri: mlflow needs the address of a server; set it, or {URI_VARIABLE}")
        if importlib.util.find_spec("mlflow") is None:
            raise EnvironmentFailure("tracker=mlflow needs a package that is missing", todo="pip install mlflow-skinny")
        return BackgroundTracker(_Mlflow(self, uri, folder), folder)


class _Mlflow(Service):
    name = "mlflow"

    def __init__(self, settings: MlflowConfig, uri: str, folder: Location) -> None:
        self._settings, self._uri, self._folder = settings, uri, folder
        self._client: Any = None
        self._run: Any = None

    def connect(self) -> dict[str, int]:
        # Retrying is our part: MLflow's own would keep a run that ends waiting for minutes.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "15")
        from mlflow import MlflowClient  # noqa: PLC0415 - takes seconds; only when wanted

        self._client = MlflowClient(tracking_uri=self._uri)
        self._run = self._known_run() or self._new_run()
        # Told anew each time: an earlier part may have been cut off while it told.
        self._tell_settings()
        return {kind: self._last_step(kind) for kind in ("train", "valid")}

    def send(self, rows: Sequence[Row]) -> None:
        from mlflow.entities import Metric  # noqa: PLC0415 - see connect

        metrics = [
            Metric(f"{row['kind']}/{name}", value, self._milliseconds(row), row["step"])
            for row in rows
            for name, value in row.items()
            if name not in {"kind", "step"}
        ]
        for first in range(0, len(metrics), BATCH):
            self._client.log_batch(self._run.info.run_id, metrics=metrics[first : first + BATCH])

    def finish(self) -> None:
        run_id, checkpoint = self._run.info.run_id, best_checkpoint(self._folder)
        if checkpoint is not None:
            self._client.set_tag(run_id, "rnnlm.checkpoint", checkpoint)
        self._client.set_terminated(run_id, "FINISHED" if is_finished(self._folder) else "KILLED")

    def _known_run(self) -> Any:
        """The run of an earlier part, open again; None if there was none, or the server has lost it."""
        from mlflow.exceptions import MlflowException  # noqa: PLC0415 - see connect

        run_id = kept_id(self._folder, self.name)
        if run_id is None:
            return None
        try:
            run = self._client.get_run(run_id)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise
        self._client.update_run(run_id, status="RUNNING")
        return run

    def _new_run(self) -> Any:
        experiment = self._client.get_experiment_by_name(self._settings.experiment)
        experiment_id = (
            experiment.experiment_id if experiment else self._client.create_experiment(self._settings.experiment)
        )
        name = self._settings.run_name or name_of(self._folder)
        tags = {
            **self._settings.tags,
            "rnnlm.version": importlib.metadata.version("rnnlm"),
            "rnnlm.output": self._folder.uri,
        }
        run = self._client.create_run(experiment_id, tags=tags, run_name=name)
        keep_id(self._folder, self.name, run.info.run_id)
        return run

    def _tell_settings(self) -> None:
        from mlflow.entities import Param  # noqa: PLC0415 - see connect

        told = {path: without_secrets(str(value))[:LONGEST] for path, value in settings_of(self._folder).items()}
        parameters = [Param(path, value) for path, value in told.items() if self._run.data.params.get(path) != value]
        for first in range(0, len(parameters), BATCH):
            self._client.log_batch(self._run.info.run_id, params=parameters[first : first + BATCH])

    def _last_step(self, kind: str) -> int:
        history = self._client.get_metric_history(self._run.info.run_id, f"{kind}/nll")
        return max((metric.step for metric in history), default=0)

    def _milliseconds(self, row: Row) -> int:
        return int(self._run.info.start_time + 1000 * row["wall_seconds"])
