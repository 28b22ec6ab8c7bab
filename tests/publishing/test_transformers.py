"""A run published for transformers opens offline in transformers and TransformerLens, and is what it was."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

import mechdistill as md
from mechdistill.errors import MechdistillError
from mechdistill.publishing._tokenizer import UNKNOWN, tokenizer
from mechdistill.runs import Experiment, Run, list_runs
from mechdistill.training import train
from tests.helpers import copied, mechdistill, micro, only

FILES = {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}


@pytest.fixture(autouse=True)
def _quiet() -> None:
    logging.disable_progress_bar()


def opened(folder: Path, **where: Any) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, **where)


def assert_same(theirs: Any, run: Run, step: Any = "last") -> None:
    """Logits within 1e-5, and the same greedy continuation to the end of the context."""
    ours, tokens = run.model(step), run.world.evaluation(4).tokens[:, : run.world.seq_len]
    with torch.no_grad():
        torch.testing.assert_close(theirs(tokens).logits, ours(tokens), rtol=0, atol=1e-5)
    half = run.world.seq_len // 2
    expected = ours.generate(tokens[:, :half], half, temperature=0.0)
    assert torch.equal(theirs.generate(tokens[:, :half], max_new_tokens=half, do_sample=False), expected)


def test_a_run_opens_at_its_root_and_every_checkpoint_as_a_subfolder(trained: Experiment, tmp_path: Path) -> None:
    run = trained.run("dpt/seed-0")
    assert md.publish(run, tmp_path / "out", format="transformers") == tmp_path / "out"
    assert_same(opened(tmp_path / "out"), run)
    for step in run.steps:
        assert_same(opened(tmp_path / "out", subfolder=f"step-{step}"), run, step)
        words = AutoTokenizer.from_pretrained(tmp_path / "out", subfolder=f"step-{step}")
        assert len(words) == run.world.vocab + 1
    folders = {"README.md", *FILES, *(f"step-{step}" for step in run.steps)}
    assert {path.name for path in (tmp_path / "out").iterdir()} == folders
    assert {path.name for path in (tmp_path / "out" / f"step-{run.steps[0]}").iterdir()} == FILES


def test_every_run_of_an_experiment_has_a_folder(trained: Experiment, tmp_path: Path) -> None:
    source = ("publish", trained.path, tmp_path / "out", "--format", "transformers", "--checkpoints", "last")
    assert mechdistill(*source).returncode == 0
    found = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert found == {"README.md", *(f"{run.name}/{name}" for run in trained.runs for name in FILES)}
    for run in trained.runs:
        assert_same(opened(tmp_path / "out", subfolder=run.name), run)


@pytest.mark.parametrize("source", ["run", "experiment"])
def test_the_cards_own_code_runs(trained: Experiment, tmp_path: Path, source: str) -> None:
    run = trained.runs[0]
    md.publish(run if source == "run" else trained, tmp_path / "out", format="transformers", checkpoints="last")
    card = (tmp_path / "out/README.md").read_text()
    assert card.startswith("---\nlibrary_name: transformers\n")
    code = card.partition("```python\n")[2].partition("```")[0]
    names: dict[str, Any] = {}
    exec(code.replace("this-folder", str(tmp_path / "out")), names)
    assert_same(names["model"], run)
    tokens = run.world.evaluation(1).tokens[:, : run.world.seq_len]
    text = names["tokenizer"].decode(tokens[0])
    assert torch.equal(names["bridge"].to_tokens(text, prepend_bos=False), tokens)
    with torch.no_grad():
        torch.testing.assert_close(names["bridge"](tokens), run.model()(tokens), rtol=0, atol=1e-5)


def test_it_opens_where_there_is_no_network_and_no_mechdistill(trained: Experiment, tmp_path: Path) -> None:
    run = trained.runs[0]
    md.publish(run, tmp_path / "out", format="transformers", checkpoints="last")
    code = (
        "import sys; sys.modules['mechdistill'] = None\n"
        "from transformers import AutoModelForCausalLM, AutoTokenizer\n"
        "model, words = (kind.from_pretrained('out') for kind in (AutoModelForCausalLM, AutoTokenizer))\n"
        "ids = words('3 1 4 1 5', return_tensors='pt').input_ids\n"
        "print(words.decode(model.generate(ids, max_new_tokens=8, do_sample=False)[0]))"
    )
    offline = {**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=offline, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    ours = run.model().generate([3, 1, 4, 1, 5], 8, temperature=0.0)[0].tolist()
    assert result.stdout.split() == [str(token) for token in ours]


def test_a_world_of_characters_reads_and_writes_its_own_text(tmp_path: Path) -> None:
    text = "the quick brown fox\njumps over the lazy dog " * 20
    (tmp_path / "novel.txt").write_text(text)
    rows = only(kind="corpus", path=str(tmp_path / "novel.txt"))
    train(micro(sandbox={"rows": rows, "vocab": 28}, teachers=only(), arms=only(spt={})), tmp_path / "runs")
    run = Experiment(tmp_path / "runs").runs[0]
    assert {" ", "\n"} <= set(run.world.symbols)
    md.publish(run, tmp_path / "out", format="transformers", checkpoints="last")
    words = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert words.decode(words.encode(text)) == text
    assert [run.world.symbols[token] for token in words.encode(text)] == list(text)
    for name in FILES | {"README.md"}:
        assert str(tmp_path).encode() not in (tmp_path / "out" / name).read_bytes()


@pytest.mark.parametrize(
    "symbols",
    [
        [str(token) for token in range(200)],
        [str(token) for token in range(10)],
        ["a", "b", " ", "\n", "\t", "\u00a0", "\u0301", "é", "'", ".", "\x00", "😀", "<", "|", ">"],
        ["un", "##do", "[UNK]", "'s", "a.b", "über", "<s>"],
    ],
    ids=["numbers", "digits", "characters", "words"],
)
def test_tokens_survive_being_text(symbols: list[str], tmp_path: Path) -> None:
    words = tokenizer(symbols, 16)
    generator = torch.Generator().manual_seed(1)
    for length in (1, 2, 15, 300):
        tokens = torch.randint(len(symbols), (length,), generator=generator).tolist()
        for skip in (False, True):
            assert words.encode(words.decode(tokens, skip_special_tokens=skip)) == tokens
    assert words.convert_ids_to_tokens(list(range(len(symbols)))) == symbols
    strange = "é" if "é" not in symbols else "ß"
    assert words.encode(strange) == [len(symbols)], "text that is no symbol is beyond the vocabulary"
    assert words.encode(UNKNOWN + symbols[0]) == [len(symbols), 0], "and swallows nothing"


@pytest.mark.parametrize(
    ("symbols", "said"),
    [
        (["a", "new york"], "symbol 'new york': holds white space"),
        (["ab", ""], "symbol '': holds white space, .* or nothing"),
        (["x", "y", "x"], "symbol 'x': stands for 2 tokens"),
        (["x", UNKNOWN], "is what the tokenizer calls"),
    ],
)
def test_symbols_that_text_does_not_give_back_are_refused_by_name(symbols: list[str], said: str) -> None:
    with pytest.raises(MechdistillError, match=said):
        tokenizer(symbols, 16)


def test_what_transformers_cannot_hold_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    arms = only(spt={})
    train(micro(model={"norm": "none"}, teachers=only(), arms=arms), tmp_path / "runs")
    result = mechdistill("publish", tmp_path / "runs", tmp_path / "out", "--format", "transformers")
    assert result.returncode == 2
    assert "model.norm=none" in result.stderr
    assert result.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


def test_a_damaged_checkpoint_is_named_and_nothing_is_published(trained: Experiment, tmp_path: Path) -> None:
    source = copied(trained.path, tmp_path / "copy")
    path = source / "spt/seed-0/checkpoints/step-00000006.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(MechdistillError, match="step-00000006"):
        md.publish(Run(source / "spt/seed-0"), tmp_path / "out", format="transformers")
    assert [path.name for path in tmp_path.iterdir()] == ["copy"]


def test_a_full_disk_is_one_line_and_leaves_nothing(
    trained: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0

    def fail_late(file: int) -> None:
        nonlocal calls
        calls += 1
        if calls > 4:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail_late)
    with pytest.raises(MechdistillError, match="No space left on device"):
        md.publish(trained, tmp_path / "out", format="transformers")
    assert list(tmp_path.iterdir()) == []


def test_the_folder_is_no_run_of_ours_and_its_weights_are_plain(trained: Experiment, tmp_path: Path) -> None:
    md.publish(trained.runs[0], tmp_path / "out", format="transformers", checkpoints="last")
    assert len(list_runs(tmp_path)) == 0
    config = json.loads((tmp_path / "out/config.json").read_text())
    assert config["architectures"] == ["GPT2LMHeadModel"]
    assert config["tie_word_embeddings"] is False
    with pytest.raises(MechdistillError, match="format='gguf'"):
        md.publish(trained.runs[0], tmp_path / "other", format="gguf")  # type: ignore[arg-type]
