"""What became of every run that an experiment file names: nothing leaves a comparison without a word."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from mechdistill.config import RunConfig, expand
from mechdistill.runs import Experiment, Run

USED = "used"
UNFINISHED = "not finished"
MISSING = "missing"
OTHER_SANDBOX = "in another sandbox"
OTHER_START = "begun at other weights"
NO_TWIN = "without a finished twin"
NO_NAMESAKE = "an arm that the other experiment lacks"


class Entry(NamedTuple):
    """One arm and seed of an experiment file, and what became of it."""

    config: RunConfig
    run: Run | None
    """Its run, if it has finished."""
    use: str

    @property
    def arm(self) -> str:
        """Its treatment."""
        return self.config.treatment

    @property
    def seed(self) -> int:
        """Its seed."""
        return self.config.seed


def entries(experiment: Experiment) -> list[Entry]:
    """Every student run of the experiment file, used for now if it has finished."""
    started = {run.name: run for run in experiment.runs}
    found: list[Entry] = []
    for config in expand(experiment.config):
        if not config.is_teacher:
            run = started.get(str(config.path))
            done = run is not None and run.status["state"] == "finished"
            use = MISSING if run is None else USED if done else UNFINISHED
            found.append(Entry(config, run if done else None, use))
    return found


def leaving_out(found: Iterable[Entry], use: str, where: Callable[[Entry], bool]) -> list[Entry]:
    """The entries, with those left out for a reason that it holds of."""
    return [entry._replace(run=None, use=use) if where(entry) else entry for entry in found]


def beside(found: list[Entry], baseline: str) -> list[Entry]:
    """The entries, with those left out that are no twins of a baseline's: in another sandbox, or begun otherwise.

    A warm start has seen what its checkpoint had seen: held against runs that begin at random weights, or elsewhere,
    its head start would pass for what it is taught.
    """
    own = next(entry.config for entry in found if entry.arm == baseline)
    found = leaving_out(found, f"{OTHER_SANDBOX} than {baseline}", lambda entry: entry.config.sandbox != own.sandbox)
    return leaving_out(found, f"{OTHER_START} than {baseline}", lambda entry: entry.config.start != own.start)


def left_out(found: Iterable[Entry]) -> list[str]:
    """In words: one line a reason, with arms and seeds."""
    reasons: dict[str, dict[str, list[int]]] = {}
    for entry in found:
        if entry.use != USED:
            reasons.setdefault(entry.use, {}).setdefault(entry.arm, []).append(entry.seed)
    return [
        f"left out, {use}: "
        + "; ".join(f"{arm} seed{'s' * (len(seeds) > 1)} {_listed(seeds)}" for arm, seeds in arms.items())
        for use, arms in reasons.items()
    ]


def _listed(seeds: list[int]) -> str:
    return ", ".join(map(str, sorted(seeds)))
