"""One step of the real loop, for every arm of the study, is the same step in plain PyTorch from the same weights.

The losses below are written out by hand, from the labels and the teachers' probabilities of one batch; so is the step
of AdamW. What is drawn at random is the run's own: which of equally sure positions, labels, permutations.
"""

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from mechdistill.ambient import neutral
from mechdistill.config import RunConfig, expand, experiment, parse_yaml, preset_text
from mechdistill.runs import Run, RunWriter
from mechdistill.sandbox import Sandbox
from mechdistill.tables import metrics
from mechdistill.teachers import Moment, build_teacher, everyone
from mechdistill.training._hooks import Hook
from mechdistill.training._loop import train_run
from mechdistill.training._references import trained_model
from mechdistill.training._trainer import Trainer
from tests.helpers import merged

STEP = 8 * 16  # tokens
PRESETS = ("paper-full", "routes")
SMALL: dict[str, Any] = {
    "sandbox": {"vocab": 16, "seq_len": 16, "rows": {"high": 2.5}, "triggers": {"count": 3}},
    "model": {"d_model": 16, "n_heads": 2},
    "training": {"tokens": 2 * STEP, "batch": 8, "lr": 1e-3, "warmup": 0, "evaluate_every": 1, "eval_sequences": 8},
    "seeds": [0],
}


def shrunk(preset: str) -> dict[str, Any]:
    """A preset whose runs take a few steps of a small network; what an arm is stays as it is."""
    data = merged(parse_yaml(preset_text(preset), preset), SMALL)
    tokens = {"spt-2x": 4, "dpt-90-half": 1, "scarce-spt-2x": 4}
    for name, entry in [*data["teachers"].items(), *data["arms"].items()]:
        if entry.get("kind") == "checkpoint":
            entry["training"] = {"tokens": 6 * STEP}
            entry.pop("until", None)
        elif "branches" in entry.get("training", {}):
            entry["training"] |= {"tokens": 10 * STEP, "branches": [10 * STEP]}
        elif "training" in entry:
            own = {"tokens": tokens.get(name, 2) * STEP, "warmup": 0, "evaluate_every": 1, "batch": 8}
            entry["training"] = {k: v for k, v in entry["training"].items() if k == "unique_sequences"} | own
        if "rows" in entry.get("sandbox", {}):
            entry["sandbox"] = merged(entry["sandbox"], {"rows": {"high": 8}})
        if "model" in entry:
            entry["model"] = {"d_model": 8}
    return data


class Taken(NamedTuple):
    """What the first step of a run did."""

    before: dict[str, Tensor]
    after: dict[str, Tensor]
    gradient: dict[str, Tensor]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("steps")


@pytest.fixture(scope="module")
def taken(root: Path) -> dict[str, dict[str, tuple[RunConfig, Taken]]]:
    """By preset and arm."""
    found: dict[str, dict[str, tuple[RunConfig, Taken]]] = {}
    for preset in PRESETS:
        runs = [run for run in expand(experiment(shrunk(preset))) if run.branch is None]
        found[preset] = {run.treatment: (run, _trained(run, root / preset)) for run in runs}
    return found


def _trained(config: RunConfig, root: Path) -> Taken:
    seen: list[Taken] = []

    def look(trainer: Trainer) -> None:
        beta = config.training.betas[0]
        state = {name: trainer.optimiser.state[p] for name, p in trainer.model.named_parameters()}
        weights = [Run(trainer.writer.path).weights(step) for step in (0, 1)]
        seen.append(Taken(*weights, {name: of["exp_avg"] / (1 - beta) for name, of in state.items()}))

    with neutral():
        trainer = Trainer(config, RunWriter(root, config), "cpu", partial(trained_model, root, config))
        train_run(trainer, lambda _: None, lambda: False, [Hook(look, lambda trainer: trainer.step == 1)])
    return seen[0]


