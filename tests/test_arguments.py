"""The Python API, given what it cannot take: one line that names it in terms of Python, before anything is written."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import mechdistill as md
from mechdistill.runs import Experiment, list_runs
from tests.helpers import micro

# of every kind, and never what a function takes
NOTHINGS: list[Any] = [None, True, 1.7, -1, 10**30, "", "a\0b", b"x", [], [0, 100], {}, object(), torch.tensor(True)]
NOTHINGS += [np.array([6]), float("nan"), lambda: 0]
AS_LONG_AS = 400


def refused(use: Callable[[Any], object], *, but: tuple[type, ...] = ()) -> list[str]:
    """The messages for everything that is nothing, without those of kinds that the argument does take."""
    messages: list[str] = []
    for value in NOTHINGS:
        if isinstance(value, but) and value not in ("a\0b", True):
            continue
        with pytest.raises(md.MechdistillError) as error:
            use(value)
        messages.append(str(error.value))
    assert all("--" not in message and len(message) < AS_LONG_AS for message in messages), messages
    return messages


def test_what_is_no_run_or_experiment_or_path_is_named(trained: Experiment, tmp_path: Path) -> None:
    run = trained.run("spt/seed-0")
    for use in (md.load, md.Run, md.Experiment, md.plugin, md.publish, md.prompt, trained.run):
        arguments = {md.publish: (tmp_path / "there",), md.prompt: ([1],)}.get(use, ())
        refused(lambda value, use=use, arguments=arguments: use(value, *arguments))
    refused(md.induction_scores)
    refused(md.to_transformer_lens)
    refused(md.from_transformer_lens)
    refused(md.compare)
    refused(lambda value: md.compare(trained, value), but=(type(None),))
    refused(lambda value: md.publish(run, value))
    refused(lambda value: md.sql("select 1", value))
    refused(list_runs)
    refused(md.sql)
    assert list(tmp_path.iterdir()) == []
    for text in (str(run.path), run.path):
        assert md.load(text).name == md.Run(text).name == "spt/seed-0"
    assert md.Experiment(str(trained.path)).run("spt/seed-0").path == run.path


def test_what_is_no_choice_is_named(trained: Experiment, tmp_path: Path) -> None:
    run, out = trained.run("spt/seed-0"), tmp_path / "there"
    refused(lambda value: md.compare(trained, baseline=value), but=(type(None),))
    refused(lambda value: md.compare(trained, formed=value), but=(type(None),))
    refused(lambda value: md.publish(run, out, checkpoints=value))
    refused(lambda value: md.publish(run, out, license=value), but=(type(None),))
    refused(lambda value: md.load_experiment(preset_name=value), but=(type(None),))
    refused(lambda value: md.load_experiment(settings=value), but=(type(None), list))
    assert not out.exists()


def test_a_checkpoint_is_a_step_of_any_integer_kind(trained: Experiment) -> None:
    run = trained.run("spt/seed-0")
    steps = md.induction_scores(run, "all")["step"]
    assert set(steps) == set(run.steps)
    for step in (np.int64(6), torch.tensor(6), np.uint8(6), steps[steps == 6].iloc[0]):
        assert run.weights_digest(step) == run.weights_digest(6)
        assert run.tokens_at(step) == run.tokens_at(6)
        assert len(md.induction_scores(run, step)) == len(md.induction_scores(trained, 6)) // 3
        assert torch.equal(md.prompt(run, [1, 2], step).logits, md.prompt(run, [1, 2], 6).logits)
    for use in (run.model, run.weights, run.weights_digest, run.resolve, lambda step: md.prompt(run, [1], step)):
        messages = refused(use)
        assert "checkpoint=True: must be 'last' or a step; spt/seed-0 has 0, 1, 2, 4, 6, 8, ..." in messages
    for target in (run, trained):
        refused(lambda step, target=target: md.row_curves(target, step), but=(type(None),))
    with pytest.raises(
        md.MechdistillError, match=r"^checkpoint='first': must be 'last' or a step; spt/seed-0 has 0, 1, 2,"
    ):
        run.model("first")
    with pytest.raises(md.MechdistillError, match=r"^checkpoint=\[0, 100\]: must be 'last', 'all' or one step$"):
        md.ablate(run, [0, 100])
    with pytest.raises(md.MechdistillError, match=r"^checkpoint 7: spt/seed-0 has none there; the nearest is 6$"):
        md.ablate(run, np.int64(7))


@pytest.mark.skipif(torch.cuda.is_available(), reason="a machine without a GPU must refuse it")
def test_train_refuses_before_it_writes(tmp_path: Path) -> None:
    out = tmp_path / "there"
    devices = ["cuda", torch.device("cuda"), torch.device("cuda:1"), "cuda:1", "tpu", torch.device("meta")]
    for device in devices:
        with pytest.raises(md.MechdistillError, match=r"^device .*: not on this machine; there are: cpu"):
            md.train(micro(), out, device=device)
    refused(lambda value: md.train(micro(), out, device=value))
    refused(lambda value: md.train(micro(), out, jobs=value), but=(type(None), int))
    for jobs in (0, -1, True):
        with pytest.raises(md.MechdistillError, match=r"^jobs=.*: must be a whole number, at least 1"):
            md.train(micro(), out, jobs=jobs)
    refused(lambda value: md.train(micro(), out, loggers=value), but=(list,))
    with pytest.raises(md.MechdistillError, match=r"^loggers='wandb': must be a list of texts, like \['wandb'\]"):
        md.train(micro(), out, loggers="wandb")
    for key in ("report", "stopped"):
        with pytest.raises(md.MechdistillError, match=f"^{key}=None: must be a function"):
            md.train(micro(), out, **{key: None})
    refused(lambda value: md.train(value, out))
    refused(lambda value: md.train(micro(), value))
    assert not out.exists()


def test_train_takes_what_the_ecosystem_gives(tmp_path: Path) -> None:
    """A file's name, numpy's seeds, a torch device, every core: the same bits as what they stand for."""
    file = tmp_path / "mine.yaml"
    file.write_text(
        "name: mine\nsandbox: {vocab: 12, seq_len: 16, rows: {high: 2.0}, triggers: {count: 2}}\n"
        "model: {n_layers: 2, d_model: 16, n_heads: 2}\n"
        "training: {tokens: 1536, batch: 4, warmup: 4, eval_sequences: 16}\narms: {spt: {}}\n"
    )
    config = md.load_experiment(str(file))
    assert config == md.load_experiment(file)
    assert [o.state for o in md.train(str(file), str(tmp_path / "a"), device=torch.device("cpu"))] == ["finished"]
    seeds = config.model_copy(update={"seeds": np.arange(2)})
    assert [o.run for o in md.train(seeds, tmp_path / "b", jobs=np.int64(1))] == ["spt/seed-0", "spt/seed-1"]
    one, other = (md.load(tmp_path / name).run("spt/seed-0").weights_digest() for name in "ab")
    assert one == other
    assert [o.state for o in md.train(file, tmp_path / "a", jobs=None)] == ["finished"]  # nothing is left to do
    with pytest.raises(md.MechdistillError, match=r"no such .* but a preset: load_experiment\(preset_name='tiny'\)"):
        md.load_experiment("tiny")


def test_a_decorator_names_what_it_cannot_take() -> None:
    for make, key in (
        (md.attention_score, "on"),
        (md.head_score, "low"),
        (md.ablation, "label"),
        (md.measure, "question"),
        (md.teacher, "traits"),
        (md.divergence, "formula"),
        (md.routing_signal, "reads_occurrence"),
    ):
        with pytest.raises(md.MechdistillError, match=rf"^md.{make.__name__}: {key}=<object .*>: must be "):
            make(**{key: object()})
    with pytest.raises(md.MechdistillError, match=r"^md.metric: name=3: must be a string"):
        md.metric(3)
    for make in (
        md.head_score(),
        md.attention_score(on="natural"),
        md.ablation(),
        md.measure("What?"),
        md.divergence(),
    ):
        with pytest.raises(md.MechdistillError, match="must be a function"):
            make(3)
