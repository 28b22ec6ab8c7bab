import json
import os
from pathlib import Path

import pytest

from mechdistill.config import to_yaml
from mechdistill.runs import Experiment
from mechdistill.tables import COMPARISON
from mechdistill.training import train
from tests.helpers import mechdistill, micro
from tests.training.test_training import opened


@pytest.fixture(scope="module")
def three_seeds(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    out = tmp_path_factory.mktemp("compare") / "x"
    train(micro(seeds=[0, 1, 2]), out)
    return opened(out)


def test_compare_prints_a_table_says_what_is_inconclusive_and_writes_a_figure(three_seeds: Experiment) -> None:
    result = mechdistill("compare", three_seeds.path)
    assert result.returncode == 0, result.stderr
    for text in ("copy-excess, arm minus baseline (primary)", "dpt", "spt", "95 % interval"):
        assert text in result.stdout
    assert "inconclusive; 3 pairs find a difference of" in result.stderr
    assert "formation-tokens, dpt: nothing formed in either arm by 1536 tokens" in result.stderr
    assert "used: 6 of the 6 runs that the experiment names" in result.stderr
    assert (three_seeds.path / "figures/compare.html").exists()


def test_compare_json_is_one_document_with_the_columns_of_the_table(three_seeds: Experiment) -> None:
    result = mechdistill("compare", three_seeds.path, "--baseline", "dpt", "--json")
    document = json.loads(result.stdout)
    assert document["schema"] == 1
    assert {row["arm"] for row in document["rows"]} == {"spt"}
    assert set(document["rows"][0]) == {column.name for column in COMPARISON.columns}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{x}", "--baseline", "nobody"], "baseline='nobody': no finished run of that arm"),
        (["{x}", "{x}", "--baseline", "spt"], "--baseline spt: two directories are compared arm by arm"),
        (["{x}/spt/seed-0"], "is one run; give its experiment's directory"),
        (["{x}", "--formed", "2"], "--formed"),
        (["nowhere"], "no such directory"),
    ],
)
def test_bad_comparisons_are_one_line_and_exit_two(three_seeds: Experiment, arguments: list[str], message: str) -> None:
    result = mechdistill("compare", *(argument.format(x=three_seeds.path) for argument in arguments))
    assert result.returncode == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_a_dry_run_says_what_it_would_cost_and_writes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "micro.yaml"
    file.write_text(to_yaml(micro(seeds=[0, 1])))
    result = mechdistill("train", file, "--out", tmp_path / "x", "--dry-run", "--jobs", "1")
    assert result.returncode == 0, result.stderr
    assert "6 runs to train, 0.0 M tokens, about" in result.stderr
    assert result.stdout == ""
    as_json = mechdistill("train", file, "--out", tmp_path / "x", "--dry-run", "--json")
    assert json.loads(as_json.stdout)["rows"][0]["runs"] == 6
    assert [path.name for path in tmp_path.iterdir()] == ["micro.yaml"]


def test_metrics_also_go_to_wandb(tmp_path: Path) -> None:
    file = tmp_path / "micro.yaml"
    file.write_text(to_yaml(micro()))
    os.environ |= {"WANDB_MODE": "offline", "WANDB_DIR": str(tmp_path)}
    try:
        result = mechdistill("train", file, "--out", tmp_path / "x", "--logger", "wandb", "--jobs", "2")
    finally:
        del os.environ["WANDB_MODE"], os.environ["WANDB_DIR"]
    assert result.returncode == 0, result.stderr
    assert len(list((tmp_path / "wandb").glob("offline-run-*"))) == 3, "two twins and their teacher"
    refused = mechdistill("train", file, "--out", tmp_path / "y", "--logger", "wanb")
    assert refused.returncode == 2
    assert "logger 'wanb': no such logger; did you mean 'wandb'?" in refused.stderr
    assert not (tmp_path / "y").exists()
