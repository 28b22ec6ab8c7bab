import numpy as np
import pandas as pd
import pytest

import mechdistill as md
from mechdistill.circuits import SCORES, targets
from mechdistill.config import expand
from mechdistill.evals import describe
from mechdistill.plots import (
    ablation_figure,
    arm_colours,
    comparison_figure,
    induction_scores_figure,
    row_curves_figure,
    sandbox_figure,
)
from mechdistill.plots._by_entropy import binned, crossings
from mechdistill.plots._colours import ON_PALE, ON_STRONG
from mechdistill.plots._row_curves import log_ticks
from mechdistill.plots._twins import beside, columns_for
from mechdistill.runs import Experiment
from mechdistill.stats import compare_formation, compare_twins
from mechdistill.tables import arms_of, with_arms


def test_every_value_of_the_table_is_in_the_heat_maps(scores: pd.DataFrame) -> None:
    figure = induction_scores_figure(scores)
    scores = scores[scores["head"].notna()]  # the others are in figures of their own
    pairs = scores[scores["source_head"].notna()]["metric"].unique()
    metrics, runs = scores["metric"].nunique(), scores["run"].nunique()
    maps = [trace for trace in figure.data if trace.type == "heatmap"]
    assert len(maps) == metrics * runs
    assert sum(bool(trace.visible) for trace in maps) == runs
    steps = sorted(scores.loc[scores["run"] == "spt/seed-0", "step"].unique())
    assert [frame.name for frame in figure.frames] == [str(step) for step in steps]
    order = list(dict.fromkeys(scores["metric"]))
    for frame, step in zip(figure.frames, steps, strict=True):
        at = scores[(scores["run"] == "spt/seed-0") & (scores["step"] == step)]
        for i, metric in enumerate(order):
            if metric in pairs:
                continue
            cells, numbers = frame.data[2 * i * runs : 2 * i * runs + 2]
            assert len(numbers.text) == cells.z.size
            for row in at[at["metric"] == metric].to_dict("records"):
                assert cells.z[row["layer"]][row["head"]] == row["value"]
                place = row["layer"] * cells.z.shape[1] + row["head"]
                assert numbers.text[place] == f"{row['value']:.2f}"
                if SCORES[metric].low == 0:
                    assert numbers.textfont.color[place] == (ON_STRONG if row["value"] >= 0.5 else ON_PALE)


def test_a_run_that_stopped_early_shows_its_last_checkpoint(scores: pd.DataFrame) -> None:
    figure = induction_scores_figure(scores)
    teacher = list(dict.fromkeys(scores["run"])).index("teachers/young/seed-0")
    own = scores[(scores["run"] == "teachers/young/seed-0") & (scores["metric"] == scores["metric"].iloc[0])]
    last = own[own["step"] == own["step"].max()]
    z = figure.frames[-1].data[2 * teacher].z
    assert [z[r["layer"]][r["head"]] for r in last.to_dict("records")] == last["value"].tolist()


def test_one_checkpoint_needs_no_slider(trained: Experiment) -> None:
    figure = induction_scores_figure(md.induction_scores(trained))
    assert not figure.frames
    assert not figure.layout.sliders


def test_the_forest_plot_has_every_difference_and_its_interval() -> None:
    values = pd.DataFrame(
        [
            {"arm": arm, "seed": seed, "metric": metric, "value": shift * seed**2 + len(metric)}
            for arm, shift in (("spt", 1.0), ("a", 1.5), ("b", -2.0))
            for seed in range(4 if arm != "b" else 2)
            for metric in ("kl", "copy-excess")
        ]
    )
    table = compare_twins(values, "spt")
    figure = comparison_figure(table)
    assert len(figure.data) == len(table) == 4
    found = {(trace.name, round(trace.x[0], 9)) for trace in figure.data}
    assert found == {(row["arm"], round(row["difference"], 9)) for row in table.to_dict("records")}
    for trace in figure.data:
        row = table[(table["arm"] == trace.name)].iloc[0]
        open_circle = trace.name == "b"  # two pairs: no interval
        assert trace.marker.symbol.endswith("-open") == open_circle
        assert trace.error_x.visible != open_circle
        if not open_circle:
            assert trace.x[0] + trace.error_x.array[0] == pytest.approx(row["high"])
            assert trace.x[0] - trace.error_x.arrayminus[0] == pytest.approx(row["low"])


