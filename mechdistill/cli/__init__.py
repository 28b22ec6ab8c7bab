"""The command line: parse, call, print. `main` is the entry point."""

import sys

from mechdistill.cli._interrupts import INTERRUPTED, Interrupts


def main() -> None:
    """Run the command line. Exit codes: 0 done, 2 bad input (one line), 1 a failure of our own, 130 interrupted."""
    interrupts = Interrupts()
    interrupts.watch()
    try:
        from mechdistill.cli._run import run  # once Ctrl-C is heard

        code = run(sys.argv[1:])
    except BaseException as error:
        # whatever an interruption has turned into on its way, like an ImportError
        if not interrupts.asked and not isinstance(error, KeyboardInterrupt):
            raise
        code = INTERRUPTED
    if interrupts.asked or code == INTERRUPTED:
        interrupts.leave()
    interrupts.over = True
    sys.exit(code)