class Plain:
    """The first batch of a run, and what its student and teachers say of it."""

    def __init__(self, config: RunConfig, root: Path):
        self._config, self._root = config, root
        self._world = Sandbox(config.sandbox)
        self._data = self._world.training(config.data_seed, config.training.unique_sequences)
        sequences = self._data.batch(0, config.training.batch).sequences
        self.tokens, labels = sequences[:, :-1], sequences[:, 1:]
        self.model = Run(root / config.path).model(0).requires_grad_(True)
        self.q = self.model(self.tokens).log_softmax(-1)
        self.ce = -self.q.gather(-1, labels[..., None])[..., 0]
        self.copyable = torch.tensor([self._seen_before(sequence) for sequence in self.tokens.tolist()])
        self.random = torch.rand(self.tokens.shape, generator=self._moment.generator("routing"))

    @property
    def _moment(self) -> Moment:
        return Moment(0, self._config.horizon, self._config.seed)

    def _seen_before(self, sequence: list[int]) -> list[bool]:
        """Where a trigger stands that stood before."""
        return [token in self._world.triggers and token in sequence[:i] for i, token in enumerate(sequence)]

    def law(self, name: str) -> Tensor:
        """A teacher's probabilities, from what its entry says."""
        entry = self._config.teachers[name]
        if entry.kind == "oracle":
            return self._world.law(self.tokens).exp()
        if entry.kind == "bigram":
            return torch.tensor(self._world.pi, dtype=torch.float32)[self.tokens]
        if entry.kind == "noisy":
            return 0.9 * self._world.law(self.tokens).exp() + 0.1 / self._world.vocab
        if entry.kind == "checkpoint":
            with torch.no_grad():
                return Run(self._root / self._config.teacher_path(name)).model("last")(self.tokens).softmax(-1)
        if entry.kind == "splice":
            return torch.where(self.copyable[..., None], self.law(entry.copyable), self.law(entry.elsewhere))
        if entry.kind == "ensemble":
            return torch.stack([self.law(part) for part in entry.of]).mean(0)
        made = build_teacher(name, self._config.teachers, self._world, self._data, self._config.seed, self._opened)
        if entry.kind == "tilted":
            reweighted = self.law(entry.of) * made.reward[self.tokens].float().exp()
            return reweighted / reweighted.sum(-1, keepdim=True)
        assert entry.kind in ("permuted", "top-k", "sampled"), f"{entry.kind}: write its law here"
        for one in everyone(made):
            one.advance(self._moment, self.model)
        return made.log_probs(self.tokens, self._world.labels(self.tokens)).exp()

    def _opened(self, name: str, fraction: float) -> Any:
        return trained_model(self._root, self._config, name, fraction)

    def kl(self, teacher: str) -> Tensor:
        """KL(teacher ‖ student) at every position."""
        p = self.law(teacher)
        return (torch.xlogy(p, p) - p * self.q).sum(-1)

    def reverse_kl(self, teacher: str, floor: float) -> Tensor:
        """KL(student ‖ teacher), a little of the uniform law mixed into the teacher."""
        p = (1 - floor) * self.law(teacher) + floor / self._world.vocab
        return (self.q.exp() * (self.q - p.log())).sum(-1)

    def first(self, share: float, key: Tensor) -> Tensor:
        """The positions of the smallest keys, this share of each sequence; among equals, at random."""
        chosen = torch.zeros(key.shape, dtype=torch.bool)
        for i, (keys, ties) in enumerate(zip(key.tolist(), self.random.tolist(), strict=True)):
            order = sorted(range(len(keys)), key=lambda j, keys=keys, ties=ties: (keys[j], ties[j]))
            chosen[i, order[: math.floor(share * len(keys) + 0.5)]] = True
        return chosen

    def entropy(self, teacher: str) -> Tensor:
        """Of the teacher, at every position."""
        p = self.law(teacher)
        return -torch.xlogy(p, p).sum(-1)

    def smoothing(self) -> float:
        """That the run has found."""
        log = Run(self._root / self._config.path).metrics()
        return float(log[log["metric"] == metrics.LABEL_SMOOTHING.name]["value"].iloc[0])


Loss = Callable[[Plain], Tensor]


def standard(copyable: float = 1.0) -> Loss:
    return lambda s: (torch.where(s.copyable, copyable, 1.0) * s.ce).mean()


def distilled(alpha: float, teacher: str) -> Loss:
    return lambda s: (1 - alpha) * s.ce.mean() + alpha * s.kl(teacher).mean()


def routed(share: float, key: Callable[[Plain], Tensor]) -> Loss:
    """The paper's: where routed, the distillation term is dropped and the other one stays as small as it was."""

    def loss(s: Plain) -> Tensor:
        spared = s.first(share, key(s))
        return (0.1 * s.ce + torch.where(spared, 0.0, 0.9) * s.kl("imperfect")).mean()

    return loss


def opposite(key: Callable[[Plain], Tensor], divergence: Callable[[Plain], Tensor], per_term: bool = False) -> Loss:
    """Labels at 85 % of the positions, the divergence at the others."""

    def loss(s: Plain) -> Tensor:
        labelled = s.first(0.85, key(s))
        taught = divergence(s)[~labelled]
        if per_term:
            return s.ce[labelled].mean() + taught.mean()
        return (s.ce[labelled].sum() + taught.sum()) / labelled.numel()

    return loss


def smoothed(s: Plain) -> Tensor:
    amount = s.smoothing()
    return ((1 - amount) * s.ce - amount * s.q.mean(-1)).mean()


def surest(s: Plain) -> Tensor:
    return s.entropy("imperfect")


def least_sure(s: Plain) -> Tensor:
    return -s.entropy("imperfect")


def blind(s: Plain) -> Tensor:
    return s.random