def test_the_forest_plot_says_that_nothing_formed() -> None:
    runs = [{"arm": arm, "seed": s, "step": 8, "formed": False, "last": 8} for arm in ("spt", "a") for s in range(3)]
    (trace,) = comparison_figure(compare_formation(pd.DataFrame(runs), "spt", ["a"], 0.7)).data
    assert (trace.mode, trace.text) == ("text", ("nothing formed in either arm by 8 tokens",))
    for text in ("no difference known", "accuracy 0.700 on, followed up to 8 tokens", "3 of 3, of the baseline 3"):
        assert text in trace.customdata[0]


def test_long_names_and_no_difference_in_the_forest_plot() -> None:
    """Names stay apart and whole when hovering, panels keep their room, and an axis of zeros invents no numbers."""
    arms = [f"{start}-arm-with-quite-a-long-name-that-nobody-would-choose" for start in ("an", "another")]
    rows = [
        {"arm": arm, "seed": seed, "metric": metric, "value": 1.0}
        for arm in ("spt", *arms)
        for seed in (0, 1)
        for metric in ("kl", "formation-tokens", "copy-excess")
    ]
    figure = comparison_figure(compare_twins(pd.DataFrame(rows), "spt"))
    axis = next(figure.select_yaxes())
    assert sorted(axis.tickvals) == sorted(arms)
    assert len(set(axis.ticktext)) == 2
    assert max(len(line) for text in axis.ticktext for line in text.split("<br>")) <= 18
    assert all(trace.customdata[0].startswith(trace.y[0]) for trace in figure.data)
    titles = [note.text for note in figure.layout.annotations]
    assert max(len(line) for text in titles for line in text.split("<br>")) <= 24
    assert not any(text.endswith("tokens") for text in titles), "the axis says the unit"
    assert {axis.tickvals for axis in figure.select_xaxes()} == {(0.0,)}
    assert "  " not in figure.layout.title.subtitle.text


def test_triggers_are_striped(trained: Experiment) -> None:
    world = trained.run("spt/seed-0").world
    bars = [trace for trace in sandbox_figure(world, describe(world)).data if trace.type == "bar"]
    striped = [sorted(trace.y) for trace in bars if trace.marker.pattern.shape]
    triggers = world.rate == 1
    assert striped == [sorted(world.row_entropy[triggers]), sorted(world.stationary[triggers])]
    assert sum(len(trace.y) for trace in bars) == 2 * world.vocab


@pytest.mark.parametrize(
    ("low", "high"), [(0.61, 0.79), (0.11, 0.9), (0.0021, 0.0024), (3.0, 5.0), (0.001, 4.0), (6e4, 9e5), (2e-8, 2.0)]
)
def test_every_log_axis_has_numbers(low: float, high: float) -> None:
    ticks = log_ticks(pd.Series([low, high]))
    assert ticks == sorted(set(ticks))
    assert len(ticks) < 200, "a browser lays out every one of them"
    assert 3 <= sum(low <= tick <= high for tick in ticks) <= 12


def test_figures_of_a_part_of_the_experiment_keep_its_looks(trained: Experiment) -> None:
    """The arms are noted with the table, so that a figure of some of them, or of one run, looks like that of all."""
    config = trained.config.model_copy(
        update={
            "arms": {"first": trained.config.arms["spt"], **trained.config.arms, "last": trained.config.arms["spt"]}
        }
    )
    whole = arm_colours(["first", "spt", "dpt", "last", "teacher:young"])
    assert arms_of(md.row_curves(trained)) == ["spt", "dpt", "teacher:young"]
    assert arms_of(md.row_curves(trained.run("dpt/seed-0"))) == ["spt", "dpt", "teacher:young"]
    table = with_arms(md.row_curves(trained.run("dpt/seed-0")), (run.treatment for run in expand(config)))
    for part in (table, table[table["step"] > 0]):
        lines = {t.line.color for t in row_curves_figure(part).data if t.showlegend and t.legendgroup == "dpt"}
        assert lines == {arm_colours(arms_of(table))["dpt"].colour}
    assert whole["dpt"] != arm_colours(["dpt"])["dpt"]


