"""The command line: parse, call, print. `main` is the entry point."""

import os
import sys

from mechdistill.errors import MechdistillError


def main() -> None:
    """Run the command line. Exit codes: 0 done, 2 bad input (one line), 1 a failure of our own, 130 interrupted."""
    # the tables are small, and a second thread only takes the core of another run
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from mechdistill.cli._app import app

    try:
        app()
    except MechdistillError as error:
        print(f"mechdistill: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("mechdistill: interrupted", file=sys.stderr)
        sys.exit(130)
