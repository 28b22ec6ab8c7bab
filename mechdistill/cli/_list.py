"""`mechdistill runs list`. It does not load torch."""

from pathlib import Path

from mechdistill.cli._options import Folder, Json


def list_runs(folder: Folder = Path("runs"), json: Json = False) -> None:
    """All runs under a folder, of any number of experiments."""
    from mechdistill import runs
    from mechdistill.cli._console import stderr
    from mechdistill.cli._print import print_rows

    found = runs.list_runs(folder)
    print_rows(
        found,
        json,
        drop=("path", "teacher_seed", "init_seed", "data_seed", "arm", "seed", "seconds", "experiment", "step"),
    )
    if found.empty:
        stderr.print(f"no runs under {folder}; `mechdistill train` makes some")
