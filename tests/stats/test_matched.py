import pandas as pd
import pytest

from mechdistill.errors import MechdistillError
from mechdistill.stats import compare_twins, matched_pass_at_k
from mechdistill.tables import PASS_AT_K, frame, with_run


def run(arm: str, seed: int, sweep: dict[float, tuple[float, float]], *, step: int = 10, task: str = "chains"):
    """temperature -> (pass@1, pass@16)."""
    rows = [
        {"metric": "pass-at-k", "value": value, "task": task, "k": k, "temperature": temperature, "exact": exact}
        for temperature, both in sweep.items()
        for k, value in zip((1, 16), both, strict=True)
        for exact in (True, False)
        if exact or temperature == 1
    ]
    # what is sampled, and other metrics, must not enter
    for row in rows:
        row["value"] += 0.0 if row["exact"] else 0.3
    rows.append({"metric": "regret", "value": 0.9, "task": task, "k": 16, "temperature": 1.0, "exact": True})
    return with_run(frame(PASS_AT_K, rows), run=f"{arm}/seed-{seed}", arm=arm, seed=seed, step=step, tokens=step)


SPT = {0.5: (0.40, 0.5), 1.0: (0.20, 0.6), 2.0: (0.10, 0.3)}


def test_pass_at_16_is_read_at_the_twins_pass_at_1_by_hand() -> None:
    table = pd.concat(
        [
            run("spt", 0, SPT),
            run("spt", 0, {1.0: (0.9, 0.9)}, step=5),  # an earlier checkpoint
            # .20 lies a quarter of the way from .10 to .50: temperature .8 - .075, pass@16 .7 - .05
            run("dpt", 0, {0.5: (0.50, 0.5), 0.8: (0.10, 0.7), 2.0: (0.05, 0.4)}),
            run("spt", 1, SPT),
            run("dpt", 1, {0.5: (0.15, 0.5), 1.0: (0.1, 0.7)}),  # never as sure as its twin
            run("dpt", 2, SPT),  # no twin
            # .20 twice: exactly at 1.6, and half-way between .25 and .5; 1.6 is nearer to 1
            run("odd", 0, {0.25: (0.1, 0.9), 0.5: (0.3, 0.8), 1.0: (0.25, 0.45), 1.6: (0.20, 0.35)}),
            run("teacher:t", 0, SPT),
            run("spt", 0, {1.0: (0.5, 0.5)}, task="multi-hop"),
        ],
        ignore_index=True,
    )
    values, left_out = matched_pass_at_k(table, "spt", task="chains")
    of = values.set_index(["arm", "seed"])
    assert sorted(of.index) == [("dpt", 0), ("odd", 0), ("spt", 0), ("spt", 1)]
    assert of.loc[("dpt", 0), "value"] == pytest.approx(0.65)
    assert of.loc[("dpt", 0), "temperature"] == pytest.approx(0.725)
    assert of.loc[("odd", 0), "value"] == 0.35
    assert of.loc[("spt", 0), "value"] == 0.6
    assert [line.split(":")[0] for line in left_out] == ["dpt, seed 1", "dpt, seed 2"]
    assert "0.1 to 0.15" in left_out[0]
    compared = compare_twins(values, "spt").set_index("arm")
    assert compared.loc["dpt", "difference"] == pytest.approx(0.05)
    assert compared.loc["dpt", "n"] == 1


def test_a_twin_that_is_only_sharper_differs_by_nothing() -> None:
    """The same curve of pass@1 and pass@16, at half the temperature: on straight lines there is no difference."""
    line = {t: (0.5 - 0.2 * t, 0.3 + 0.1 * t) for t in (0.25, 0.5, 1.0, 2.0)}
    sharper = {t / 2: both for t, both in line.items()} | {1.0: line[2.0]}
    values, _ = matched_pass_at_k(pd.concat([run("spt", 0, line), run("dpt", 0, sharper)]), "spt", task="chains")
    assert values["value"].tolist() == pytest.approx([0.4, 0.4])


def test_what_cannot_be_matched_is_refused() -> None:
    table = run("spt", 0, SPT)
    for arguments, said in (
        ({"baseline": "sqt", "task": "chains"}, "did you mean"),
        ({"baseline": "spt", "task": "chain"}, "task=chain"),
        ({"baseline": "spt", "task": "chains", "k": 8}, "k=8"),
        ({"baseline": "spt", "task": "chains", "k": 1}, "at least 2"),
    ):
        with pytest.raises(MechdistillError, match=said):
            matched_pass_at_k(table, **arguments)
    with pytest.raises(MechdistillError, match="must appear once"):
        matched_pass_at_k(pd.concat([table, table]), "spt", task="chains")
    with pytest.raises(MechdistillError, match="at temperature 1"):
        matched_pass_at_k(run("spt", 0, {0.5: (0.1, 0.2)}), "spt", task="chains")
