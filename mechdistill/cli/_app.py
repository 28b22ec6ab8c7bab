"""All commands together: ours, and one for each measure. Nothing heavy is imported before a command runs.

To add one: a file here with its function (the signature is what it takes, the docstring its help), and its line below.
A measure needs neither: its entry in `MEASURES` is enough.
"""

import gc
from collections.abc import Callable
from typing import Any

import typer

from mechdistill.cli._compare import compare
from mechdistill.cli._list import list_runs
from mechdistill.cli._measure import command
from mechdistill.cli._plugins import HELP
from mechdistill.cli._presets import presets
from mechdistill.cli._publish import publish
from mechdistill.cli._sandbox import sandbox
from mechdistill.cli._show import show
from mechdistill.cli._sql import sql
from mechdistill.cli._train import train
from mechdistill.tables import MEASURES

_RUNS: dict[str, Callable[..., None]] = {"list": list_runs, "show": show, "sql": sql}


def app() -> typer.Typer:
    """The command line with the measures that there are now."""
    commands: dict[str, Callable[..., None]] = {
        "train": train,
        **{name: command(measure) for name, measure in MEASURES.items()},
        "compare": compare,
        "sandbox": sandbox,
        "publish": publish,
        "presets": presets,
    }
    about = "How distillation changes the circuits that a transformer forms."
    whole = _group(commands, name="mechdistill", help=about, callback=_before_a_command)
    whole.add_typer(_group(_RUNS, help="List runs, show one, or ask all of them by SQL."), name="runs")
    return whole


def _before_a_command() -> None:
    """`main` has no garbage collected while the command line is assembled."""
    gc.enable()


def _group(commands: dict[str, Callable[..., None]], **about: Any) -> typer.Typer:
    group = typer.Typer(
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        epilog=HELP,
        **about,
    )
    for name, function in commands.items():
        group.command(name, epilog=HELP)(function)
    return group
