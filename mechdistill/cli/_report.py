"""`mechdistill report`: one offline page of an experiment, with its models live."""

from pathlib import Path
from typing import Annotated

import typer

from mechdistill.cli._destination import check_destination
from mechdistill.cli._options import Directory, Fresh, Json


def report(
    directory: Directory,
    file: Annotated[
        Path | None, typer.Option("-o", "--out", metavar="FILE.html", help="Where it goes; default DIR/report.html.")
    ] = None,
    max_size: Annotated[float | None, typer.Option(metavar="MB", help="Most MB of weights in it; default 18.")] = None,
    no_cache: Fresh = False,
    json: Json = False,
) -> None:
    """Write one page that answers the question: figures, statistics, and the trained models running in it, offline."""
    from mechdistill.runs import check_directory

    check_directory(directory)  # before torch is imported
    path = file or directory / "report.html"
    check_destination("--out", path, "reports", (".html",))
    import pandas as pd

    from mechdistill.cli._console import stderr
    from mechdistill.cli._print import print_json
    from mechdistill.report import MAX_SIZE, budget_of
    from mechdistill.report import report as made
    from mechdistill.runs import Experiment, load, write_text

    size = MAX_SIZE if max_size is None else max_size
    budget_of(size)  # raises, before anything is said
    target = load(directory)
    runs = [run for run in (target.runs if isinstance(target, Experiment) else [target]) if run.steps]
    stderr.print(
        f"{directory}: scores, rows and ablations of {len(runs)} runs with {sum(len(run.steps) for run in runs)} "
        "checkpoints; what is measured is kept, so that the next report takes seconds"
    )
    written = made(target, max_size=size, fresh=no_cache)
    write_text(path, written.html)
    for remark in written.remarks:
        stderr.print(f"left out: {remark}")
    stderr.print(written.models)
    n_bytes = path.stat().st_size
    if json:
        print_json(pd.DataFrame([{"path": str(path), "bytes": n_bytes}]))
    stderr.print(f"report: {path}   ({n_bytes / 1e6:.1f} MB, opens offline in any browser)")
