"""The command line: parse, call, print. `main` is the entry point."""

import gc
import sys
import warnings

from mechdistill.errors import MechdistillError, one_line

_INTERRUPTED = 130


def main() -> None:
    """Run the command line. Exit codes: 0 done, 2 bad input (one line), 1 a failure of our own, 130 interrupted."""
    gc.disable()  # nothing is garbage until a command runs, and looking for it takes a twentieth of --help's time
    import typer

    from mechdistill.cli._app import app
    from mechdistill.cli._plugins import load_plugins

    usage_error = typer.BadParameter.__base__  # typer does not export it
    warnings.showwarning = _one_line
    try:
        arguments = load_plugins(sys.argv[1:])
        code = app()(arguments or ["--help"], standalone_mode=False)
    except MechdistillError as error:
        _fail(str(error))
    except Exception as error:
        if usage_error is None or not isinstance(error, usage_error):
            raise
        _fail(f"{error.format_message()} (see mechdistill --help)")  # type: ignore[attr-defined]
    except (KeyboardInterrupt, typer.Abort):
        _interrupted()
    else:
        if code == _INTERRUPTED:  # typer has caught Ctrl-C and returns what it would have exited with
            _interrupted()
        sys.exit(code if isinstance(code, int) else 0)


def _interrupted() -> None:
    print("mechdistill: interrupted", file=sys.stderr)
    sys.exit(_INTERRUPTED)


def _fail(message: str) -> None:
    print(f"mechdistill: {one_line(message)}", file=sys.stderr)
    sys.exit(2)


def _one_line(message: Warning | str, category: type[Warning], *_: object) -> None:
    del category
    print(f"mechdistill: {message}", file=sys.stderr)
