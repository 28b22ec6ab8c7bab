"""All commands together: ours, and one for each measure. Nothing heavy is imported before a command runs.

To add one: a file here with its function (the signature is what it takes, the docstring its help), and its line below.
A measure needs neither: its entry in `MEASURES` is enough.
"""

import gc
import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer

from mechdistill.cli._claims import claims
from mechdistill.cli._compare import compare
from mechdistill.cli._dynamics import dynamics
from mechdistill.cli._list import list_runs
from mechdistill.cli._match import match
from mechdistill.cli._measure import command
from mechdistill.cli._plugins import HELP
from mechdistill.cli._presets import presets
from mechdistill.cli._publish import publish
from mechdistill.cli._report import report
from mechdistill.cli._sandbox import sandbox
from mechdistill.cli._show import show_run
from mechdistill.cli._sql import sql
from mechdistill.cli._train import train
from mechdistill.tables import MEASURES

_RUNS: dict[str, Callable[..., None]] = {"list": list_runs, "show": show_run, "sql": sql}
_SETTINGS = {"help_option_names": ["-h", "--help"]}


def app() -> typer.Typer:
    """The command line with the measures that there are now."""
    commands: dict[str, Callable[..., None]] = {
        "train": train,
        **{name: command(measure) for name, measure in MEASURES.items()},
        "compare": compare,
        "match": match,
        "dynamics": dynamics,
        "claims": claims,
        "report": report,
        "sandbox": sandbox,
        "publish": publish,
        "presets": presets,
    }
    about = "How distillation changes the circuits that a transformer forms."
    whole = _group(commands, name="mechdistill", help=about, callback=_before_a_command, add_completion=True)
    whole.add_typer(_group(_RUNS, help="List runs, show one, or ask all of them by SQL."), name="runs")
    return whole


def _say_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(f"mechdistill {version('mechdistill')}")
        raise typer.Exit


def _before_a_command(
    version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """`main` has no garbage collected while the command line is assembled."""
    del version  # its callback has spoken
    gc.enable()


def _group(commands: dict[str, Callable[..., None]], *, add_completion: bool = False, **about: Any) -> typer.Typer:
    group = typer.Typer(
        add_completion=add_completion,
        context_settings=_SETTINGS,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        epilog=HELP,
        **about,
    )
    for name, function in commands.items():
        summary = (inspect.getdoc(function) or "").partition("\n\n")[0]  # whole, where typer would cut it
        group.command(name, epilog=HELP, context_settings=_SETTINGS, short_help=summary)(function)
    return group
