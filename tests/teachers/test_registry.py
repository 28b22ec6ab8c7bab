from typing import Any

import pytest
import torch

from mechdistill import teachers
from mechdistill.config import TEACHERS, expand
from mechdistill.model import Bigram, Model
from mechdistill.sandbox import Sandbox
from mechdistill.tables import resolve
from mechdistill.teachers import Moment, Teacher, everyone
from mechdistill.training._distillation import Distillation
from tests.helpers import micro, only, transformer, world
from tests.teachers.every import ENTRIES, WORLDS, advanced, built, some_tokens, trained

DRAWING = {"sampled", "top-k", "top-k-bucket", "nested"}


def test_every_registered_teacher_is_tried_here_and_in_the_schema() -> None:
    assert {entry["kind"] for entry in ENTRIES.values()} == set(TEACHERS)
    for kind, record in TEACHERS.items():
        assert record.name == kind
        assert resolve(record.implementation).entry is record.config


@pytest.mark.parametrize("kind", TEACHERS)
def test_docstrings_give_chance_and_source(kind: str) -> None:
    doc = resolve(TEACHERS[kind].implementation).__doc__
    assert doc is not None
    assert "Source: " in doc
    assert "chance" in doc


@pytest.mark.parametrize("name", ENTRIES)
@pytest.mark.parametrize("where", WORLDS)
def test_a_teachers_law_is_a_causal_distribution(where: str, name: str) -> None:
    sandbox = world(**WORLDS[where])
    teacher = advanced(built(name, sandbox))
    tokens, labels = some_tokens(sandbox)
    law = teacher.log_probs(tokens, labels)
    assert law.shape == (*tokens.shape, sandbox.vocab)
    assert law.dtype == torch.float32
    assert not law.requires_grad
    torch.testing.assert_close(law.exp().sum(-1), torch.ones(tokens.shape), rtol=0, atol=1e-5)
    if name not in DRAWING:
        batch = sandbox.batch(0, 0, 8)
        prefix = tokens[:, :5]
        prefix_law = teacher.log_probs(prefix, sandbox.labels(prefix, batch.triggers))
        torch.testing.assert_close(prefix_law, law[:, :5], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ENTRIES)
def test_a_teacher_is_the_same_at_the_same_moment_whatever_happened_before(name: str) -> None:
    sandbox = world()
    tokens, labels = some_tokens(sandbox)
    one, other = built(name, sandbox), built(name, sandbox)
    if name != "ema":  # which is about what happened before
        for step in (0, 3):
            advanced(one, step, steps=4)
            one.log_probs(tokens, labels)
            one.log_probs(tokens, labels)
    first = advanced(one, 2, steps=4).log_probs(tokens, labels)
    assert torch.equal(first, advanced(other, 2, steps=4).log_probs(tokens, labels))
    assert torch.equal(first, advanced(one, 2, steps=4).log_probs(tokens, labels)), "an evaluation and the step"


@pytest.mark.parametrize("name", ENTRIES)
def test_changes_says_whether_steps_matter(name: str) -> None:
    sandbox = world(rows={"kind": "two-level", "low": 6, "high": 6})  # where top-3 has ties
    tokens, labels = some_tokens(sandbox)
    teacher = built(name, sandbox)
    before = advanced(teacher, 0).log_probs(tokens, labels)
    after = advanced(teacher, 60, student=transformer(seed=9)).log_probs(tokens, labels)
    assert teacher.changes == (not torch.equal(before, after))


