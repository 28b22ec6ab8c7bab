"""What every test shares: one torch thread, as in a run."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import settings

from mechdistill.runs import Experiment, load
from mechdistill.training import train
from tests.helpers import micro, only_meanwhile

os.environ.pop("COLUMNS", None)  # pytest-xdist's: what is no terminal has no width

# examples are random where we develop and fixed in CI, where a new one would fail somebody else's change; and no
# example has a deadline, since two test processes share two cores
settings.register_profile("mechdistill", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("mechdistill")


TOGETHER = ("test_quickstart.py", "test_analyses.py", "test_trunk.py", "test_notebooks.py", "report/", "plots/")
"""Files whose tests stay in one process, since what they share takes long to make."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for part in TOGETHER:
            if part in item.nodeid.partition("::")[0]:
                item.add_marker(pytest.mark.xdist_group(part))


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    """A finished micro experiment with twins and a checkpoint teacher; tests must not write into it."""
    out: Path = tmp_path_factory.mktemp("trained") / "micro"
    outcomes = train(micro(), out)
    assert {outcome.state for outcome in outcomes} == {"finished"}, outcomes
    experiment = load(out)
    assert isinstance(experiment, Experiment)
    return experiment


@pytest.fixture
def own_definitions() -> Iterator[None]:
    """Whatever a test registers or loads as a plug-in is gone after it."""
    with only_meanwhile():
        yield


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A real browser; one for the whole session, since a thread can drive only one at a time."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is not installed")
    from playwright.sync_api import sync_playwright

    flags = (
        "--no-sandbox --disable-gpu --disable-background-networking --disable-component-update --disable-sync "
        "--no-first-run"
    )
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=flags.split())
        yield browser
        browser.close()
