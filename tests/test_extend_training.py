"""Teachers, divergences and routing signals that a user defines: in YAML, in training and resuming, in processes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import mechdistill as md
from mechdistill.config import (
    DIVERGENCES,
    SIGNALS,
    TEACHERS,
    TeacherConfig,
    Traits,
    definitions,
    expand,
    experiment,
    load_experiment,
    parse_yaml,
    to_yaml,
)
from mechdistill.errors import MechdistillError
from mechdistill.plugins import _loaded
from mechdistill.registry import Registry
from mechdistill.teachers import Sampled, Teacher
from mechdistill.training import train
from tests.helpers import micro, only, world
from tests.teachers.every import ENTRIES, built, some_tokens
from tests.training.test_training import opened, states

FILE = '''
import torch
import mechdistill as md

@md.teacher()
def sharpened(tokens, labels, of, *, power: float = 2):
    """p^power, renormalised."""
    return (power * of).log_softmax(-1)

@md.divergence(formula="½ Σ (p - q)²")
def squared(teacher_log_probs, student_log_probs, *, scale: float = 0.5):
    return scale * (teacher_log_probs.exp() - student_log_probs.exp()).square().sum(-1)

@md.routing_signal()
def surprise(seen):
    return -seen.teacher_log_probs.amax(-1)
'''

OWN: dict[str, Any] = {
    "teachers": {"blind": {"kind": "bigram"}, "sharp": {"kind": "sharpened", "of": "blind", "power": 3}},
    "arms": only(
        {
            "spt": {},
            "sharp": {"alpha": 0.9, "teacher": "sharp"},
            "squared": {"alpha": 0.9, "teacher": "blind", "divergence": {"kind": "squared", "scale": 2}},
            "surprised": {
                "alpha": 0.9,
                "teacher": "blind",
                "divergence": "squared",
                "routing": {"signal": "surprise", "quantile": 0.25},
            },
        }
    ),
}


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    """Leave the registries as they were."""
    states = [(registry, registry.state()) for registry in Registry.every]
    files = dict(_loaded)
    yield
    for registry, state in states:
        registry.restore(state)
    _loaded.clear()
    _loaded.update(files)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "own.py"
    path.write_text(FILE)
    return path


def test_what_a_file_defines_goes_through_yaml_set_and_the_resolved_file(file: Path) -> None:
    with pytest.raises(MechdistillError, match=r"^teachers.sharp.kind='sharpened': must be one of .*--plugin FILE.py"):
        micro(**OWN)
    with pytest.raises(MechdistillError, match=r"^arms.dpt.divergence.kind='squared': must be one of"):
        micro(arms={"dpt": {"divergence": "squared"}})
    with pytest.raises(MechdistillError, match=r"^arms.dpt.routing.signal='surprise': must be one of"):
        micro(arms={"dpt": {"routing": {"signal": "surprise", "quantile": 0.1}}})
    md.plugin(file)
    config = micro(**OWN)
    assert experiment(parse_yaml(to_yaml(config), "again")) == config
    assert config.teachers["sharp"].model_dump() == {"kind": "sharpened", "of": "blind", "power": 3.0}
    run = {run.treatment: run for run in expand(config)}["sharp"]
    assert type(run).model_validate(parse_yaml(to_yaml(run), "again")) == run
    assert [str(type(t).__name__) for t in run.teachers.values()] == ["BigramTeacher", "sharpened"], "parts first"
    settings = [
        "teachers.mine={kind: sharpened, of: half-formed}",
        "arms.dpt-90.teacher=mine",
        "arms.dpt-90.divergence=squared",
        "arms.dpt-90.routing={signal: surprise, quantile: 0.5}",
    ]
    assert load_experiment(settings=settings).teachers["mine"].model_dump()["power"] == 2.0
    for bad, message in (
        (
            {"teachers": {"sharp": {"kind": "sharpened", "of": "blind", "pover": 3}}},
            "teachers.sharp.pover: unknown key",
        ),
        ({"teachers": {"sharp": only(kind="sharpened", power=3)}}, "teachers.sharp.of: missing"),
        ({"teachers": {"sharp": {"kind": "sharpened", "of": "x"}}}, "teachers.sharp: is made of x"),
        ({"arms": {"squared": {"divergence": {"kind": "squared", "scale": "x"}}}}, "arms.squared.divergence.scale='x'"),
        ({"arms": {"surprised": {"routing": {"signal": "surprise", "nats": 1}}}}, "arms.surprised.routing.nats: surp"),
    ):
        with pytest.raises(MechdistillError, match=f"^{message}"):
            experiment(_merged(OWN, bad))


def _merged(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    from tests.helpers import merged

    return merged(merged(micro().model_dump(mode="json"), dict(one)), other)


@pytest.mark.parametrize("jobs", [1, 2])
def test_runs_train_with_them_and_know_them_again(file: Path, tmp_path: Path, jobs: int) -> None:
    md.plugin(file)
    config = micro(**OWN)
    outcomes = train(config, tmp_path / "x", jobs=jobs)
    assert states(outcomes) == {"finished"}, [o for o in outcomes if o.message]
    found = opened(tmp_path / "x")
    assert len({run.weights_digest() for run in found.runs}) == len(found.runs)
    assert "definitions" not in found.run("spt/seed-0").provenance["conditions"]
    digest = TEACHERS.origin("sharpened").digest
    assert found.run("sharp/seed-0").provenance["conditions"]["definitions"] == f"teacher sharpened {digest}"
    both = found.run("surprised/seed-0").provenance["conditions"]["definitions"]
    assert both == f"divergence squared {digest}, routing signal surprise {digest}"
    routed = found.run("surprised/seed-0").metrics()
    assert set(routed[routed["metric"] == "routed-fraction"]["value"]) == {0.25}
    assert (routed["metric"] == "floor").sum() == 0, "nobody knows where this loss is smallest"


def test_a_changed_definition_does_not_resume(file: Path, tmp_path: Path) -> None:
    md.plugin(file)
    count = iter(range(10))
    arms = only({"sharp": OWN["arms"]["sharp"]})
    config = micro(teachers=OWN["teachers"], arms=arms)
    outcomes = train(config, tmp_path / "x", stopped=lambda: next(count, None) is None)
    assert states(outcomes) == {"interrupted"}
    file.write_text(FILE.replace("power * of", "1.5 * power * of"))
    md.plugin(file)
    with pytest.raises(MechdistillError, match="was made with another definition of teacher sharpened"):
        train(micro(teachers=OWN["teachers"], arms=arms), tmp_path / "x")
    file.write_text(FILE)
    md.plugin(file)
    assert states(train(micro(teachers=OWN["teachers"], arms=arms), tmp_path / "x")) == {"finished"}
    file.write_text(FILE.replace("power * of", "1.5 * power * of"))
    md.plugin(file)
    more = micro(teachers=OWN["teachers"], arms=arms, seeds=[0, 1])
    with pytest.raises(MechdistillError, match="was made with another definition"):
        train(more, tmp_path / "x")  # one arm would hold two treatments
    file.write_text(FILE + "# a comment makes another file\n")
    md.plugin(file)
    assert md.load(tmp_path / "x").runs, "what is finished can be looked at"


def test_a_run_directory_never_loads_the_file(file: Path, tmp_path: Path) -> None:
    md.plugin(file)
    arms = only({"sharp": OWN["arms"]["sharp"]})
    train(micro(teachers=OWN["teachers"], arms=arms), tmp_path / "x")
    for registry in Registry.every:
        registry.drop(str(file))
    with pytest.raises(MechdistillError, match=r"teachers.sharp.kind='sharpened': must be .*--plugin FILE.py") as error:
        md.load(tmp_path / "x/sharp/seed-0")
    assert "\n" not in str(error.value)


def test_a_definition_of_the_session_trains_here_and_in_no_other_process(tmp_path: Path) -> None:
    @md.teacher(traits=Traits(moves=True))
    def blank(tokens: torch.Tensor, labels: Any) -> torch.Tensor:
        return torch.zeros(*tokens.shape, 12).log_softmax(-1)

    entries = {"flat": {"kind": "uniform"}, "own": {"kind": "blank"}}
    arms = only({name: {"alpha": 0.9, "teacher": name} for name in entries})
    config = micro(teachers=only(entries), arms=arms)
    with pytest.raises(MechdistillError, match="jobs=2: teacher blank is defined in this session"):
        train(config, tmp_path / "x", jobs=2)
    assert not (tmp_path / "x").exists()
    assert states(train(config, tmp_path / "x")) == {"finished"}
    found = opened(tmp_path / "x")
    assert found.run("own/seed-0").weights_digest() == found.run("flat/seed-0").weights_digest(), "the same law"
    (origin,) = definitions(found.run("own/seed-0").config).values()
    assert origin.where == "this session"
    assert len(str(origin.digest)) == 64
    with pytest.raises(MechdistillError, match="must name an arm whose teacher stays the same, and own does not"):
        micro(teachers=only(entries), arms=only({**arms, "x": {"label_smoothing": {"match": "own"}}}))


def test_a_teacher_can_be_a_class_with_settings_parts_checks_and_a_mean() -> None:
    class Blur(TeacherConfig):
        of: str
        weight: float = 0.5

        def check(self, teachers: Any) -> None:
            if self.of == "oracle":
                raise ValueError(f"of={self.of}: must not be the oracle")

    @md.teacher(traits=Traits(draws=True))
    class HalfBlurred(Teacher):
        entry = Blur

        def __init__(self, of: Teacher, weight: float):
            super().__init__(repr(weight), parts=(of,))
            self.weight = weight

        def expected(self) -> Teacher | None:
            return self.parts[0].expected()

        def log_probs(self, tokens: torch.Tensor, labels: Any) -> torch.Tensor:
            return (self.weight * self.parts[0].log_probs(tokens, labels)).log_softmax(-1)

    entry = {"kind": "half-blurred", "of": "drawn", "weight": 0.25}
    drawn = {"kind": "sampled", "of": "bigram", "n": 64}
    entries = ENTRIES | {"own": entry, "other": {**entry, "weight": 0.5}, "drawn": drawn}
    sandbox = world(rows={"low": 1.0})
    teacher = built("own", sandbox, entries={**entries, "own": {**entry, "of": "uniform"}})
    assert isinstance(teacher, HalfBlurred)
    assert teacher.changes
    assert teacher.kind == "half-blurred"
    tokens, labels = some_tokens(sandbox)
    torch.testing.assert_close(teacher.log_probs(tokens, labels).exp(), torch.full((8, 16, 12), 1 / 12))
    deep = built("own", entries=entries)
    assert isinstance(deep.parts[0], Sampled)
    assert deep.expected() is deep.parts[0].parts[0]
    assert len({built(name, entries=entries).id for name in ("own", "other")}) == 2
    with pytest.raises(MechdistillError, match=r"^teachers.own.of=oracle: must not be the oracle"):
        micro(teachers={"oracle": {"kind": "oracle"}, "own": {**entry, "of": "oracle"}})


def _with(**namespace: Any) -> type[Teacher]:
    return type("Mine", (Teacher,), namespace)


def _right(self: Any, tokens: Any, labels: Any) -> Any:
    raise NotImplementedError


MALFORMED: dict[str, tuple[Any, Any, str]] = {
    "taken": (md.teacher(name="oracle"), lambda tokens, labels: None, "teacher 'oracle': mechdistill has one of that"),
    "no name": (md.teacher(), lambda tokens, labels: None, "teacher '<lambda>': a name is made of"),
    "too few": (md.teacher(name="x"), lambda tokens: None, r"teacher 'x': takes \(tokens\); must take \(tokens, lab"),
    "stars": (md.teacher(name="x"), lambda *all: None, r"teacher 'x': takes \*all; must name its settings"),
    "no function": (md.teacher(name="x"), 3, "teacher 'x': is int; must be a function"),
    "no source": (md.divergence(name="x"), print, "divergence 'x': is builtin_function_or_method; must be a function"),
    "no teacher": (md.teacher(name="x"), dict, "teacher 'x': is no teacher; derive the class from"),
    "abstract": (md.teacher(name="x"), _with(), "teacher 'x': does not define log_probs"),
    "entry": (
        md.teacher(),
        _with(log_probs=_right, entry=3),
        "teacher 'mine': its entry is int; must be a class",
    ),
    "reserved": (md.teacher(name="x"), lambda tokens, labels, *, kind=1: None, "teacher 'x': setting 'kind': is a na"),
    "untyped": (md.teacher(name="x"), lambda tokens, labels, *, a: None, "teacher 'x': setting 'a': has no type"),
    "divergence": (md.divergence(name="x"), lambda p: None, r"divergence 'x': takes \(p\); must take \(teacher_log_p"),
    "known": (md.divergence(name="jsd"), lambda p, q: None, "divergence 'jsd': mechdistill has one of that name"),
    "signal": (md.routing_signal(name="x"), lambda a, b: None, r"routing signal 'x': takes \(a, b\); must take \(se"),
    "settings": (md.routing_signal(name="x"), lambda s, *, k=1: None, "routing signal 'x': takes the setting k; must"),
}


@pytest.mark.parametrize("what", list(MALFORMED))
def test_a_malformed_definition_is_refused_in_one_line_and_registers_nothing(what: str) -> None:
    decorator, definition, message = MALFORMED[what]
    before = [list(registry) for registry in (TEACHERS, DIVERGENCES, SIGNALS)]
    with pytest.raises(MechdistillError, match=f"^{message}") as error:
        decorator(definition)
    assert "\n" not in str(error.value)
    assert before == [list(registry) for registry in (TEACHERS, DIVERGENCES, SIGNALS)]


def _teach(value: Any) -> dict[str, Any]:
    md.teacher(name="own")(lambda tokens, labels: value(tokens))
    return {"teachers": only(own={"kind": "own"}), "arms": only(x={"alpha": 0.9, "teacher": "own"})}


def _diverge(value: Any) -> dict[str, Any]:
    md.divergence(name="own")(lambda teacher_log_probs, student_log_probs: value(student_log_probs))
    arm = {"alpha": 0.9, "teacher": "flat", "divergence": "own"}
    return {"teachers": only(flat={"kind": "uniform"}), "arms": only(x=arm)}


def _signal(value: Any) -> dict[str, Any]:
    md.routing_signal(name="own")(lambda seen: value(seen.random))
    arm = {"alpha": 0.9, "teacher": "flat", "routing": {"signal": "own", "quantile": 0.5}}
    return {"teachers": only(flat={"kind": "uniform"}), "arms": only(x=arm)}


@pytest.mark.parametrize(
    ("define", "value", "message"),
    [
        (_teach, lambda tokens: torch.zeros(*tokens.shape, 5), "teacher 'own': gave float32 [256, 16, 5]; must be"),
        (
            _teach,
            lambda tokens: torch.zeros(*tokens.shape, 12).double(),
            "teacher 'own': gave float64 [256, 16, 12]; mu",
        ),
        (_teach, lambda tokens: None, "teacher 'own': gave NoneType; must be log-probabilities, float32 [256, 16, 12]"),
        (_teach, lambda tokens: torch.zeros(*tokens.shape, 12), "teacher 'own': gave probabilities that sum to 12"),
        (
            _teach,
            lambda tokens: torch.full((*tokens.shape, 12), torch.nan),
            "teacher 'own': gave probabilities that su",
        ),
        (_diverge, lambda q: q, "divergence 'own': gave torch.float32 [4, 16, 12]; must be a number a position: float"),
        (_diverge, lambda q: q.detach().sum(-1), "divergence 'own': gave values without a gradient"),
        (_diverge, lambda q: q.sum(-1) * torch.nan, "divergence 'own': gave nan; must be a number at every position"),
        (_signal, lambda draws: draws[0], "routing signal 'own': gave torch.float32 [16]; must be a number a position"),
        (_signal, lambda draws: draws * torch.nan, "routing signal 'own': gave nan"),
    ],
)
def test_what_it_gives_is_checked_when_first_asked(define: Any, value: Any, message: str, tmp_path: Path) -> None:
    (outcome,) = train(micro(**define(value)), tmp_path / "x")
    assert outcome.state == "failed"
    assert str(outcome.message).startswith(message)
    assert "\n" not in str(outcome.message)
    assert not (tmp_path / "x/x/seed-0/error.log").exists(), "bad input, no failure of ours"


def test_a_divergence_that_needs_support_is_refused_against_a_teacher_that_excludes_tokens(tmp_path: Path) -> None:
    @md.divergence(needs_support=True, formula="KL(q ‖ p)")
    def backward(teacher_log_probs: torch.Tensor, student_log_probs: torch.Tensor) -> torch.Tensor:
        return (student_log_probs.exp() * (student_log_probs - teacher_log_probs)).sum(-1)

    entries = only(few={"kind": "top-k", "of": "flat", "k": 3}, flat={"kind": "uniform"})
    kinds = {"a": "backward", "b": {"kind": "backward", "floor": 0.01}, "c": {"kind": "reverse-kl", "floor": 0.01}}
    arms = only({name: {"alpha": 0.9, "teacher": "few", "divergence": kind} for name, kind in kinds.items()})
    outcomes = {o.run[0]: o for o in train(micro(teachers=entries, arms=arms), tmp_path / "x")}
    assert "divergence=backward: infinite, since the teacher excludes tokens" in str(outcomes["a"].message)
    assert outcomes["b"].state == outcomes["c"].state == "finished"
    runs = opened(tmp_path / "x")
    losses = [runs.run(f"{name}/seed-0").metrics() for name in "bc"]
    kl = [table[table["metric"] == "kl"]["value"].to_numpy() for table in losses]
    assert kl[0] == pytest.approx(kl[1], rel=1e-3), "our own reverse KL"
    from mechdistill.runs import treatment

    assert "0.9·KL(q ‖ p)`" in treatment(runs.run("b/seed-0").config)
