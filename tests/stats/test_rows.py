"""What distillation does to rows: of tables whose answers were put into them, and of a count table's closed form."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from mechdistill.config import expand, load_experiment
from mechdistill.errors import MechdistillError
from mechdistill.sandbox import Sandbox
from mechdistill.stats import learning_speed, low_entropy_ratio, row_gain_slope, support_slope, tokens_to
from mechdistill.tables import LEARNING_SPEED, metrics
from mechdistill.training import tabular_laws

ENTROPIES = np.linspace(0.02, 4.0, 20)


def rows_of(arm: str, seed: int, tokens: int, kl: np.ndarray, visits: np.ndarray | None = None) -> pd.DataFrame:
    """A `row-curves` table of one checkpoint."""
    visits = np.full(len(kl), 50.0) if visits is None else visits
    about = {"run": f"{arm}/seed-{seed}", "arm": arm, "seed": seed, "step": tokens // 64, "tokens": tokens}
    rows = []
    for row, (value, n) in enumerate(zip(kl, visits, strict=True)):
        where: dict[str, Any] = {"row": row, "row_entropy": ENTROPIES[row], "bucket": row * 4 // len(kl), **about}
        rows += [metrics.KL.row(value, **where), metrics.POSITIONS.row(n, **where)]
    return pd.DataFrame(rows)


def test_the_gain_by_entropy_is_that_given_visits_and_not_what_visits_explain() -> None:
    rng = np.random.default_rng(0)
    visits = np.exp(5 + ENTROPIES + rng.normal(0, 0.3, 20))  # rows of high entropy are also seen more often
    spt = np.exp(rng.normal(-4, 1, 20))
    dpt = spt * np.exp(-(0.2 + 0.3 * ENTROPIES - 0.5 * np.log(visits)))
    later = rows_of("spt", 0, 6400, spt * 9, visits)  # the other arm has no table there
    none = rows_of("dpt", 1, 640, dpt, visits)  # nor has the other arm this seed
    table = pd.concat([rows_of("spt", 0, 640, spt, visits), rows_of("dpt", 0, 640, dpt, visits), later, none])
    found = row_gain_slope(table, "dpt", "spt")
    assert set(found) == {0}
    assert found[0].slope == pytest.approx(0.3, abs=1e-9)
    top = slice(15, 20)
    assert found[0].gain == pytest.approx((spt * visits)[top].sum() / (dpt * visits)[top].sum())
    with pytest.raises(MechdistillError, match="dpt-9"):
        row_gain_slope(table, "dpt-9", "spt")


def test_rows_of_low_entropy_are_compared_alone_and_are_none_where_there_are_none() -> None:
    spt, dpt = np.full(20, 0.1), np.where(ENTROPIES <= 0.1, 0.11, 0.9)
    table = pd.concat([rows_of("spt", 0, 64, spt), rows_of("dpt", 0, 64, dpt)])
    assert low_entropy_ratio(table, "dpt", "spt") == {0: pytest.approx(1.1)}
    assert low_entropy_ratio(table, "dpt", "spt", most=0.01) == {0: None}


def test_tokens_to_a_level_are_exact_on_what_decays_and_nan_where_it_stays_above() -> None:
    tokens = np.array([0, 100, 300, 1000])
    decay = 3 * np.exp(-tokens / 170)
    assert tokens_to(tokens, decay, 1.5) == pytest.approx(170 * math.log(2))
    assert math.isnan(tokens_to(tokens, decay, 1e-6))
    assert tokens_to(tokens, decay, 4.0) == 0


def test_learning_speed_finds_planted_slopes_with_the_interval_over_seeds() -> None:
    tokens = np.arange(0, 20_000, 500)
    slopes = {"spt": [0.5, 0.6, 0.75, 0.55], "dpt": [0.3, 0.45, 0.5, 0.3]}
    tables = []
    for arm, of_arm in slopes.items():
        for seed, slope in enumerate(of_arm):
            half = 300 * np.exp(slope * ENTROPIES)
            half[3] = 1e9  # a row that never gets there
            tables += [rows_of(arm, seed, int(t), 2 * 0.5 ** (t / half)) for t in tokens]
    found = learning_speed(pd.concat(tables), "spt")
    assert list(found) == [column.name for column in LEARNING_SPEED.columns]
    per_row = found[found["metric"] == metrics.TOKENS_TO_HALVE.name]
    assert per_row["value"].isna().sum() == 8
    one = per_row[(per_row["run"] == "dpt/seed-1") & (per_row["row"] == 7)]["value"].item()
    assert one == pytest.approx(300 * math.exp(0.45 * ENTROPIES[7]))
    fits = found[found["metric"] == metrics.HALVING_SLOPE.name]
    own = fits[fits["run"].notna()]
    np.testing.assert_allclose(own["value"], slopes["spt"] + slopes["dpt"])
    assert set(own["censored"]) == {1}
    arms = fits[fits["run"].isna() & fits["baseline"].isna()].set_index("arm")
    difference = fits[fits["baseline"] == "spt"].iloc[0]
    for line, values in (
        (arms.loc["spt"], slopes["spt"]),
        (difference, np.subtract(slopes["dpt"], slopes["spt"])),
    ):
        interval = scipy_stats.ttest_1samp(values, 0).confidence_interval()
        np.testing.assert_allclose([line["value"], line["low"], line["high"]], [np.mean(values), *interval])
        assert line["n"] == 4
    few = learning_speed(pd.concat(tables)[lambda t: t["seed"] < 2], "spt")
    assert few["low"].isna().all(), "two seeds give no interval"


SIZES = [16, 32, 64, 128]


def closed_form(seed: int) -> tuple[pd.DataFrame, dict[int, int]]:
    """Row curves of count tables, without a teacher and with the oracle's soft labels alone, in the preset's world."""
    config = load_experiment(preset_name="support")
    sandbox = Sandbox(config.sandbox)
    arms = [run for run in expand(config) if run.seed == seed]
    tables = []
    for run, most in zip(arms, (1_000_000, 30_000), strict=True):
        a_step = run.training.batch * run.sandbox.seq_len
        at = [0, *np.unique(np.geomspace(1, most // a_step, 24).astype(int)).tolist()]
        for step, law in zip(at, tabular_laws(Path(), run, sandbox, at, pseudo_count=0.0), strict=True):
            errors = ((law.numpy() - sandbox.pi) ** 2).sum(axis=1)
            about = {"arm": run.treatment, "seed": seed, "tokens": step * a_step}
            tables += [metrics.SQUARED_ERROR.row(error, row=row, **about) for row, error in enumerate(errors)]
    return pd.DataFrame(tables), dict(enumerate((sandbox.pi > 0).sum(axis=1).tolist()))


def test_a_table_with_a_perfect_teacher_needs_p_over_epsilon_squared_times_fewer_visits() -> None:
    """C12, the paper's proposition: the slope on log p is within .1 of 1 in every seed."""
    for seed in (0, 1, 2):
        table, support = closed_form(seed)
        assert sorted(set(support.values())) == SIZES
        found = support_slope(table, support, "dpt-100", "spt")[seed]
        assert found.slope == pytest.approx(1, abs=0.1)
        assert (found.sizes, found.censored) == (4, 0)
    assert support_slope(table, support, "spt", "spt")[seed].slope == pytest.approx(0)
    too_soon = support_slope(table[table["tokens"] < 300_000], support, "dpt-100", "spt")[seed]
    assert too_soon.censored > 0, "rows that do not get there are counted, never taken for others"
