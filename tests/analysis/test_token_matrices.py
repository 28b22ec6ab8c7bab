"""The matrices of a run's heads over its checkpoints, and their figure."""

from pathlib import Path

import numpy as np
import pytest

import mechdistill as md
from mechdistill.circuits import Head, HeadView, ov_matrix, qk_matrix
from mechdistill.plots import token_matrices_figure
from mechdistill.runs import Experiment
from mechdistill.training import train
from tests.helpers import micro, only


def test_a_table_holds_each_matrix_at_each_checkpoint_triggers_first(trained: Experiment) -> None:
    run = trained.run("spt/seed-0")
    table = md.token_matrices(run, "1.1", "L0H0", checkpoints=3)
    steps = sorted(set(table["step"]))
    assert (steps[0], steps[-1], len(steps)) == (run.steps[0], run.steps[-1], 3)
    triggers = list(run.world.triggers)
    order = [*triggers, *sorted({*range(run.world.vocab)} - {*triggers})]
    last = HeadView(run.model("last"))
    expected = {
        ("QK", False): qk_matrix(last, Head(1, 1)),
        ("QK", True): qk_matrix(last, Head(1, 1), Head(0, 0)),
        ("OV", False): ov_matrix(last, Head(1, 1)),
    }
    at_last = table[table["step"] == steps[-1]]
    for (matrix, through), part in at_last.groupby(["matrix", at_last["source_layer"].notna()]):
        wide = part.pivot(index="row", columns="column", values="value")
        symbols = [run.world.symbols[token] for token in range(run.world.vocab)]
        values = wide.loc[symbols, symbols].to_numpy(dtype=float)
        np.testing.assert_allclose(values, expected.pop((str(matrix), bool(through))), rtol=1e-6, atol=1e-9)
        assert list(dict.fromkeys(part["row"])) == [run.world.symbols[token] for token in order]
        assert set(part[part["trigger"]]["row"]) == {run.world.symbols[token] for token in triggers}
    assert not expected


def test_the_figure_has_a_panel_a_matrix_and_a_frame_a_checkpoint_on_one_scale(trained: Experiment) -> None:
    table = md.token_matrices(trained.run("spt/seed-0"), "1.1", "L0H0", checkpoints=3)
    table["row"] = table["row"].str.replace("1", "<b>")
    figure = token_matrices_figure(table)
    assert len(figure.data) == 3
    assert [frame.name for frame in figure.frames] == [str(step) for step in sorted(set(table["step"]))]
    for number, panel in enumerate(figure.data):
        largest = max(np.abs(np.array(frame.data[number].z)).max() for frame in figure.frames)
        assert panel.zmax == -panel.zmin == pytest.approx(largest)
        np.testing.assert_array_equal(panel.z, figure.frames[-1].data[number].z)
    assert "<b>" not in figure.to_json()
    one = token_matrices_figure(md.token_matrices(trained.run("spt/seed-0"), "0.1", checkpoints=1))
    assert len(one.data) == 2, "a head of the first layer reads through no other"
    assert not one.frames


def test_heads_that_are_not_there_and_runs_without_a_circuit_are_refused(trained: Experiment) -> None:
    run = trained.run("spt/seed-0")
    with pytest.raises(md.MechdistillError, match="no head looks up, so there is no copy circuit; name a head"):
        md.token_matrices(run)
    with pytest.raises(md.MechdistillError, match="head L9H0: the model has L0H0 to L1H1"):
        md.token_matrices(run, "L9H0", "L0H0")
    with pytest.raises(md.MechdistillError, match="checkpoints=0: must be a whole number, at least 1"):
        md.token_matrices(run, "L1H0", checkpoints=0)
    with pytest.raises(md.MechdistillError, match="must be a run"):
        md.token_matrices(trained, "L1H0")  # pyright: ignore[reportArgumentType]


def test_rotary_positions_are_refused_before_a_head_is_looked_for(tmp_path: Path) -> None:
    train(micro(model={"positions": "rotary"}, arms=only(spt={})), tmp_path / "rotary")
    with pytest.raises(md.MechdistillError, match=r"model.positions=rotary: what matches hangs on the distance"):
        md.token_matrices(md.load(tmp_path / "rotary").run("spt/seed-0"))
