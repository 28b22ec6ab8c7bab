"""`mechdistill sandbox`: a table and a picture of a world."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mechdistill.cli._options import known_presets
from mechdistill.cli._present import Output, present, with_output
from mechdistill.errors import MechdistillError

if TYPE_CHECKING:
    import pandas as pd

    from mechdistill.cli._grid import Grid
    from mechdistill.config import SandboxConfig
    from mechdistill.sandbox import Sandbox


@with_output
def sandbox(
    source: Annotated[
        Path | None,
        typer.Argument(metavar="[EXPERIMENT.yaml|DIR]", help="An experiment file, a run or an experiment directory."),
    ] = None,
    preset: Annotated[
        str | None, typer.Option(metavar="NAME", help="The world of a preset.", autocompletion=known_presets)
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one key, like sandbox.vocab=32.")
    ] = None,
    *,
    output: Output,
) -> None:
    """Show a world before training in it: rows by entropy, what can be copied where, what the best guessers reach."""
    if source is not None and source.is_dir():
        from mechdistill.runs import check_directory

        check_directory(source)  # before torch is imported
    config, default = _find(source, preset, settings or [])
    from mechdistill import evals, plots
    from mechdistill.analysis import progress
    from mechdistill.cli._console import stderr
    from mechdistill.worlds import open_world

    with progress("sandbox"):
        world = open_world(config)
        description = evals.describe(world)
    present(
        description,
        lambda: [_rows(world), _summary(world, description)],
        lambda: plots.sandbox_figure(world, description),
        default,
        output,
    )
    for note in [] if output.json else _notes(world):
        stderr.print(note)


def _find(source: Path | None, preset: str | None, settings: list[str]) -> "tuple[SandboxConfig, Path]":
    """The world, and where its figure goes unless --figure says otherwise."""
    from mechdistill.config import load_experiment

    if source is not None and source.is_dir():
        from mechdistill.runs import FIGURES, load

        if preset or settings:
            raise MechdistillError(f"{source}: was made in one world; --preset and --set are for experiment files")
        found = load(source)
        return found.config.sandbox, source / FIGURES / "sandbox.html"
    experiment = load_experiment(source, preset_name=preset, settings=settings)
    return experiment.sandbox, Path(f"sandbox-{experiment.name}.html")


def _rows(sandbox: "Sandbox") -> "Grid":
    from mechdistill.cli._grid import table
    from mechdistill.cli._print import number
    from mechdistill.tables import shown

    pi, entropy, occurs, rate = sandbox.pi, sandbox.row_entropy, sandbox.stationary, sandbox.rate
    order = sorted(range(sandbox.vocab), key=lambda token: float(entropy[token]))
    n = len(order)
    if n > 24:  # the ends of a large world, and some between
        order = [order[i] for i in sorted({*range(8), *range(8, n - 8, n // 8), *range(n - 8, n)})]
    rows = [
        [
            shown(sandbox.symbols[token]),
            number(entropy[token]),
            number(occurs[token], 4),
            number(rate[token], 2) if rate[token] else "",
            f"{shown(sandbox.symbols[int(pi[token].argmax())])} {pi[token].max():.3f}",
        ]
        for token in order
    ]
    title = f"{sandbox.vocab} rows by entropy" + f" ({len(order)} shown)" * (len(order) < n)
    return table(title, ["token", "entropy, nats", "occurs", "trigger", "likeliest successor"], rows)


def _summary(sandbox: "Sandbox", description: "pd.DataFrame") -> "Grid":
    from mechdistill.cli._grid import table
    from mechdistill.cli._print import number
    from mechdistill.tables.metrics import (
        COPYABLE_SHARE,
        NO_MATCHING,
        NO_MATCHING_EXACT,
    )

    world = description[description["row"].isna() & description["position"].isna()]
    values = {
        row["metric"]: number(row["value"]) + (f" ± {row['error']:.1g}" if row["error"] > 0 else "")
        for row in world.to_dict("records")
    }
    values[f"{COPYABLE_SHARE.name} at the last position"] = (
        description[(description["metric"] == COPYABLE_SHARE.name) & (description["position"] == sandbox.seq_len - 1)][
            "value"
        ]
        .map(number)
        .item()
    )
    exact = values.pop(NO_MATCHING_EXACT.name, None)
    if exact is not None:
        who = sandbox.no_matching_guesser if float(exact) else f"best of the rules: {sandbox.no_matching_guesser}"
        values = {f"{name} ({who})" if name == NO_MATCHING.name else name: value for name, value in values.items()}
    rows = [[metric, value] for metric, value in values.items()]
    return table("The world (losses in nats a token; ± the standard error of a draw)", ["", "value"], rows)


def _notes(sandbox: "Sandbox") -> list[str]:
    """What a reader of the table and the figure might look for in vain."""
    notes: list[str] = []
    if not sandbox.rate.any():
        notes.append("this world has no triggers: nothing in it can be copied")
    if sandbox.unvisited:
        named = ", ".join(sandbox.symbols[token] for token in sandbox.unvisited[:5])
        more = f" and {len(sandbox.unvisited) - 5} more" * (len(sandbox.unvisited) > 5)
        notes.append(f"triggers that do not occur once in a million positions: {named}{more}")
    return notes
