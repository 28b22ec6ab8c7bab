"""The live head explorer as a page of its own: for notebooks, which show it inline, and for files."""

import html
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from mechdistill import arguments
from mechdistill.ambient import neutral
from mechdistill.analysis import measured
from mechdistill.report._choice import MAX_SIZE, budget_of, choose
from mechdistill.report._explorer import Explorer, explorer
from mechdistill.report._page import Payload, page
from mechdistill.runs import Experiment, Run, opened, write_text
from mechdistill.tables import ABLATE, INDUCTION_SCORES


@dataclass(frozen=True)
class Exploration:
    """The explorer as a page of its own: the last line of a notebook's cell shows it, without any network."""

    title: str
    explorer: Explorer
    height: int

    @cached_property
    def html(self) -> str:
        """The page."""
        body = f'<main class="alone">\n<h1>{html.escape(self.title)}</h1>\n{self.explorer.markup}\n</main>'
        parts = self.explorer
        payload = Payload({"explorer": parts.json}, parts.blobs)
        return page(title=self.title, body=body, styles=parts.styles, scripts=parts.scripts, payload=payload)

    def save(self, path: str | Path) -> None:
        """Write the page, whole or not at all; raises `MechdistillError` where the disk refuses."""
        write_text(arguments.path(path, "path"), self.html)

    def __repr__(self) -> str:
        return f"Exploration({self.title!r}): {self.explorer.said}"

    def _repr_html_(self) -> str:
        """Inline: a frame with the page inside, which can reach neither the notebook nor the network."""
        return (
            f'<iframe sandbox="allow-scripts" title="{html.escape(self.title)}" width="100%" height="{self.height}" '
            f'style="border:0" srcdoc="{html.escape(self.html)}"></iframe>'
        )


@neutral()
def explore(
    target: Run | Experiment, *, max_size: float = MAX_SIZE, height: int = 900, effects: bool = False
) -> Exploration:
    """The live head explorer of a run or an experiment: its models run in the page, on any prompt, heads switched off.

    In a notebook it shows itself; `.save(path)` writes it as one file that works offline. `max_size` bounds the
    weights inside, megabytes of the page; `height` is that of the notebook's frame, pixels. Head scores are measured
    at the checkpoints inside (and cached), and with `effects` also what knocking each head out costs in the last one
    of every run. Raises `MechdistillError` for another target, where there is no checkpoint, or where none fits.
    """
    opened(target)
    height = arguments.whole(height, "height", 100)
    runs = target.runs if isinstance(target, Experiment) else [target]
    choice = choose(runs, budget_of(max_size))
    scorable = [c for c in choice.checkpoints if c.run.config.model.has_heads]
    tables = [measured(INDUCTION_SCORES.name)(c.run, c.step) for c in scorable]
    last = [c for c in scorable if effects and c.step == c.run.steps[-1] and not c.run.config.sandbox.is_plain]
    costs = [measured(ABLATE.name)(c.run, c.step) for c in last]
    title = f"{target.path.name}: live head explorer"
    made = explorer(runs, scores=_stacked(tables), effects=_stacked(costs), choice=choice)
    return Exploration(title, made, height)


def _stacked(tables: list[pd.DataFrame]) -> pd.DataFrame | None:
    """Tables of one experiment as one; the note of its arms stays."""
    if not tables:
        return None
    whole = pd.concat(tables, ignore_index=True)
    whole.attrs.update(tables[0].attrs)
    return whole
