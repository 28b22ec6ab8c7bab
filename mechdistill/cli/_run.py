"""One command, from its arguments to its exit code."""

import gc
import sys
import warnings

from mechdistill.cli._plugins import load_plugins
from mechdistill.cli._streams import patient_streams
from mechdistill.errors import MechdistillError, NotStored, visible


def run(arguments: list[str]) -> int:
    """Run the command that the arguments ask for; what is wrong with them is one line on stderr, and 2."""
    gc.disable()  # nothing is garbage until a command runs, and looking for it takes a twentieth of --help's time
    notes = _Notes()
    with patient_streams(), warnings.catch_warnings():
        warnings.showwarning = notes
        try:
            code = _command(load_plugins(arguments) or ["--help"])
            sys.stdout.flush()
        except MechdistillError as error:
            code = _refused(str(error))
        finally:
            notes.close()
    return code


def _command(arguments: list[str]) -> int:
    import typer

    from mechdistill.cli._app import app

    usage_error = typer.BadParameter.__base__  # typer does not export it
    try:
        code = app()(arguments, prog_name="mechdistill", standalone_mode=False)
    except typer.Abort:
        raise KeyboardInterrupt from None
    except Exception as error:
        if usage_error is None or not isinstance(error, usage_error):
            raise
        return _refused(f"{error.format_message()} (see mechdistill --help)")  # type: ignore[attr-defined]
    return code if isinstance(code, int) else 0


def _refused(message: str) -> int:
    _say(message)
    return 2


def _say(message: str) -> None:
    print(f"mechdistill: {visible(message)}", file=sys.stderr)  # it may quote somebody else's directory


class _Notes:
    """Warnings as lines; what could not be stored is counted, and said once at the end."""

    def __init__(self) -> None:
        self._not_stored: list[str] = []

    def __call__(self, message: Warning | str, category: type[Warning], *_: object) -> None:
        if issubclass(category, NotStored):
            self._not_stored.append(str(message))
        else:
            _say(str(message))

    def close(self) -> None:
        """The end of the command."""
        if not self._not_stored:
            return
        first, *others = self._not_stored
        _say(first + f" (nor are {len(others)} more files)" * bool(others))
