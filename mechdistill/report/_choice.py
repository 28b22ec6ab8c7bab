"""Which checkpoints go into a page of bounded size, most wanted first."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from mechdistill.errors import MechdistillError, quoted
from mechdistill.report._weights import packed_bytes
from mechdistill.runs import Run

_LARGEST_PAGE = 300  # megabytes; browsers hold no text of more than 512
_ALONG = 12  # checkpoints of a run that is followed through training


class Checkpoint(NamedTuple):
    """One checkpoint of a run."""

    run: Run
    step: int


class Choice(NamedTuple):
    """The checkpoints of a page, in the order in which they were wanted, and what is said of the others."""

    checkpoints: tuple[Checkpoint, ...]
    said: str


class Pair(NamedTuple):
    """The run that the page opens with, and the one beside it."""

    run: Run
    twin: Run | None


_USUAL, _PAPERS = "spt", "dpt-90"

MAX_SIZE = 18.0
"""Megabytes of weights in a page, unless asked for: with plotly and figures it stays under 25."""


def budget_of(max_size: Any) -> int:
    """Megabytes of weights in a page as bytes; raises `MechdistillError` for what is no such number."""
    number = max_size.item() if hasattr(max_size, "item") and not tuple(max_size.shape) else max_size
    if isinstance(number, bool) or not isinstance(number, int | float) or not 0 < number <= _LARGEST_PAGE:
        raise MechdistillError(f"max_size={quoted(max_size)}: must be a number of megabytes, up to {_LARGEST_PAGE}")
    return round(number * 1e6)


def foremost(distilled: Sequence[str]) -> str:
    """The arm that a page is about, of those that distil: the paper's `dpt-90`, or the first."""
    return _PAPERS if _PAPERS in distilled else distilled[0]


def opening(runs: Sequence[Run]) -> Pair:
    """Of the first seed: `spt` or the first arm that does not distil, and beside it the foremost that does."""
    students = [run for run in runs if not run.config.is_teacher]
    first = [run for run in students if run.config.seed == students[0].config.seed] or list(runs)
    undistilled = {run.config.treatment: run for run in first if not run.config.objective.distils}
    plain = undistilled.get(_USUAL) or next(iter(undistilled.values()), first[0])
    distilled = {run.config.treatment: run for run in first if run.config.objective.distils and run is not plain}
    if distilled:
        return Pair(plain, distilled[foremost(list(distilled))])
    return Pair(plain, next((run for run in first if run is not plain), None))


def choose(runs: Sequence[Run], budget: int) -> Choice:
    """The checkpoints that fit into `budget` bytes of the page.

    First the last one of each arm's first seed, students before teachers; then some of the opening pair through
    training; then the last ones of the other seeds; then those of the other arms' first seeds through training.
    Raises `MechdistillError` where there is none, or not even the first fits.
    """
    there = [run for run in runs if run.steps]
    if not there:
        raise MechdistillError("explorer: no run has a checkpoint yet; train the experiment first")
    runs = [run for run in there if not run.config.model.clamps]  # the page would show them unclamped
    if not runs:
        raise MechdistillError("explorer: runs no clamped network, and all runs have clamps; choose a run without")
    taken: dict[tuple[str, int], Checkpoint] = {}
    sizes: dict[str, int] = {}
    left = budget
    for wanted in _wanted(runs):
        run, key = wanted.run, (str(wanted.run.path), wanted.step)
        like = f"{run.config.model.model_dump_json()} {run.config.sandbox.vocab} {run.config.sandbox.seq_len}"
        if like not in sizes:
            sizes[like] = packed_bytes(sum(tensor.numel() for tensor in run.weights(wanted.step).values()))
        if key not in taken and sizes[like] <= left:
            taken[key] = wanted
            left -= sizes[like]
    if not taken:
        least = min(sizes.values())
        raise MechdistillError(
            f"max-size={budget / 1e6:g} MB: one checkpoint of {runs[0].name} alone takes {least / 1e6:.2g} MB of the "
            "page; raise max-size"
        )
    chosen = tuple(taken.values())
    clamped = [run.name for run in there if run.config.model.clamps]
    left_out = f" Left out, since the page clamps no head: {_named(clamped)}." if clamped else ""
    return Choice(chosen, _said(runs, chosen, budget) + left_out)


def _wanted(runs: list[Run]) -> Iterator[Checkpoint]:
    """Every checkpoint that is wanted, most wanted first; some come twice."""
    firsts: dict[str, Run] = {}
    for run in runs:
        firsts.setdefault(run.config.treatment, run)
    for run in firsts.values():
        yield Checkpoint(run, run.steps[-1])
    pair = opening(runs)
    twins = [run for run in pair if run is not None]
    yield from _along(twins)
    others = [run for run in runs if all(run is not first for first in firsts.values())]
    for run in others:
        yield Checkpoint(run, run.steps[-1])
    yield from _along([run for run in firsts.values() if all(run is not twin for twin in twins)])


def _along(runs: list[Run]) -> Iterator[Checkpoint]:
    """Checkpoints of runs through training, twins at the same steps, so that any number of them is spread well.

    They are even in the square root of the step: circuits form late, and the first steps change much as well.
    """
    common = set.intersection(*(set(run.steps) for run in runs)) if runs else set[int]()
    shared = sorted(common) if len(common) > 1 else None
    spread = {run.name: far_apart(shared or run.steps, _ALONG) for run in runs}
    for number in range(_ALONG):
        for run in runs:
            if number < len(spread[run.name]):
                yield Checkpoint(run, spread[run.name][number])


def far_apart(steps: Sequence[int], most: int) -> list[int]:
    """At most so many of the steps: the last, the first, then each time the one farthest from those chosen."""
    place = np.sqrt(np.asarray(steps, dtype=np.float64))
    chosen = [len(steps) - 1]
    while len(chosen) < min(most, len(steps)):
        gap = np.abs(place[:, None] - place[chosen]).min(axis=1)
        chosen.append(int(gap.argmax()))
    return [steps[i] for i in chosen]


def _said(runs: list[Run], chosen: tuple[Checkpoint, ...], budget: int) -> str:
    inside = {str(checkpoint.run.path) for checkpoint in chosen}
    every = sum(len(run.steps) for run in runs)
    if len(chosen) == every:
        return f"All {every} checkpoints of {len(runs)} runs are in this page."
    absent = [run.name for run in runs if str(run.path) not in inside]
    named = f"; without any: {_named(absent)}" if absent else ""
    here = f"{len(chosen)} of {every} checkpoints are in this page, from {len(inside)} of {len(runs)} runs"
    return f"{here}: at most {_ALONG} a run, and {budget / 1e6:g} MB in all{named}."


def _named(names: list[str]) -> str:
    """Some of them by name, the others by their number."""
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
