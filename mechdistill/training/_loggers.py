"""Loggers: a run's metrics as curves on wandb or trackio while it trains. The run directory stays the record.

A logger must not change a run: it sees rows that are logged anyway, and one that fails is dropped with a warning.
"""

import hashlib
import os
import sys
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Protocol
from urllib.error import HTTPError
from urllib.request import urlopen

from mechdistill.config import RunConfig
from mechdistill.errors import MechdistillError, did_you_mean
from mechdistill.tables import ORDINARY

_PROJECT = "mechdistill"
_PATIENCE = 10  # seconds that a server may take to begin or end a run
_ANSWER = 3.0  # seconds that it may take to answer at all


class Logger(Protocol):
    """Where metrics go besides the run directory."""

    def start(self, config: RunConfig) -> None:
        """Begin a run, or go on with it where an earlier session ended."""
        ...

    def log(self, step: int, tokens: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """The metric rows of one evaluation, as they go into the run directory; steps logged before are skipped."""
        ...

    def finish(self, state: str) -> None:
        """The session is over: finished, interrupted or failed."""
        ...


def metric_name(row: Mapping[str, Any]) -> str:
    """A row's metric as one name: copy-accuracy/occurrence-2+, kl/bucket-0 (buckets are of ordinary positions)."""
    bucket, occurrence = row.get("bucket"), row.get("occurrence")
    name = str(row["metric"])
    if bucket is not None:
        name += f"/bucket-{bucket}"
    if occurrence is not None and not (bucket is not None and occurrence == ORDINARY):
        name += f"/occurrence-{occurrence}"
    return name


def _values(tokens: int, rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    return {"tokens": tokens, **{metric_name(row): row["value"] for row in rows}}


def run_id(config: RunConfig) -> str:
    """The same for every session of a run: a hash of its experiment, path and config."""
    text = f"{config.experiment}/{config.path}\n{config.model_dump_json()}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class WandbLogger:
    """Weights & Biases; WANDB_PROJECT, WANDB_MODE, WANDB_DIR and its other variables mean what they always do.

    Offline, every session is a folder of its own; they share an id, under which `wandb sync` joins them.
    """

    def start(self, config: RunConfig) -> None:
        """See `Logger`."""
        with redirect_stdout(sys.stderr):  # stdout is for results
            self._start(config)

    def _start(self, config: RunConfig) -> None:
        wandb: Any = import_module("wandb")
        server = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")
        offline = os.environ.get("WANDB_MODE", "online") == "online" and not _answers(server)
        if offline:
            warnings.warn(f"wandb: {server} does not answer, so it logs offline; `wandb sync` sends it", stacklevel=5)
        # what is not about the run (console, source code, packages) stays here
        settings = wandb.Settings(
            console="off",
            disable_code=True,
            disable_git=True,
            quiet=True,
            x_save_requirements=False,
            init_timeout=_PATIENCE,
            finish_timeout=_PATIENCE,
            login_timeout=_PATIENCE,
        )
        self._run: Any = wandb.init(
            project=os.environ.get("WANDB_PROJECT", _PROJECT),
            id=run_id(config),
            name=str(config.path),
            group=config.experiment,
            job_type=config.treatment,
            config=config.model_dump(mode="json"),
            resume="allow",
            reinit="create_new",
            settings=settings,
            **({"mode": "offline"} if offline else {}),
        )

    def log(self, step: int, tokens: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """See `Logger`."""
        if step >= self._run.step:
            with redirect_stdout(sys.stderr):
                self._run.log(_values(tokens, rows), step=step)

    def finish(self, state: str) -> None:
        """See `Logger`."""
        with redirect_stdout(sys.stderr):
            self._run.summary["state"] = state
            self._run.finish(exit_code=int(state == "failed"))


@cache
def _answers(server: str) -> bool:
    """Whether a server can be reached, by way of a proxy if there is one; asked once a process.

    In a thread of its own, since looking up a name cannot be given up.
    """
    answered = threading.Event()

    def ask() -> None:
        try:
            urlopen(server, timeout=_ANSWER).close()
        except HTTPError:  # an answer too
            answered.set()
        except (OSError, ValueError):
            return
        else:
            answered.set()

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(_ANSWER)
    return answered.is_set()


class TrackioLogger:
    """Trackio: local unless TRACKIO_SPACE_ID or TRACKIO_SERVER_URL says otherwise; TRACKIO_DIR is where."""

    def start(self, config: RunConfig) -> None:
        """See `Logger`."""
        with redirect_stdout(sys.stderr):  # stdout is for results
            self._trackio: Any = import_module("trackio")
            self._run: Any = self._trackio.init(
                project=_PROJECT,
                name=f"{config.experiment}/{config.path} {run_id(config)}",  # its runs are known by their names
                group=config.experiment,
                config=config.model_dump(mode="json"),
                resume="allow",
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )

    def log(self, step: int, tokens: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """See `Logger`."""
        if step >= self._run._next_step:
            self._run.log(_values(tokens, rows), step=step)

    def finish(self, state: str) -> None:
        """See `Logger`."""
        del state  # it keeps none
        with redirect_stdout(sys.stderr):
            self._trackio.finish()  # not the run's own method: that would be called again at exit, onto stdout


LOGGERS: dict[str, Callable[[], Logger]] = {"wandb": WandbLogger, "trackio": TrackioLogger}


def logger(name: str) -> Logger:
    """A logger by name; one that fails later is dropped with a warning, and the run goes on.

    Raises `MechdistillError` for a name that is none, or a package that is not installed.
    """
    if name not in LOGGERS:
        raise MechdistillError(f"logger '{name}': no such logger; {did_you_mean(name, LOGGERS)}")
    if find_spec(name) is None:
        raise MechdistillError(f"logger '{name}': its package is not installed; pip install mechdistill[{name}]")
    return _Guarded(name, LOGGERS[name]())


class _Guarded:
    """Another logger, until its first exception."""

    def __init__(self, name: str, inner: Logger):
        self._name, self._inner = name, inner
        self._broken = False

    def start(self, config: RunConfig) -> None:
        self._try(lambda: self._inner.start(config))

    def log(self, step: int, tokens: int, rows: Sequence[Mapping[str, Any]]) -> None:
        self._try(lambda: self._inner.log(step, tokens, rows))

    def finish(self, state: str) -> None:
        self._try(lambda: self._inner.finish(state))

    def _try(self, call: Callable[[], None]) -> None:
        if self._broken:
            return
        try:
            call()
        except Exception as error:  # whatever a network or a library can raise
            self._broken = True
            reason = " ".join(str(error).split()) or type(error).__name__
            warnings.warn(f"logger '{self._name}' failed and is off; the run goes on ({reason})", stacklevel=4)
