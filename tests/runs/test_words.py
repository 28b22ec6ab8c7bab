"""A run's treatment in words, for `runs show` and model cards."""

from typing import Any

import pytest

from mechdistill.config import expand
from mechdistill.runs import treatment
from tests.helpers import micro, only

SUREST = {"signal": "teacher-entropy", "quantile": 0.15}


@pytest.mark.parametrize(
    ("arm", "said"),
    [
        ({"routing": SUREST}, "no distillation term at 15 % of each sequence's positions of lowest teacher-entropy, "),
        ({"routing": SUREST | {"scope": "batch"}}, "at 15 % of each batch's positions of lowest"),
        ({"routing": SUREST | {"tail": "high", "keep": 1}}, "of highest teacher-entropy, where labels weigh 1."),
        ({"routing": SUREST}, ", where labels weigh 1-alpha."),
        ({"routing": {"signal": "random", "quantile": 0.3}}, "at 30 % of each sequence's positions at random, where"),
        ({"routing": {"signal": "student-entropy", "nats": 0.5}}, "at positions of student-entropy up to 0.5 nats,"),
        ({"routing": {"signal": "oracle-class"}}, "at positions of the lowest oracle-class, where"),
        ({"routing": SUREST, "normalise": "per-term"}, "; each term is a mean over the positions where it weighs."),
        ({"alpha": 0, "teacher": None, "ce_weights": {"copyable": 0}}, "ce weights: (ordinary 1, first 1, copyable 0)"),
    ],
)
def test_routing_and_normalisation_are_said(arm: dict[str, Any], said: str) -> None:
    config = micro(arms=only(x={"alpha": 0.9, "teacher": "young", **arm}))
    assert said in treatment(expand(config)[-1])
