"""Runs in a world that a text file made: what needs the file, and what does not."""

from hashlib import sha256
from pathlib import Path

import pytest

import mechdistill as md
from mechdistill.errors import MechdistillError
from mechdistill.training import train
from tests.helpers import micro, only
from tests.training.test_training import opened


def test_a_finished_run_in_a_text_needs_the_text_for_its_world_alone(tmp_path: Path) -> None:
    text = tmp_path / "novel.txt"
    text.write_text("the quick brown fox jumps over the lazy dog " * 20)
    world = only(rows=only(kind="corpus", path=str(text)), vocab=12, seq_len=16, triggers=only(count=2))
    far = only(alpha=0.9, teacher="oracle", sandbox={"rows": {"kind": "corpus", "path": str(text)}})
    config = micro(sandbox=world, teachers=only(oracle={"kind": "oracle"}), arms=only(spt={}, far=far), seeds=[0, 1])
    train(config, tmp_path / "x")
    stored = (tmp_path / "x/experiment.yaml").read_text()
    assert stored.count(sha256(text.read_bytes()).hexdigest()) == 2, "that of the override too"
    text.rename(tmp_path / "elsewhere.txt")
    found = opened(tmp_path / "x")
    for run in found.runs:
        assert md.load(run.path).config == run.config
        assert not run.metrics().empty
        assert run.model("last") is not None
        with pytest.raises(MechdistillError, match=r"novel.txt: must be a readable UTF-8 text file \(No such"):
            run.world  # noqa: B018
    with pytest.warns(UserWarning, match="left out: formation-tokens .no threshold without the world"):
        assert not md.compare(found).empty
    for work in (lambda: md.row_curves(found.runs[0], "last"), lambda: train(config, tmp_path / "y")):
        with pytest.raises(MechdistillError, match="must be a readable UTF-8 text file"):
            work()
    assert not (tmp_path / "y").exists(), "before anything is written"
    text.write_text("another text with quite some more letters, xyz " * 20)
    with pytest.raises(MechdistillError, match="has changed since sha256 was recorded; restore the file"):
        opened(tmp_path / "x").runs[0].world  # noqa: B018
    with pytest.raises(MechdistillError, match="has changed since sha256 was recorded; restore the file"):
        train(config, tmp_path / "x")
