"""Opening experiment directories, foreign ones too: which runs there are, and whether they are those that it says."""

from pathlib import Path

from mechdistill import arguments
from mechdistill.ambient import neutral
from mechdistill.config import ExperimentConfig, expand, experiment
from mechdistill.errors import MechdistillError, quoted
from mechdistill.runs import _layout as layout
from mechdistill.runs._files import read_text, refuse_inner_links
from mechdistill.runs._run import Run, parsed
from mechdistill.runs._same import differing_keys
from mechdistill.runs._where import check_directory
from mechdistill.world import differences

_KEYS = ("name", "sandbox", "model", "training", "teachers", "arms", "seeds", "lr_scales")


class Experiment:
    """A directory of runs that share a sandbox."""

    def __init__(self, path: str | Path):
        self.path = path = arguments.path(path, "path").absolute()
        refuse_inner_links(path)
        file = path / layout.EXPERIMENT
        data = parsed(read_text(file), str(file))
        absent = [key for key in _KEYS if isinstance(data, dict) and key not in data]
        if absent:  # `train` writes them all: a default would be another experiment
            raise MechdistillError(f"{file}: is cut short (it has no {absent[0]}); restore it")
        try:
            self.config: ExperimentConfig = experiment(data)
        except MechdistillError as error:
            raise MechdistillError(f"{file}: {error}") from None

    def __repr__(self) -> str:
        return f"Experiment({str(self.path)!r}, runs={[run.name for run in self.runs]})"

    @property
    def runs(self) -> list[Run]:
        """Students and teachers that have been started, students first, in the order of the experiment file.

        Raises `MechdistillError` where what lies there is not what that file says: a run that it does not know, another
        one in its place, or one that has lost its config.
        """
        configs = sorted(expand(self.config), key=lambda config: config.is_teacher)
        self._refuse_unknown({str(config.path) for config in configs})
        runs: list[Run] = []
        for config in configs:
            path = self.path / config.path
            refuse_inner_links(self.path, path)
            if (path / layout.CONFIG).exists() or layout.is_trained(path):
                run = Run(path)
                if differing_keys(run.config, config):
                    raise MechdistillError(
                        f"{path / layout.CONFIG}: is not the run that {layout.EXPERIMENT} says; restore its files"
                    )
                runs.append(run)
        _refuse_mixed_worlds(runs)
        return runs

    def _refuse_unknown(self, known: set[str]) -> None:
        """Arms and seeds are only ever added: a run that the file does not know says that the file is not whole."""
        for pattern in ("*/seed-*", "teachers/*/seed-*"):
            for config in sorted(self.path.glob(f"{pattern}/{layout.CONFIG}")):
                name = config.parent.relative_to(self.path).as_posix()
                if name not in known:
                    raise MechdistillError(
                        f"{self.path / layout.EXPERIMENT}: does not know {name}, which lies here; restore it, or move "
                        "that directory away"
                    )

    def run(self, name: str) -> Run:
        """The run at a path like 'spt/seed-0'."""
        for run in self.runs:
            if run.name == name:
                return run
        known = ", ".join(run.name for run in self.runs) or "none yet"
        raise MechdistillError(f"run {quoted(name)}: not in {self.path}; there are: {known}")


def _refuse_mixed_worlds(runs: list[Run]) -> None:
    """Raise `MechdistillError` for two runs that say the same world and were trained in different ones."""
    first: dict[str, Run] = {}
    for run in runs:
        other = first.setdefault(run.config.sandbox.model_dump_json(), run)
        differing = differences(other.fingerprint, run.fingerprint, ("in the first", "in the second"))
        if differing:
            raise MechdistillError(
                f"{other.path} and {run.path}: were trained in different worlds ({'; '.join(differing)}), "
                "though they say the same; train all of an experiment where its worlds are equal"
            )


def opened(target: object, name: str = "target") -> None:
    """Raise `MechdistillError` for what is neither a run nor an experiment, a path for example."""
    arguments.instance(target, name, (Run, Experiment), "must be a run or an experiment, as md.load(path) gives it")


@neutral()
def load(path: str | Path) -> Run | Experiment:
    """Open a run or an experiment directory; raises `MechdistillError` if it is neither."""
    path = arguments.path(path, "path")
    return Experiment(path) if check_directory(path) == "experiment" else Run(path)
