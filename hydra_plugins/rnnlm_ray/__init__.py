"""Hydra's side of `-m hydra/launcher=ray`. Hydra takes launchers from packages below `hydra_plugins` only."""

from collections.abc import Sequence
from typing import Any, cast

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict


class RayLauncher(Launcher):  # type: ignore[misc]  # hydra is untyped
    """Composes and checks all trials, and hands them to jobs.distributed.sweep as plain data."""

    def __init__(self, **options: Any) -> None:
        self._options = options

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self._loader, self._config, self._function = hydra_context.config_loader, config, task_function

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run a trial for each list of overrides; raises FailuresError if some failed, after all have ended."""
        from jobs.app import Job, without_hydra  # noqa: PLC0415 - Hydra imports this module at the start of every command
        from jobs.distributed.sweep import sweep_on_ray  # noqa: PLC0415 - importing Ray takes a second

        setup_globals()
        job = cast(Job[Any], self._function.__self__)
        trials = []
        for number, overrides in enumerate(job_overrides, initial_job_idx):
            composed = self._loader.load_sweep_config(self._config, list(overrides))
            with open_dict(composed):
                composed.hydra.job.id = composed.hydra.job.num = number
            HydraConfig.instance().set_config(composed)
            trials.append(job.trial(without_hydra(composed)))
        base = OmegaConf.to_container(without_hydra(self._config), resolve=False)
        sweep_on_ray(job.name, job.function.__name__, cast(dict[str, Any], base), trials, self._options)
        return []
