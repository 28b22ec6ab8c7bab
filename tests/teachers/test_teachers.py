import pytest
import torch

from mechdistill import teachers
from mechdistill.config import BigramTeacher, CheckpointTeacher, OracleTeacher
from mechdistill.teachers import Teacher
from tests.helpers import transformer, world


def every_teacher() -> dict[str, Teacher]:
    sandbox = world(triggers={"noise": 0.1})
    return {
        "oracle": teachers.build(OracleTeacher(kind="oracle"), sandbox),
        "bigram": teachers.build(BigramTeacher(kind="bigram"), sandbox),
        "checkpoint": teachers.build(CheckpointTeacher(kind="checkpoint"), sandbox, transformer()),
    }


def test_every_registered_teacher_is_tried_here() -> None:
    assert set(every_teacher()) == set(teachers.TEACHERS)


@pytest.mark.parametrize("name", list(teachers.TEACHERS))
def test_a_teachers_law_is_a_causal_distribution(name: str) -> None:
    teacher, sandbox = every_teacher()[name], world(triggers={"noise": 0.1})
    tokens = sandbox.sequences(0, 0, 8)[:, :-1]
    law = teacher.log_probs(tokens, sandbox.labels(tokens))
    assert law.shape == (*tokens.shape, sandbox.vocab)
    torch.testing.assert_close(law.exp().sum(-1), torch.ones(tokens.shape), rtol=0, atol=1e-5)
    prefix = tokens[:, :5]
    torch.testing.assert_close(teacher.log_probs(prefix, sandbox.labels(prefix)), law[:, :5], rtol=1e-4, atol=1e-5)
    assert not law.requires_grad


def test_what_they_know() -> None:
    sandbox, all_ = world(triggers={"noise": 0.1}), every_teacher()
    tokens = sandbox.sequences(0, 0, 64)[:, :-1]
    labels = sandbox.labels(tokens)
    assert torch.equal(all_["oracle"].log_probs(tokens, labels), sandbox.law(tokens))
    bigram = all_["bigram"].log_probs(tokens, labels)
    ordinary = labels.occurrence == 0
    assert torch.equal(bigram[ordinary], sandbox.law(tokens)[ordinary])
    assert torch.equal(bigram, sandbox.log_pi[tokens]), "it never copies"
    model = transformer()
    torch.testing.assert_close(all_["checkpoint"].log_probs(tokens, labels), model(tokens).log_softmax(-1))


def test_ids_hash_what_gives_the_targets() -> None:
    first, again = every_teacher(), every_teacher()
    assert {n: t.id for n, t in first.items()} == {n: t.id for n, t in again.items()}
    assert len({t.id for t in first.values()}) == len(first)
    changed = transformer()
    changed.W_U.data[0, 0] += 1e-3
    other = teachers.build(CheckpointTeacher(kind="checkpoint"), world(), changed)
    assert other.id != first["checkpoint"].id
    assert teachers.build(OracleTeacher(kind="oracle"), world()).id != first["oracle"].id, "noise differs"


def test_a_checkpoint_teacher_learns_nothing_from_its_student() -> None:
    model = transformer().requires_grad_(True)
    teachers.build(CheckpointTeacher(kind="checkpoint"), world(), model)
    assert not any(p.requires_grad for p in model.parameters())
    with pytest.raises(ValueError, match="needs its trained model"):
        teachers.build(CheckpointTeacher(kind="checkpoint"), world())
