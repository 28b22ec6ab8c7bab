"""Opening run directories, foreign ones too: nothing is executed, everything is checked before it is used."""

from collections.abc import Callable, Mapping
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal, SupportsIndex

import pandas as pd
from pydantic import ValidationError
from torch import Tensor

from mechdistill import arguments
from mechdistill.ambient import neutral
from mechdistill.config import CorpusRows, RunConfig, parse_yaml, problem, refuse_model_beyond_memory
from mechdistill.errors import MechdistillError, quoted
from mechdistill.model import Model, build
from mechdistill.runs import _binding, _metrics, _migrate
from mechdistill.runs import _layout as layout
from mechdistill.runs._binding import Damaged, Held, Owner
from mechdistill.runs._cache import CachedTable, cached, cached_tables
from mechdistill.runs._files import read_text, refuse_inner_links
from mechdistill.runs._numerics import check_provenance
from mechdistill.runs._tables import Measured, read_table
from mechdistill.runs._weights import Weights, load_weights
from mechdistill.sandbox import Sandbox
from mechdistill.tables import ROW_CURVES, Measure
from mechdistill.world import World, differences, fingerprint
from mechdistill.worlds import open_world

Step = SupportsIndex | Literal["last"]
"""A checkpoint: the number of its step, of numpy and torch too, or the last there is."""


@lru_cache(maxsize=512)
def parsed(text: str, source: str) -> Any:
    """The value of a YAML text, not to be changed: the same runs are opened again and again, and parsing takes long."""
    return parse_yaml(text, source)