def kl(s: Plain) -> Tensor:
    return s.kl("imperfect")


def reverse(s: Plain) -> Tensor:
    return s.reverse_kl("imperfect", 1e-4)


LOSSES: dict[str, Loss] = {
    **dict.fromkeys(("spt", "spt-2x", "scarce-spt", "scarce-spt-2x", "trunk-spt"), standard()),
    "spt-downweight": standard(copyable=0.1),
    "omit": standard(copyable=0.0),
    "label-smoothing": smoothed,
    "dpt-50": distilled(0.5, "imperfect"),
    "dpt-90": distilled(0.9, "imperfect"),
    "dpt-90-half": distilled(0.9, "imperfect"),
    "dpt-90-half-formed": distilled(0.9, "half-formed"),
    "dpt-90-oracle": distilled(0.9, "oracle"),
    "dpt-90-routed": routed(0.15, surest),
    "dpt-90-routed-30": routed(0.3, surest),
    "dpt-90-inverse-route": routed(0.15, least_sure),
    "dpt-90-random-route": routed(0.15, blind),
    "opposite-route": opposite(least_sure, kl),
    "opposite-route-per-term": opposite(least_sure, kl, per_term=True),
    "opposite-route-reverse": opposite(least_sure, reverse, per_term=True),
    "opposite-random-route": opposite(blind, kl),
    **{f"dpt-90-{t}": distilled(0.9, t) for t in ("permuted", "bigram", "noisy", "late", "tilted", "top-1", "blurred")},
    "dpt-90-same-data": distilled(0.9, "same-data"),
    "trunk-dpt-90": distilled(0.9, "same-data"),
    **{name: distilled(0.9, name) for name in ("hybrid", "sampled-1", "sampled-4", "sampled-16")},
    "scarce-dpt-90": distilled(0.9, "oracle"),
    "scarce-dpt-90-noisy": distilled(0.9, "noisy"),
    "scarce-dpt-90-permuted": distilled(0.9, "permuted"),
    **{f"scarce-dpt-90-{t}": distilled(0.9, f"scarce-{t}") for t in ("late", "tilted", "top-1")},
}
"""By arm: what it says it minimises, on one batch."""

ARMS = [(preset, arm) for preset in PRESETS for arm in parse_yaml(preset_text(preset), preset)["arms"]]


def clipped(loss: Tensor, model: Any) -> dict[str, Tensor]:
    """Its gradient by parameter, of norm 1 at most."""
    names, parameters = zip(*model.named_parameters(), strict=True)
    gradient = torch.autograd.grad(loss, parameters, retain_graph=True)
    norm = math.sqrt(sum(float((g.double() ** 2).sum()) for g in gradient))
    return {name: g / max(norm, 1.0) for name, g in zip(names, gradient, strict=True)}


def adamw(config: RunConfig, before: dict[str, Tensor], gradient: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights after AdamW's first step, in which both moments are the gradient's own."""
    lr, decay = config.training.lr, config.training.weight_decay
    after: dict[str, Tensor] = {}
    for name, weight in before.items():
        shrunk = weight * (1 - lr * decay * (weight.ndim >= 2))
        after[name] = shrunk - lr * gradient[name] / (gradient[name].abs() + 1e-8)
    return after


@pytest.mark.parametrize(("preset", "arm"), ARMS)
def test_one_step_is_the_plain_one(taken: Any, root: Path, preset: str, arm: str) -> None:
    config, step = taken[preset][arm]
    plain = Plain(config, root / preset)
    if not config.sandbox.is_plain:
        assert plain.copyable.any()
    assert config.training.grad_clip == 1
    loss = LOSSES[arm](plain)
    gradient = clipped(loss, plain.model)
    log = Run(root / preset / config.path).metrics()
    logged = log[(log["metric"] == metrics.TRAIN_LOSS.name) & (log["step"] == 1)]["value"]
    assert float(logged.iloc[0]) == pytest.approx(loss.item(), rel=1e-6), "the size of a loss, which Adam does not see"
    for name, before in plain.model.named_parameters():
        assert torch.equal(step.before[name], before.detach())
        torch.testing.assert_close(step.gradient[name], gradient[name], rtol=1e-4, atol=1e-7)
    expected = adamw(config, step.before, gradient)
    for name, weight in step.after.items():
        torch.testing.assert_close(weight, expected[name], rtol=0, atol=1e-6)

    labels = clipped(plain.ce.mean(), plain.model)
    as_spt = all(torch.allclose(gradient[name], labels[name], rtol=1e-3) for name in labels)
    assert as_spt == (LOSSES[arm] is LOSSES["spt"]), "and it is no standard training under another name"


def test_every_arm_of_the_study_is_written_out() -> None:
    assert {arm for _, arm in ARMS} == set(LOSSES), "add the loss of a new arm here"
