"""Risk foretold from the twin: the formula by hand, row by row; and the arms that it is not about."""

import pandas as pd
import pytest

import mechdistill as md
from mechdistill.errors import MechdistillError
from mechdistill.runs import Experiment
from mechdistill.tables import PREDICTED_RISK, metrics
from mechdistill.training import train
from tests.helpers import micro, only
from tests.training.test_training import opened


@pytest.fixture(scope="module")
def arms(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    routing = {"signal": "teacher-entropy", "quantile": 0.25}
    taught = {"alpha": 0.9, "teacher": "young"}
    ramp = {"kind": "linear", "start": 0.9, "end": 0.1}
    out = tmp_path_factory.mktemp("rows") / "x"
    changes = {"spt": {}, "dpt": taught, "routed": {**taught, "routing": routing}, "ramp": {**taught, "alpha": ramp}}
    train(micro(arms=only(changes), training={"checkpoint_every": 12}), out)
    return opened(out)


def squared_errors(table: pd.DataFrame) -> pd.DataFrame:
    rows = table[table["row"].notna()]
    return rows[rows["metric"] == metrics.SQUARED_ERROR.name].set_index("row")["value"]


def test_the_prediction_is_its_formula_and_the_table_beside_it_counts(arms: Experiment) -> None:
    with pytest.warns(UserWarning, match="left out") as said:
        found = md.predicted_risk(arms)
    left_out = {str(warning.message) for warning in said}
    assert left_out == {"left out: routed (it routes)", "left out: ramp (its alpha is no number)"}
    assert list(found) == [column.name for column in PREDICTED_RISK.columns]
    assert set(found["arm"]) == {"dpt"}
    run, step = arms.run("dpt/seed-0"), 12
    ours, twins = (md.row_curves(arms.run(f"{arm}/seed-0"), step) for arm in ("dpt", "spt"))
    visits = ours[ours["metric"] == metrics.POSITIONS.name].set_index("row")["value"]
    targets = run.targets()
    assert targets is not None
    predicted = 0.01 * squared_errors(twins) + 0.81 * squared_errors(targets)
    whole = found[(found["step"] == step) & found["bucket"].isna()].iloc[0]
    assert whole["predicted"] == pytest.approx((predicted * visits).sum() / visits.sum())
    assert whole["measured"] == pytest.approx((squared_errors(ours) * visits).sum() / visits.sum())
    null = md.tabular_null(run, run.tokens_at(step), pseudo_count=0).table.double().softmax(-1).numpy()
    error = pd.Series(((null - run.sandbox.pi) ** 2).sum(1)).loc[visits.index]
    # the teacher of a checkpoint between others is asked at other positions of the same steps: all, in so few data
    assert whole["tabular"] == pytest.approx(float((error.to_numpy() * visits).sum() / visits.sum()), rel=1e-5)
    quartiles = found[(found["step"] == step) & found["bucket"].notna()]
    assert quartiles["bucket"].tolist() == [0, 1, 2, 3]


def test_rows_that_never_halve_are_counted_and_what_cannot_be_foretold_is_refused(arms: Experiment) -> None:
    with pytest.raises(MechdistillError, match="without a twin of nobody"):
        md.predicted_risk(arms, baseline="nobody")
    speed = md.learning_speed(arms)
    slopes = speed[speed["metric"] == metrics.HALVING_SLOPE.name]
    rows = speed[(speed["metric"] == metrics.TOKENS_TO_HALVE.name) & (speed["run"] == "spt/seed-0")]
    own = slopes[slopes["run"] == "spt/seed-0"].iloc[0]
    assert own["censored"] == rows["value"].isna().sum() > 0
    assert own["rows"] + own["censored"] == len(rows) == len(arms.run("spt/seed-0").sandbox.pi) - 2
