"""The rate at which a copy circuit is named: 0 of models that have none, and not because nothing ever is."""

from pathlib import Path
from typing import Any

import pytest

from analyses import false_positives
from mechdistill.config import load_experiment
from mechdistill.model import Transformer
from tests.helpers import induction_network


def test_models_without_a_circuit_have_none_and_are_all_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    short = {kind: {**settings, "training.tokens": 4096} for kind, settings in false_positives.KINDS.items()}
    monkeypatch.setattr(false_positives, "KINDS", short)
    table = false_positives.named(tmp_path, untrained=2, trained=1)
    assert list(table["kind"]) == ["untrained", "untrained", "no-triggers", "one-layer"]
    assert not table[["lookup", "previous_token", "circuit"]].to_numpy().any()


def test_a_network_made_to_copy_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def made(config: object, *, d_vocab: int, n_ctx: int, **_: Any) -> Transformer:
        assert config == load_experiment().model
        return induction_network(d_vocab, n_ctx)

    monkeypatch.setattr(false_positives, "build", made)
    monkeypatch.setattr(false_positives, "KINDS", {})
    assert false_positives.named(tmp_path, untrained=1, trained=0)["circuit"].all()
