"""Running the notebooks from the first cell to the last in a fresh kernel, and storing what they show.

    python -m analyses.notebooks              # stores both anew; needs runs/quickstart and a browser for the pictures

Stored are pictures and tables, so that a reader on the web sees them; nothing of what is live, which is megabytes.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nbformat
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

HERE = Path(__file__).parent
NOTEBOOKS = (HERE / "explore_heads.ipynb", HERE / "extend.ipynb")
LIVE, PARAMETERS = "live", "parameters"  # tags of cells


def executed(path: Path, folder: Path, renderer: str, parameters: Mapping[str, Any] | None = None) -> Any:
    """The notebook after a run in `folder`, its parameters replaced by these; raises what a cell raises.

    `renderer` is plotly's: what a figure becomes. The kernel is this very Python, and writes nothing outside `folder`
    and a temporary one.
    """
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if parameters and PARAMETERS in tags(cell):
            cell.source = "\n".join(f"{name} = {value!r}" for name, value in parameters.items())
    with TemporaryDirectory() as own:
        # without directories to search, a kernel is what runs this file, not what another Python has left for the user
        kernel = AsyncKernelManager(
            kernel_spec_manager=KernelSpecManager(kernel_dirs=[]),
            connection_file=str(Path(own) / "kernel.json"),
            transport="ipc",  # no port is opened
        )
        client = NotebookClient(
            notebook, kernel, timeout=600, record_timing=False, resources={"metadata": {"path": str(folder)}}
        )
        return client.execute(env={**os.environ, "PLOTLY_RENDERER": renderer, "IPYTHONDIR": own}, cleanup_kc=True)


def tags(cell: Any) -> list[str]:
    """What a cell is marked as."""
    return cell.metadata.get("tags", [])


def store(path: Path) -> None:
    """Run a notebook where it lies, and write it with what it shows."""
    notebook = executed(path, path.parent, "png")
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [] if LIVE in tags(cell) else [output for output in cell.outputs if _is_read(output)]
    notebook.metadata = {"kernelspec": notebook.metadata["kernelspec"], "language_info": {"name": "python"}}
    nbformat.write(notebook, path)


def _is_read(output: Any) -> bool:
    """Whether it is for a reader: neither a warning of this machine nor what is left of a progress bar."""
    return output.get("name") != "stderr" and output.get("data", {"text/plain": "as a stream"}).get("text/plain") != ""


if __name__ == "__main__":
    for notebook in [Path(name) for name in sys.argv[1:]] or NOTEBOOKS:
        store(notebook)