class Run:
    """A run directory: its config, status, checkpoints, metrics and cached tables."""

    def __init__(self, path: str | Path):
        self.path = path = arguments.path(path, "path").absolute()  # the working directory may change while it is open
        refuse_inner_links(path)
        file = path / layout.CONFIG
        self._text = read_text(file)
        data = parsed(self._text, str(file))
        self._version = data.get("version") if isinstance(data, dict) else None
        data = _migrate.config(data, file)
        try:
            self.config = _located(RunConfig.model_validate(data), path)
        except ValidationError as error:
            raise MechdistillError(f"{file}: {problem(error)}") from None

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r}, steps={len(layout.checkpoint_steps(self.path))})"

    @property
    def name(self) -> str:
        """Path inside its experiment, like spt/seed-0."""
        return str(self.config.path)

    @property
    def owner(self) -> Owner:
        """What its files have to belong to; raises `MechdistillError` where that cannot be said."""
        return _binding.owner(self.path, self._text, self._version)

    @property
    def status(self) -> dict[str, Any]:
        """state, step, steps, tokens and seconds, as last written."""
        return self._status[0]

    @property
    def held(self) -> Held | None:
        """What its status says lies in the directory; None where it does not say."""
        return self._status[1]

    @property
    def _status(self) -> tuple[dict[str, Any], Held | None]:
        return _binding.status(self.path, self._text, self._version)

    @property
    def provenance(self) -> dict[str, Any]:
        """When, where and with what it was started."""
        record = _binding.provenance(self.path, self._text, self._version)
        return check_provenance(record, self.path / layout.PROVENANCE)

    @property
    def steps(self) -> list[int]:
        """Steps that have a checkpoint, ascending.

        Raises `MechdistillError` naming one that is missing, or that a finished run did not write.
        """
        status, held = self._status
        return _binding.steps(self.path, status, held)

    def refuse_incomplete(self) -> None:
        """Raise `MechdistillError` naming a file that its status says there is, and that is missing."""
        _binding.refuse_missing(self.path, self.held)

    @property
    def world(self) -> World:
        """The world it was trained in: what every measure asks for, whatever kind of world it is."""
        return self.sandbox

    @cached_property
    def sandbox(self) -> Sandbox:
        """The same as the sandbox that it is, with its config, matrices and sampler.

        Raises `MechdistillError` saying what differs if this machine makes another world of the config than it was
        trained in.
        """
        world = open_world(self.config.sandbox)
        self.refuse_other_world(fingerprint(world))
        return world

    @property
    def fingerprint(self) -> dict[str, Any]:
        """Of the world that it was trained in; empty where nobody has noted it."""
        return self.provenance.get("fingerprint", {}) if (self.path / layout.PROVENANCE).exists() else {}

    def refuse_other_world(self, found: Mapping[str, Any]) -> None:
        """Raise `MechdistillError` unless a world with this fingerprint is the one that it was trained in."""
        differing = differences(found, self.fingerprint)
        if differing:
            raise MechdistillError(
                f"{self.path}: this machine makes another world of {layout.CONFIG} than it was trained in "
                f"({'; '.join(differing)}); go on where it was trained"
            )

    def resolve(self, step: Step = "last") -> int:
        """The number of a checkpoint; raises `MechdistillError` naming the nearest where there is none."""
        steps = self.steps
        if not steps:
            raise MechdistillError(f"{self.path}: {self._without_checkpoints()}")
        if isinstance(step, str) and step == "last":
            return steps[-1]
        try:
            number = arguments.whole(step, "step")
        except MechdistillError:
            raise MechdistillError(
                f"checkpoint={quoted(step)}: must be 'last' or a step; {self.name} has {quoted(steps)[1:-1]}"
            ) from None
        if number not in steps:
            nearest = min(steps, key=lambda known: abs(known - number))
            raise MechdistillError(f"checkpoint {number}: {self.name} has none there; the nearest is {nearest}")
        return number

    def _without_checkpoints(self) -> str:
        """Why there are none, and what to do."""
        state = self.status["state"]
        if state == "finished":
            return "is finished, but its checkpoints are gone; restore them, or delete the directory and train again"
        return f"has no checkpoint yet (it is {state}); run `mechdistill train` again"

    def tokens_at(self, step: SupportsIndex) -> int:
        """Predictions trained on after `step` steps."""
        return arguments.whole(step, "step") * self.config.training.batch * self.config.sandbox.seq_len

    @neutral()
    def model(self, step: Step = "last", *, clamped: bool = True) -> Model:
        """The hooked model of a checkpoint, in eval mode on the CPU.

        Heads that its config clamps are clamped: that is the network that was trained, and all measures are of it.
        With `clamped=False` the same weights without clamps, a network that was never trained as it is.
        """
        step = self.resolve(step)
        weights = self.weights(step)
        sandbox = self.config.sandbox
        refuse_model_beyond_memory(self.config.model, sandbox, str(self.path / layout.CONFIG))
        config = self.config.model if clamped else self.config.model.model_copy(update={"clamps": ()})
        model = build(config, d_vocab=sandbox.vocab, n_ctx=sandbox.seq_len, init_seed=0)
        expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
        found = {name: tuple(tensor.shape) for name, tensor in weights.items()}
        if expected != found:
            differing = sorted(set(expected.items()) ^ set(found.items()))[0][0]
            path = layout.checkpoint_path(self.path, step)
            raise MechdistillError(f"{path}: does not fit {layout.CONFIG} (at {differing}); restore the run's own file")
        model.load_state_dict(weights)
        return model.eval().requires_grad_(False)

    @neutral()
    def weights(self, step: Step = "last") -> dict[str, Tensor]:
        """The tensors of a checkpoint by name, checked."""
        return self._weights(self.resolve(step)).tensors

    @neutral()
    def weights_digest(self, step: Step = "last") -> str:
        """SHA-256 of a checkpoint's tensors: equal iff the weights are, bit for bit."""
        return self._weights(self.resolve(step)).metadata["sha256"]

    def _weights(self, step: int) -> Weights:
        path = layout.checkpoint_path(self.path, step)
        weights = load_weights(path)
        said = (weights.metadata.get("run"), weights.metadata.get("step"))
        if said != (self.name, str(step)):
            raise Damaged(
                f"{path}: belongs to step {said[1]} of {said[0]}, not to step {step} of {self.name}; "
                "restore the run's own file"
            )
        self.owner.claim(path, weights.metadata.get("of"))
        damaged = next((name for name, tensor in weights.tensors.items() if not tensor.isfinite().all()), None)
        if damaged is not None:
            raise MechdistillError(f"{path}: has nan or inf in {damaged}; choose another checkpoint")
        return weights

    def metrics(self) -> pd.DataFrame:
        """Inline metrics so far, as the long `metrics` table."""
        path, held = self.path / layout.METRICS, self.held
        if path.exists():
            table = read_table(path, _metrics.COLUMNS, self.owner, _migrate.OF_METRICS)
            if (table["run"] != self.name).any():
                raise Damaged(f"{path}: is not about {self.name}; restore the run's own file")
            return table
        _binding.refuse_missing(self.path, held)
        return _metrics.table(self.owner, self.config, held.log if held else None)

    def targets(self) -> pd.DataFrame | None:
        """What it is taught, row by row (the `row-curves` columns): its teacher's law, and its objective's floor.

        None where labels alone teach it, as they are.
        """
        path = self.path / layout.TARGETS
        columns = [column.name for column in ROW_CURVES.columns]
        if path.exists():
            return read_table(path, columns, self.owner, _migrate.OF_ROWS)
        self.refuse_incomplete()
        return None

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
        return cached(self.owner, measure, step, key, by, compute, fresh=fresh)

    def cached_tables(self) -> list[CachedTable]:
        """The measures' tables that lie in the directory."""
        return cached_tables(self.path)


def _located(config: RunConfig, folder: Path) -> RunConfig:
    """A run whose text does not depend on the working directory: where a relative path leads now, or beside the run."""
    rows = config.sandbox.rows
    if not isinstance(rows, CorpusRows) or Path(rows.path).is_absolute():
        return config
    places = [place / rows.path for place in (Path.cwd(), folder, *folder.parents[:3])]
    text = next((place for place in places if place.is_file()), places[0])
    sandbox = config.sandbox.model_copy(update={"rows": rows.model_copy(update={"path": str(text)})})
    return config.model_copy(update={"sandbox": sandbox})
