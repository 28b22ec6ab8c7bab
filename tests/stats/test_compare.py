import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mechdistill.errors import MechdistillError
from mechdistill.stats import adjusted, bca, compare_formation, compare_twins, holm, paired
from mechdistill.tables import COMPARISON


def values(seeds: int = 6, arms: tuple[str, ...] = ("spt", "dpt-50", "dpt-90")) -> pd.DataFrame:
    """Two metrics of every run, arms in this order; twins share most of their luck."""
    rng = np.random.default_rng(0)
    luck = rng.normal(size=seeds)
    rows = [
        {"arm": arm, "seed": seed, "metric": metric, "value": luck[seed] + effect * place + rng.normal() / 4}
        for place, arm in enumerate(arms)
        for seed in range(seeds)
        for metric, effect in (("copy-excess", 0.3), ("kl", 0.0))
    ]
    return pd.DataFrame(rows).astype({"arm": "string", "seed": "Int64", "metric": "string"})


def cell(table: pd.DataFrame, metric: str, arm: str) -> pd.Series:
    rows = table[(table["metric"] == metric) & (table["arm"] == arm)]
    assert len(rows) == 1
    return rows.iloc[0]


def test_every_arm_and_metric_against_the_baseline() -> None:
    data = values()
    table = compare_twins(data.sample(frac=1, random_state=0), "spt")
    assert list(table) == [column.name for column in COMPARISON.columns]
    assert table.dtypes.astype(str).to_dict() == {column.name: column.dtype for column in COMPARISON.columns}
    assert len(table) == 4
    assert set(table["baseline"]) == {"spt"}
    for row in table.itertuples():
        one = data[data["metric"] == row.metric].set_index(["arm", "seed"])["value"]
        differences = np.array([one[row.arm, seed] - one["spt", seed] for seed in range(6)])
        for name, expected in paired(differences)._asdict().items():
            assert getattr(row, name) == pytest.approx(expected)
        assert (row.bca_low, row.bca_high) == pytest.approx(bca(differences))
    assert table["p_holm"].to_numpy() == pytest.approx(holm(table["p"]))
    assert table["note"].isna().all()


def test_holm_runs_over_the_primaries_and_arms_only() -> None:
    table = compare_twins(values(), "spt", ["copy-excess"])
    primary = table["metric"] == "copy-excess"
    assert table.loc[primary, "p_holm"].to_numpy() == pytest.approx(holm(table.loc[primary, "p"]))
    assert table.loc[~primary, "p_holm"].isna().all()
    assert compare_twins(values(), "spt", [])["p_holm"].isna().all()


def test_a_seed_on_one_side_only_makes_no_pair() -> None:
    data = values()
    alone = (data["arm"] == "dpt-90") & (data["seed"] == 2) | (data["arm"] == "spt") & (data["seed"] == 5)
    table = compare_twins(data[~alone], "spt")
    both = compare_twins(data[~data["seed"].isin([2, 5])], "spt")
    assert cell(table, "kl", "dpt-90")["n"] == 4
    assert cell(table, "kl", "dpt-50")["n"] == 5
    assert cell(table, "kl", "dpt-90")["difference"] == cell(both, "kl", "dpt-90")["difference"]


def test_teachers_never_enter() -> None:
    data = values()
    teacher = data[data["arm"] == "spt"].assign(arm="teacher:half-formed", value=math.nan)
    pd.testing.assert_frame_equal(compare_twins(pd.concat([teacher, data]), "spt"), compare_twins(data, "spt"))
    with pytest.raises(MechdistillError, match="arm 'teacher:half-formed': no run"):
        compare_twins(pd.concat([teacher, data]), "teacher:half-formed")


def test_few_seeds_and_equal_twins_have_a_difference_but_no_interval() -> None:
    table = compare_twins(values(seeds=2), "spt")
    assert table["difference"].notna().all()
    assert table[["low", "high", "p", "p_sign_flip", "bca_low", "minimum_detectable"]].isna().all(axis=None)
    assert set(table["p_holm"]) == {1}, "asked, and not answered"
    assert set(table["note"]) == {"fewer than 3 pairs: no interval"}
    data = values(arms=("spt",))
    same = compare_twins(pd.concat([data, data.assign(arm="a-a")]), "spt")
    assert same["difference"].tolist() == [0, 0]
    assert same["p_sign_flip"].tolist() == [1, 1]
    assert set(same["note"]) == {"the same difference in every pair: no interval"}


def test_arms_without_a_shared_seed_say_so_and_unshared_metrics_have_no_row() -> None:
    data = values(arms=("spt", "dpt-90"))
    data.loc[data["arm"] == "dpt-90", "seed"] += 100
    apart = compare_twins(data, "spt")
    assert apart["n"].tolist() == [0, 0]
    assert apart["difference"].isna().all()
    own = values()[:1].assign(arm="dpt-90", metric="teacher-agreement")
    both = pd.concat([values(), own])
    assert set(compare_twins(both, "spt", ["kl"])["metric"]) == {"copy-excess", "kl"}
    asked = cell(compare_twins(both, "spt", ["kl", "teacher-agreement"]), "teacher-agreement", "dpt-90")
    assert (asked["n"], asked["note"], asked["p_holm"]) == (0, "not measured in spt", 1)


