"""Opening run directories, foreign ones too: nothing is executed, everything is checked before it is used."""

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from pydantic import ValidationError
from torch import Tensor

from mechdistill.config import ExperimentConfig, RunConfig, expand, experiment, parse_yaml, problem
from mechdistill.errors import MechdistillError
from mechdistill.model import Model, build
from mechdistill.runs import _layout as layout
from mechdistill.runs import _metrics, _migrate
from mechdistill.runs._cache import CachedTable, cached, cached_tables
from mechdistill.runs._files import read_json, read_text
from mechdistill.runs._same import differing_keys
from mechdistill.runs._status import read_status
from mechdistill.runs._tables import Measured, read_table
from mechdistill.runs._weights import Weights, load_weights
from mechdistill.runs._where import check_directory
from mechdistill.sandbox import Sandbox
from mechdistill.tables import ROW_CURVES, Measure
from mechdistill.world import World
from mechdistill.worlds import open_world

Step = int | Literal["last"]


class Run:
    """A run directory: its config, status, checkpoints, metrics and cached tables."""

    def __init__(self, path: Path):
        self.path = path
        file = path / layout.CONFIG
        data = _migrate.config(parse_yaml(read_text(file), str(file)), file)
        try:
            self.config = RunConfig.model_validate(data)
        except ValidationError as error:
            raise MechdistillError(f"{file}: {problem(error)}") from None

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r}, steps={len(self.steps)})"

    @property
    def name(self) -> str:
        """Path inside its experiment, like spt/seed-0."""
        return str(self.config.path)

    @property
    def status(self) -> dict[str, Any]:
        """state, step, steps, tokens and seconds, as last written."""
        return read_status(self.path)

    @property
    def provenance(self) -> dict[str, Any]:
        """When, where and with what it was started."""
        record = read_json(self.path / layout.PROVENANCE)
        if not isinstance(record, dict):
            raise MechdistillError(f"{self.path / layout.PROVENANCE}: damaged; restore it")
        return record

    @property
    def steps(self) -> list[int]:
        """Steps that have a checkpoint, ascending."""
        return layout.checkpoint_steps(self.path)

    @property
    def world(self) -> World:
        """The world it was trained in: what every measure asks for, whatever kind of world it is."""
        return self.sandbox

    @cached_property
    def sandbox(self) -> Sandbox:
        """The same as the sandbox that it is, with its config, matrices and sampler."""
        return open_world(self.config.sandbox)

    def resolve(self, step: Step = "last") -> int:
        """The number of a checkpoint; raises `MechdistillError` naming the nearest where there is none."""
        steps = self.steps
        if not steps:
            raise MechdistillError(f"{self.path}: has no checkpoint yet; train it first")
        if step == "last":
            return steps[-1]
        if step not in steps:
            nearest = min(steps, key=lambda known: abs(known - step))
            raise MechdistillError(f"--checkpoint {step}: {self.name} has none there; the nearest is {nearest}")
        return step

    def tokens_at(self, step: int) -> int:
        """Predictions trained on after `step` steps."""
        return step * self.config.training.batch * self.config.sandbox.seq_len

    def model(self, step: Step = "last") -> Model:
        """The hooked model of a checkpoint, in eval mode on the CPU."""
        step = self.resolve(step)
        weights = self.weights(step)
        sandbox = self.config.sandbox
        model = build(self.config.model, d_vocab=sandbox.vocab, n_ctx=sandbox.seq_len, init_seed=0)
        expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
        found = {name: tuple(tensor.shape) for name, tensor in weights.items()}
        if expected != found:
            differing = sorted(set(expected.items()) ^ set(found.items()))[0][0]
            path = layout.checkpoint_path(self.path, step)
            raise MechdistillError(f"{path}: does not fit {layout.CONFIG} (at {differing}); restore the run's own file")
        model.load_state_dict(weights)
        return model.eval().requires_grad_(False)

    def weights(self, step: Step = "last") -> dict[str, Tensor]:
        """The tensors of a checkpoint by name, checked."""
        return self._weights(self.resolve(step)).tensors

    def weights_digest(self, step: Step = "last") -> str:
        """SHA-256 of a checkpoint's tensors: equal iff the weights are, bit for bit."""
        return self._weights(self.resolve(step)).metadata["sha256"]

    def _weights(self, step: int) -> Weights:
        path = layout.checkpoint_path(self.path, step)
        weights = load_weights(path)
        owner = (weights.metadata.get("run"), weights.metadata.get("step"))
        if owner != (self.name, str(step)):
            raise MechdistillError(
                f"{path}: belongs to step {owner[1]} of {owner[0]}, not to step {step} of {self.name}; "
                "restore the run's own file"
            )
        return weights

    def metrics(self) -> pd.DataFrame:
        """Inline metrics so far, as the long `metrics` table."""
        path = self.path / layout.METRICS
        if path.exists():
            return read_table(path, _metrics.COLUMNS, _migrate.OF_METRICS)
        return _metrics.table(self.path, self.config)

    def targets(self) -> pd.DataFrame | None:
        """What it is taught, row by row (the `row-curves` columns): its teacher's law, and its objective's floor.

        None where labels alone teach it, as they are.
        """
        path = self.path / layout.TARGETS
        columns = [column.name for column in ROW_CURVES.columns]
        return read_table(path, columns, _migrate.OF_ROWS) if path.exists() else None

    def cached(
        self,
        measure: Measure,
        step: int,
        key: str,
        by: Measured,
        compute: Callable[[], pd.DataFrame],
        *,
        fresh: bool = False,
    ) -> pd.DataFrame:
        """A measure's table of a checkpoint, computed and stored if absent or `fresh`; see `_cache`."""
        return cached(self.path, measure, step, key, by, compute, fresh=fresh)

    def cached_tables(self) -> list[CachedTable]:
        """The measures' tables that lie in the directory."""
        return cached_tables(self.path)


class Experiment:
    """A directory of runs that share a sandbox."""

    def __init__(self, path: Path):
        self.path = path
        file = path / layout.EXPERIMENT
        try:
            self.config: ExperimentConfig = experiment(parse_yaml(read_text(file), str(file)))
        except MechdistillError as error:
            raise MechdistillError(f"{file}: {error}") from None

    def __repr__(self) -> str:
        return f"Experiment({str(self.path)!r}, runs={[run.name for run in self.runs]})"

    @property
    def runs(self) -> list[Run]:
        """Students and teachers that have been started, students first, in the order of the experiment file."""
        runs: list[Run] = []
        for config in sorted(expand(self.config), key=lambda config: config.is_teacher):
            path = self.path / config.path
            if (path / layout.CONFIG).exists():
                run = Run(path)
                if differing_keys(run.config, config):
                    raise MechdistillError(
                        f"{path / layout.CONFIG}: is not the run that {layout.EXPERIMENT} says; restore its files"
                    )
                runs.append(run)
        return runs

    def run(self, name: str) -> Run:
        """The run at a path like 'spt/seed-0'."""
        for run in self.runs:
            if run.name == name:
                return run
        known = ", ".join(run.name for run in self.runs) or "none yet"
        raise MechdistillError(f"run '{name}': not in {self.path}; there are: {known}")


def load(path: str | Path) -> Run | Experiment:
    """Open a run or an experiment directory; raises `MechdistillError` if it is neither."""
    return Experiment(Path(path)) if check_directory(path) == "experiment" else Run(Path(path))