def variants() -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Pairs of entries that give other targets."""
    noisy, count = {"kind": "noisy"}, {"kind": "count", "tokens": 100}
    tilted, top_k = {"kind": "tilted"}, {"kind": "top-k", "of": "bigram", "k": 3}
    return [
        (noisy, noisy | {"epsilon": 0.2}),
        (noisy, noisy | {"below": 1.0}),
        (noisy, noisy | {"of": "bigram"}),
        (count, count | {"tokens": 101}),
        (count, count | {"data": "fresh"}),
        (
            ENTRIES["progressive"],
            ENTRIES["progressive"] | {"stages": [[0.0, 0.25], [0.3, 0.5], [0.5, 0.75], [0.75, 1]]},
        ),
        (
            ENTRIES["progressive"],
            ENTRIES["progressive"] | {"stages": [[0.0, 0.25], [0.25, 0.5], [0.5, 0.75], [0.75, 0]]},
        ),
        ({"kind": "ensemble", "of": ["oracle", "bigram"]}, {"kind": "ensemble", "of": ["oracle", "uniform"]}),
        (tilted, tilted | {"beta": 0.5}),
        (tilted, tilted | {"seed": 1}),
        (tilted, tilted | {"share": 0.9}),
        (tilted, tilted | {"good": 0.5}),
        (tilted | {"of": "bigram"}, tilted | {"of": "bigram", "horizon": 2}),
        ({"kind": "ema", "decay": 0.9}, {"kind": "ema", "decay": 0.99}),
        (
            {"kind": "splice", "copyable": "oracle", "elsewhere": "bigram"},
            {"kind": "splice", "copyable": "bigram", "elsewhere": "oracle"},
        ),
        ({"kind": "permuted"}, {"kind": "permuted", "of": "bigram"}),
        (ENTRIES["temperature"], ENTRIES["temperature"] | {"temperature": 3.0}),
        (top_k, top_k | {"k": 4}),
        (top_k, top_k | {"tail": "bucket"}),
        (top_k, top_k | {"of": "oracle"}),
        (ENTRIES["sampled"], ENTRIES["sampled"] | {"n": 5}),
        ({"kind": "sampled", "of": "oracle", "n": 1}, {"kind": "sampled", "of": "bigram", "n": 1}),
    ]


@pytest.mark.parametrize(("one", "other"), variants())
def test_an_id_differs_when_a_setting_or_a_part_does(one: dict[str, Any], other: dict[str, Any]) -> None:
    ids = [built("x", entries=ENTRIES | {"x": entry}).id for entry in (one, other)]
    assert ids[0] != ids[1]


def test_ids_are_those_of_the_same_targets_and_no_others() -> None:
    first = {name: built(name).id for name in ENTRIES}
    assert first == {name: built(name).id for name in ENTRIES}
    assert len(set(first.values())) == len(first)
    assert all(first[name].startswith(ENTRIES[name]["kind"] + "-") for name in ENTRIES)
    oracle = ENTRIES | {"named": {"kind": "noisy", "of": "oracle", "epsilon": 0.2}}
    assert built("named", entries=oracle).id == first["noisy"], "a name for the oracle changes nothing"


def test_ids_know_the_world_the_student_and_the_weights() -> None:
    noise, other_rows, longer = world(triggers={"noise": 0.1}), world(rows={"high": 1.0}), world(seq_len=24)
    assert built("oracle", noise).id != built("oracle").id != built("oracle", other_rows).id
    assert built("bigram", noise).id == built("bigram").id != built("bigram", other_rows).id
    assert built("oracle", longer).id == built("oracle").id
    for name in ("permuted", "count", "count-fresh"):
        assert built(name, seed=1).id != built(name).id
    for name in ("noisy", "tilted", "sampled", "ema"):
        assert built(name, seed=1).id == built(name).id

    def barely_other(name: str, fraction: float) -> Model:
        model = transformer(seed=round(100 * fraction))
        model.W_U.data[0, 0] += 1e-6
        return model

    for name in ("checkpoint", "progressive", "ensemble", "sampled", "nested"):
        assert built(name, trained=barely_other).id != built(name).id
    same_weights = [teachers.Checkpoint(transformer(n_heads=heads)).id for heads in (2, 4)]
    assert same_weights[0] != same_weights[1], "split otherwise into heads"
    assert teachers.Checkpoint(Bigram(d_vocab=12, n_ctx=16)).id == teachers.Checkpoint(Bigram(d_vocab=12, n_ctx=16)).id


RANDOM = ("permuted", "count", "count-fresh", "sampled", "top-k")


@pytest.mark.parametrize("name", RANDOM)
def test_what_is_random_differs_by_student_seed(name: str) -> None:
    sandbox = world(rows={"kind": "two-level", "low": 6, "high": 6})  # where top-3 has ties
    tokens, labels = some_tokens(sandbox)
    one, again, other = (
        advanced(built(name, sandbox, seed=seed), seed=seed).log_probs(tokens, labels) for seed in (0, 0, 1)
    )
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("name", [*RANDOM, "noisy"])
def test_a_runs_teacher_is_its_student_seeds(name: str) -> None:
    entries = {key: entry for key, entry in ENTRIES.items() if key in (name, "oracle", "bigram")}
    entries |= {name: ENTRIES[name] | ({"of": "bigram"} if "of" in ENTRIES[name] else {})}
    config = micro(
        sandbox={"rows": only({"kind": "two-level", "low": 6, "high": 6})},
        teachers=only(entries),
        arms=only({"x": {"alpha": 1.0, "teacher": name}}),
        seeds=[0, 1],
    )
    student, losses = transformer(), list[float]()
    for run in expand(config):
        sandbox = Sandbox(run.sandbox)
        batch = sandbox.batch(9, 0, 4)  # the same in both
        distillation = Distillation(run, sandbox, sandbox.training(run.data_seed), "cpu")
        losses.append(float(distillation.loss(student(batch.tokens), batch, 0, student)[0]))
    assert len(losses) == 2
    assert (losses[0] == losses[1]) == (name == "noisy")


def test_an_entry_is_built_once_and_shared() -> None:
    opened: list[tuple[str, float]] = []

    def counting(name: str, fraction: float) -> Model:
        opened.append((name, fraction))
        return trained(name, fraction)

    entries = {
        "young": {"kind": "checkpoint"},
        "soft": {"kind": "temperature", "of": "young", "temperature": 2.0},
        "few": {"kind": "top-k", "of": "young", "k": 2},
        "all": {"kind": "ensemble", "of": ["soft", "few", "young"]},
        "idle": {"kind": "checkpoint"},
    }
    teacher = built("all", entries=entries, trained=counting)
    assert opened == [("young", 1.0)]
    soft, few, young = teacher.parts
    assert soft.parts[0] is few.parts[0] is young
    assert [one.kind for one in everyone(teacher)] == ["checkpoint", "temperature", "top-k", "ensemble"]
    assert list(everyone(teacher)) == [young, soft, few, teacher]


def test_everyone_visits_shared_parts_once_however_deep() -> None:
    teacher: Teacher = teachers.Uniform(12)
    for _ in range(60):  # 2^60 paths
        teacher = teachers.Ensemble(teacher, teacher)
    assert len(list(everyone(teacher))) == 61


def test_expected_is_the_teacher_itself_unless_it_draws() -> None:
    for name in set(ENTRIES) - DRAWING:
        teacher = built(name)
        assert teacher.expected() is teacher
    assert built("noisy", entries={**ENTRIES, "noisy": {"kind": "noisy", "of": "sampled"}}).expected() is None
    sampled = built("sampled")
    assert sampled.expected() is sampled.parts[0]


def test_a_moments_draws_depend_on_purpose_seed_and_step_alone() -> None:
    def draw(moment: Moment, purpose: str) -> float:
        return float(torch.rand((), generator=moment.generator(purpose)))

    base = draw(Moment(3, 10, 0), "a")
    assert base == draw(Moment(3, 20, 0), "a")
    assert len({base, draw(Moment(3, 10, 0), "b"), draw(Moment(4, 10, 0), "a"), draw(Moment(3, 10, 1), "a")}) == 4


def test_teachers_work_in_worlds_of_another_size() -> None:
    sandbox = world(vocab=7, seq_len=9, rows={"high": 1.5})
    tokens, labels = some_tokens(sandbox, 3)
    for teacher in (
        teachers.Uniform(7),
        teachers.Permuted(teachers.Oracle(sandbox), 7),
        teachers.Tilted(teachers.Bigram(sandbox), sandbox, horizon=4),
        teachers.TopK(teachers.Oracle(sandbox), k=100),
    ):
        assert teacher.log_probs(tokens, labels).shape == (3, 9, 7)