def test_twins_stand_in_the_same_places() -> None:
    """Seven arms of three seeds, one run missing: a seed's rows have all arms in order, and every panel every bar."""
    rows = [
        {
            "run": f"{arm}/seed-{seed}",
            "arm": arm,
            "seed": seed,
            "step": 9,
            "metric": "copy-loss-delta",
            "value": 1.0,
            "bucket": None,
        }
        | {
            "what": "head",
            "layer": 0,
            "head": head,
            "heads": None,
            "control": False,
            "ablation": "mean",
            "mode": "full",
        }
        for seed in range(3)
        for arm in "abcdefg"
        for head in range(2 if arm == "b" else 4)
        if (arm, seed) != ("c", 1)
    ]
    table = pd.DataFrame(rows)
    order, columns = beside(table)
    assert columns == 4
    second = [["a/seed-1", "b/seed-1", "", "d/seed-1"], ["e/seed-1", "f/seed-1", "g/seed-1", ""]]
    assert [order[i : i + 4] for i in (8, 12)] == second
    figure = ablation_figure(table)
    axes = list(figure.select_yaxes())
    assert len({(axis.ticktext, axis.tickvals, axis.range) for axis in axes if axis.visible is not False}) == 1
    assert [axis.visible for axis in axes].count(False) == order.count("")
    assert len({round(axis.domain[1] - axis.domain[0], 9) for axis in axes}) == 1


def test_row_curves_average_buckets_over_positions(trained: Experiment) -> None:
    table = md.row_curves(trained)
    figure = row_curves_figure(table)
    spt = next(trace for trace in figure.data if trace.name == "spt" and trace.showlegend)
    rows = table[(table["arm"] == "spt") & (table["bucket"] == 0)]
    wide = rows.pivot(index=["tokens", "row"], columns="metric", values="value").reset_index()
    wide["total"] = wide["kl"] * wide["positions"]
    expected = wide.groupby("tokens")["total"].sum() / wide.groupby("tokens")["positions"].sum()
    assert list(spt.x) == list(expected.index)
    assert list(spt.y) == pytest.approx(list(expected))


def test_several_seeds_are_a_mean_in_a_band_from_the_lowest_to_the_highest(trained: Experiment) -> None:
    table = md.row_curves(trained.run("spt/seed-0"))
    other = table.assign(seed=1, run="spt/seed-1", value=table["value"] * 3)
    alone = next(trace for trace in row_curves_figure(table).data if trace.showlegend)
    band, mean = [t for t in row_curves_figure(pd.concat([table, other])).data if t.legendgroup == "spt"][:2]
    assert list(mean.y) == pytest.approx([2 * value for value in alone.y])
    n = len(alone.x)
    assert (list(band.x[:n]), list(band.x[n:])) == (list(alone.x), list(alone.x)[::-1])
    assert list(band.y[:n]) == pytest.approx([3 * value for value in alone.y])
    assert list(band.y[n:]) == pytest.approx(list(alone.y)[::-1])


def test_a_mean_goes_as_far_as_all_of_its_seeds(trained: Experiment) -> None:
    table = md.row_curves(trained.run("spt/seed-0"))
    short = table[table["step"] <= 12].assign(seed=1, run="spt/seed-1")
    mean = next(t for t in row_curves_figure(pd.concat([table, short])).data if t.showlegend)
    assert max(mean.x) == short["tokens"].max()


def test_where_nothing_can_be_copied_no_panel_is_empty(trained: Experiment) -> None:
    table = md.row_curves(trained.run("spt/seed-0"))
    figure = row_curves_figure(table[table["row"].notna()])
    *small, last = figure.select_xaxes()
    assert len(small) == 4
    assert {trace.xaxis for trace in figure.data} == {"x", "x2", "x3", "x4", "x5"}
    assert last.domain == (0, 1), "the last one has the place of two"


def test_where_two_arms_cross_is_marked() -> None:
    """KL of 2^(entropy - 1) against 2^(1 - entropy): equal at 1 nat, where both are 1; 24 rows in 8 bins."""
    entropy = np.linspace(0.0, 2.3, 24)
    rows = pd.DataFrame(
        [
            {
                "arm": arm,
                "run": f"{arm}/seed-0",
                "step": 1,
                "row": i,
                "row_entropy": h,
                "value": 2.0 ** (sign * (h - 1)),
            }
            for arm, sign in (("spt", 1), ("dpt-90", -1))
            for i, h in enumerate(entropy)
        ]
    )
    lines = binned(rows)
    assert list(lines.groupby("arm")["n"].unique().map(list)) == [[3], [3]]
    one, other = (lines[lines["arm"] == arm] for arm in ("spt", "dpt-90"))
    ((at, kl),) = crossings(one, other)
    assert at == pytest.approx(1, abs=0.01)
    assert kl == pytest.approx(1, abs=0.01)
    assert crossings(one, one.assign(value=one["value"] * 2)) == []


