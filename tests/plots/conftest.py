"""Every table and every figure, made once."""

import pandas as pd
import plotly.graph_objects as go
import pytest

import mechdistill as md
from mechdistill.runs import Experiment
from tests.plots import every


@pytest.fixture(scope="session")
def scores(trained: Experiment) -> pd.DataFrame:
    return md.induction_scores(trained, "all")


@pytest.fixture(scope="session")
def tables(trained: Experiment) -> dict[str, pd.DataFrame]:
    """Of five arms and two seeds; tests must not write into them."""
    return every.tables(trained.run("spt/seed-0"))


@pytest.fixture(scope="session")
def figures(tables: dict[str, pd.DataFrame], trained: Experiment) -> dict[str, go.Figure]:
    """Every figure there is."""
    return every.figures(tables, trained.run("spt/seed-0").world)