def test_a_question_that_lost_its_runs_still_counts_among_those_asked() -> None:
    """Losing runs must not make the other questions easier to answer."""
    data = values()
    lost = data[~((data["arm"] == "dpt-50") & (data["metric"] == "kl") & (data["seed"] > 0))]
    table, lacking = compare_twins(data, "spt"), compare_twins(lost, "spt")
    p = [cell(table, metric, arm)["p"] for metric, arm in (("kl", "dpt-90"), ("copy-excess", "dpt-90"))]
    smallest = cell(lacking, "copy-excess", "dpt-90")
    assert smallest["p"] == min(p) == lacking["p"].min()
    assert smallest["p_holm"] == pytest.approx(min(1, 4 * smallest["p"])), "of four questions, though one has no answer"


def formation(**runs: list[tuple[int, bool, int]]) -> pd.DataFrame:
    """Arms given as (step, formed, last) by seed."""
    rows = [(arm, seed, *run) for arm, of in runs.items() for seed, run in enumerate(of)]
    return pd.DataFrame(rows, columns=["arm", "seed", "step", "formed", "last"]).astype({"formed": "boolean"})


TWINS = {
    "spt": [(100, True, 1000), (220, True, 1000), (900, True, 1000), (1000, False, 1000)],
    "dpt": [(150, True, 800), (800, False, 800), (300, True, 800), (700, True, 800)],
}


def test_a_pair_of_arms_is_followed_up_to_the_smaller_of_its_own_budgets() -> None:
    row = compare_formation(formation(**TWINS), "spt", ["dpt"], 0.6).iloc[0]
    differences = [150 - 100, 800 - 220, 300 - 800, 700 - 800]
    expected = paired(differences)
    assert (row["difference"], row["p"], row["n"]) == (expected.difference, expected.p, 4)
    assert (row["threshold"], row["horizon"], row["censored"], row["baseline_censored"]) == (0.6, 800, 1, 2)


@pytest.mark.parametrize(
    "bystander",
    [
        {"half": [(90, True, 400), (400, False, 400)] * 2},
        {"long": [(9000, True, 9000)] * 4},
        {"teacher:young": [(10, False, 10)] * 4},
        {"dpt": [*TWINS["dpt"], (5, True, 5)]},  # a seed without a twin
    ],
    ids=str,
)
def test_bystanders_change_no_bit_of_a_pair(bystander: dict) -> None:
    alone = compare_formation(formation(**TWINS), "spt", ["dpt"], 0.6)
    among = formation(**(TWINS | bystander))
    arms = [arm for arm in TWINS | bystander if arm not in ("spt", "teacher:young")]
    table = compare_formation(among.sample(frac=1, random_state=0), "spt", arms, 0.6)
    pd.testing.assert_frame_equal(table[table["arm"] == "dpt"].reset_index(drop=True), alone, check_exact=True)


def test_where_nothing_formed_there_is_no_difference_and_the_question_stays_asked() -> None:
    never = {"spt": [(1000, False, 1000)] * 4, "dpt": [(900, True, 1200)] + [(800, False, 800)] * 3}
    table = compare_formation(formation(**never, other=[(1, True, 10)]), "spt", ["dpt", "gone", "other"], 0.9)
    row = cell(table, "formation-tokens", "dpt")
    assert row["note"] == "nothing formed in either arm by 800 tokens", "what forms after the horizon is censored"
    assert row[["difference", "low", "p", "p_sign_flip"]].isna().all()
    assert (row["n"], row["horizon"], row["censored"], row["baseline_censored"]) == (4, 800, 4, 4)
    assert cell(table, "formation-tokens", "gone")["note"] == "not measured in gone"
    assert cell(table, "formation-tokens", "other")["difference"] < 0
    assert set(adjusted(table, ["formation-tokens"])["p_holm"]) == {1}


def test_the_baseline_alone_gives_an_empty_table() -> None:
    table = compare_twins(values(arms=("spt",)), "spt")
    assert len(table) == 0
    assert list(table) == [column.name for column in COMPARISON.columns]


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        (lambda d: d, ("stp",), "arm 'stp': no run to compare with; did you mean 'spt'"),
        (lambda d: d[:0], ("spt",), "arm 'spt': no run to compare with; no runs"),
        (lambda d: d, ("spt", ["copy-exces"]), "primary metric 'copy-exces': not measured; did you mean 'copy-excess'"),
        (lambda d: pd.concat([d, d[:1]]), ("spt",), "metric copy-excess, arm spt, seed 0, value .*: must appear once"),
        (
            lambda d: d.assign(value=math.inf),
            ("spt",),
            "metric copy-excess, arm spt, seed 0, value inf: must be finite",
        ),
    ],
)
def test_what_cannot_be_compared_is_named(change, arguments: tuple, message: str) -> None:
    with pytest.raises(MechdistillError, match=message):
        compare_twins(change(values()), *arguments)


@given(st.lists(st.tuples(*[st.integers(-50, 50)] * 2), min_size=3, max_size=8))
def test_swapping_arm_and_baseline_flips_signs(pairs: list[tuple[int, int]]) -> None:
    rows = [(arm, seed, "kl", x) for seed, pair in enumerate(pairs) for arm, x in zip(("a", "b"), pair, strict=True)]
    data = pd.DataFrame(rows, columns=["arm", "seed", "metric", "value"])
    one, swapped = compare_twins(data, "a").iloc[0], compare_twins(data, "b").iloc[0]
    assert (swapped["arm"], swapped["baseline"]) == (one["baseline"], one["arm"])
    for name in ("difference", "effect_size"):
        assert swapped[name] == pytest.approx(-one[name], nan_ok=True)
    for low, high in (("low", "high"), ("bca_low", "bca_high")):
        assert (swapped[low], swapped[high]) == pytest.approx((-one[high], -one[low]), nan_ok=True)
    for name in ("n", "p", "p_sign_flip", "p_holm", "minimum_detectable"):
        assert swapped[name] == pytest.approx(one[name], nan_ok=True)