@pytest.mark.parametrize(
    ("panels", "columns"), [(1, 1), (2, 2), (3, 3), (4, 4), (5, 5), (6, 3), (8, 4), (9, 3), (10, 5)]
)
def test_no_place_stays_empty_where_that_can_be(panels: int, columns: int) -> None:
    assert columns_for(panels) == columns
    assert panels % columns == 0


def test_sets_lie_before_the_band_of_their_controls(trained: Experiment) -> None:
    heads = md.ablate(trained.run("spt/seed-0"))
    head = heads[heads["what"] == targets.HEAD.name].head(1)
    half = head.assign(what=targets.LOOKUP.name, heads="L1H0", value=2.5)
    controls = [
        head.assign(what=targets.control(targets.LOOKUP, kind), control=True, value=value)
        for kind, values in ((targets.REMOVED, (-0.5, 0.25)), (targets.OUTSIDE, (1.5,)))
        for value in values
    ]
    figure = ablation_figure(pd.concat([heads, half, *controls]))
    axis = next(iter(figure.select_yaxes()))
    place = dict(zip(axis.ticktext, axis.tickvals, strict=True))[targets.LOOKUP.label]
    band = next(trace for trace in figure.data if trace.name == "range of the controls")
    bars = next(trace for trace in figure.data if trace.name == "mean ablation")
    assert (band.base[0], band.base[0] + band.x[0]) == (-0.5, 1.5)
    at = list(bars.y).index(band.y[0])
    assert bars.x[at] == 2.5
    assert abs(bars.y[at] - place) < 0.5
    assert list(figure.data).index(band) < list(figure.data).index(bars), "bars are drawn over bands"


def test_a_bar_is_the_mean_of_its_draws(trained: Experiment) -> None:
    table = md.ablate(trained.run("spt/seed-0"))
    first = table[table["what"] == targets.HEAD.name].head(1)
    figure = ablation_figure(pd.concat([table, first.assign(value=9.0)]))
    bars = next(trace for trace in figure.data if trace.name == "mean ablation")
    at = next(i for i, text in enumerate(bars.customdata) if "L0H0" in text)
    assert bars.x[at] == pytest.approx((first["value"].item() + 9) / 2)
    assert bars.error_x.array[at] == pytest.approx((9 - first["value"].item()) / 2)


def test_ticks_are_sums_of_heads_alone_and_diamonds_held_patterns() -> None:
    """Pairs and the strongest heads have the primary ablation's bar alone; pairs go where several runs stand."""
    row = {"run": "a/seed-0", "arm": "a", "seed": 0, "step": 9, "metric": "copy-loss-delta", "bucket": None}
    row |= {"layer": None, "head": None, "heads": None, "control": False, "mode": "full"}
    rows: list[dict[str, object]] = []
    for ablation in ("mean", "zero"):
        of = row | {"ablation": ablation}
        rows += [of | {"what": "head", "layer": 0, "head": head, "value": 1.0} for head in (0, 1)]
        rows += [of | {"what": "head", "layer": 0, "head": 0, "value": 0.25, "mode": "pattern-preserving"}]
        rows += [of | {"what": "head", "layer": 0, "head": 1, "value": 1.0, "mode": "pattern-preserving"}]
        for what in ("pair", "top-2", "lookup"):
            both = of | {"what": what, "heads": "L0H0 L0H1"}
            rows += [both | {"value": 3.0}, both | {"value": 1.0, "metric": "self-repair"}]
    table = pd.DataFrame(rows).astype({"layer": "Int64", "head": "Int64"})
    figure = ablation_figure(table)
    axis = next(iter(figure.select_yaxes()))
    places = dict(zip(axis.ticktext, axis.tickvals, strict=True))
    assert list(places) == ["L0H0", "L0H1", "L0H0 + L0H1", "lookup heads, jointly", "top 2 by trigger lookup"]
    ticks = [trace for trace in figure.data if trace.name == "sum of the set's heads alone"]
    assert [list(trace.x) for trace in ticks] == [[2.0] * 3, [2.0]]
    assert "self-repair 1.000 nats" in ticks[0].customdata[0]
    diamonds = [trace for trace in figure.data if trace.name == "patterns held as they were"]
    assert [list(trace.x) for trace in diamonds] == [[0.25], [0.25]], "none where nothing changes"
    assert all(abs(trace.y[0] - places["L0H0"]) < 0.5 for trace in diamonds)
    two = ablation_figure(pd.concat([table, table.assign(run="b/seed-0", arm="b")]))
    assert "L0H0 + L0H1" not in next(iter(two.select_yaxes())).ticktext
