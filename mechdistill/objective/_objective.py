"""An arm's objective: its weights at every position, its loss, and the law at which that loss is smallest."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechdistill.config import (
    DIVERGENCES,
    SIGNALS,
    AlphaByOccurrence,
    ArmConfig,
    MatchedSmoothing,
    OccurrenceWeights,
    OptimalAlpha,
    RampAlpha,
    StagedAlpha,
)
from mechdistill.errors import MechdistillError
from mechdistill.laws import mixed, soften, uniform_like
from mechdistill.objective._mixture import Losses, Weights, mixture, per_term
from mechdistill.objective._own import values_by_position
from mechdistill.objective._routing import Seen, choose
from mechdistill.objective._rules import optimal_alpha
from mechdistill.teachers import Moment
from mechdistill.world import Labels


class Part(NamedTuple):
    """Which sequences of a batch these are, where it is asked about in parts."""

    first: int
    of: int  # sequences in the whole


class Asked(NamedTuple):
    """Positions, and what is known of them, at a moment of training."""

    labels: Labels
    teacher_log_probs: Float[Tensor, "batch pos vocab"] | None  # its targets
    expected_log_probs: Float[Tensor, "batch pos vocab"] | None  # of what they are drawn from; themselves where none is
    student_log_probs: Float[Tensor, "batch pos vocab"]
    moment: Moment
    # how often each token was expected to have been seen so far; None unless alpha is by it
    visits: Float[Tensor, " vocab"] | None
    part: Part | None = None  # of a batch; None: the whole


class Unrouted(NamedTuple):
    """What routing goes by at each position, and what it decides between; parts of a batch can be joined."""

    plain: Weights
    kept: Float[Tensor, "batch pos"] | None = None  # weight of the cross-entropy where a position is routed
    signal: Float[Tensor, "batch pos"] | None = None
    random: Float[Tensor, "batch pos"] | None = None

    def cpu(self) -> "Unrouted":
        """The same on the CPU."""
        rest = (None if field is None else field.cpu() for field in self[1:])
        return Unrouted(Weights(*(field.cpu() for field in self.plain)), *rest)

    @classmethod
    def joined(cls, parts: "Sequence[Unrouted]") -> "Unrouted":
        """The batch from its parts."""
        plain = Weights(*(torch.cat(fields) for fields in zip(*(part.plain for part in parts), strict=True)))
        if parts[0].signal is None:
            return cls(plain)
        return cls(plain, *(torch.cat(fields) for fields in zip(*(part[1:] for part in parts), strict=True)))


class Objective:
    """What an arm minimises, position by position."""

    def __init__(self, config: ArmConfig, smoothing: float | None = None):
        """`smoothing` is the label smoothing where the arm says only what it has to match."""
        if smoothing is None:
            assert not isinstance(config.label_smoothing, MatchedSmoothing)
            smoothing = config.label_smoothing
        self.config = config
        self.smoothing = smoothing
        self._floor: float | None = getattr(config.divergence, "floor", None)
        self._settings = config.divergence.settings

    @property
    def reads_the_expected_law(self) -> bool:
        """Whether weights depend on `Asked.expected_log_probs`: then training has to have it, not the targets alone."""
        return self.config.routing is not None or isinstance(self.config.alpha, OptimalAlpha)

    def loss(self, asked: Asked, next_tokens: Int[Tensor, "batch pos"]) -> Losses:
        """Its value on a batch; see `mixture`."""
        return mixture(
            asked.student_log_probs,
            next_tokens,
            self._floored(asked.teacher_log_probs),
            self.weights(asked),
            divergence=self._divergence,
            temperature=self.config.temperature,
            soften_both=self.config.soften == "both",
            smoothing=self.smoothing,
        )

    def _divergence(
        self, teacher_log_probs: Float[Tensor, "batch pos vocab"], student_log_probs: Float[Tensor, "batch pos vocab"]
    ) -> Float[Tensor, "batch pos"]:
        laws = (teacher_log_probs, student_log_probs)
        name, like = self.config.divergence.kind, student_log_probs[..., 0]
        return values_by_position(DIVERGENCES, name, like, *laws, **self._settings)

    def weights(self, asked: Asked) -> Weights:
        """Weights of the two terms: (1 - alpha)·ce_weight and alpha, but for routed positions.

        Scaled by `per_term` where each term has a mean of its own. Signals and alpha read the law that targets are
        drawn from, never the draws: where those agree by chance would otherwise be chosen, and the targets no longer
        be unbiased.
        """
        return self.routed(self.unrouted(asked))

    @torch.no_grad()
    def unrouted(self, asked: Asked) -> Unrouted:
        """What `routed` needs to know, position by position."""
        plain, routing = self._unrouted_weights(asked), self.config.routing
        if routing is None or asked.expected_log_probs is None:
            return Unrouted(plain)
        device, (sequences, length) = plain.soft.device, plain.soft.shape
        first, of = asked.part or (0, sequences)
        random = torch.rand((of, length), generator=asked.moment.generator("routing"))[first : first + sequences]
        random, copyable = random.to(device), asked.labels.copyable.to(device)
        seen = Seen(asked.expected_log_probs, asked.student_log_probs, copyable, random)
        signal = values_by_position(SIGNALS, routing.signal, random, seen)
        return Unrouted(plain, self._kept(asked, plain), signal, random)

    @torch.no_grad()
    def routed(self, unrouted: Unrouted) -> Weights:
        """The weights of a whole batch, with the positions chosen that lose their distillation term."""
        weights, kept, signal, random = unrouted
        if kept is not None and signal is not None and random is not None:
            assert self.config.routing is not None
            routed = choose(self.config.routing, signal, random)
            weights = Weights(torch.where(routed, kept, weights.hard), torch.where(routed, 0.0, weights.soft), routed)
        return per_term(weights) if self._is_per_term else weights

    def _unrouted_weights(self, asked: Asked) -> Weights:
        alpha = self.alpha(asked)
        hard = (1 - alpha) * self._by_occurrence(self.config.ce_weights, asked)
        return Weights(hard, alpha, torch.zeros_like(alpha, dtype=torch.bool))

    def _kept(self, asked: Asked, plain: Weights) -> Float[Tensor, "batch pos"]:
        """Weight of the cross-entropy where a position is routed; its other term has none."""
        assert self.config.routing is not None
        return self._by_occurrence(self.config.ce_weights, asked) if self.config.routing.keep == 1 else plain.hard

    @torch.no_grad()
    def alpha(self, asked: Asked) -> Float[Tensor, "batch pos"]:
        """The weight of distillation at each position, before routing."""
        alpha, done = self.config.alpha, asked.moment.fraction
        ones = asked.student_log_probs.new_ones(asked.student_log_probs.shape[:-1])
        if isinstance(alpha, float | int):
            return alpha * ones
        if isinstance(alpha, RampAlpha):
            along = done if alpha.kind == "linear" else 0.5 * (1 - math.cos(math.pi * done))
            return (alpha.start + (alpha.end - alpha.start) * along) * ones
        if isinstance(alpha, StagedAlpha):
            return [value for start, value in alpha.stages if start <= done][-1] * ones
        if isinstance(alpha, AlphaByOccurrence):
            return self._by_occurrence(alpha, asked)
        assert asked.expected_log_probs is not None
        assert asked.visits is not None
        log_probs = asked.labels.log_probs.to(ones.device)
        target = soften(asked.expected_log_probs, self.config.temperature)
        return optimal_alpha(log_probs, target, asked.visits.to(ones.device)[asked.labels.row.to(ones.device)])

    @torch.no_grad()
    def target(self, asked: Asked, *, occurrence_is_visible: bool) -> Float[Tensor, "batch pos vocab"] | None:
        """The law at which the expected loss is smallest: (w·labels' law + a·teacher) / (w + a), log-probabilities.

        The labels' law is the oracle's, smoothed where labels are; w and a are what a student can expect who sees the
        context alone. nan where both are 0. None where that is not known: with other divergences than forward KL or
        a softened student; where routing depends on the rest of the sequence or on the student (a quantile, unless
        it is of random positions; student signals); where weights go by occurrences that the context does not show
        (`occurrence_is_visible`: false where every sequence draws its own triggers); and where both terms meet at a
        position, each with a mean over positions whose number hangs on the rest of the batch.
        """
        if not self.config.divergence.is_forward_kl or self.config.soften == "both":
            return None
        if self._goes_by_occurrence and not occurrence_is_visible:
            return None
        weights = self._expected_weights(asked)
        if weights is None:
            return None
        log_probs = asked.labels.log_probs.to(asked.student_log_probs.device)
        smoothing = torch.as_tensor(self.smoothing, device=log_probs.device)
        target = mixed(log_probs, uniform_like(log_probs), smoothing)
        if asked.expected_log_probs is None:
            return torch.where(weights.hard[..., None] > 0, target, torch.nan)
        share = weights.soft / (weights.hard + weights.soft)
        return mixed(target, soften(asked.expected_log_probs, self.config.temperature), share[..., None])

    @property
    def _goes_by_occurrence(self) -> bool:
        config = self.config
        by_class = config.routing is not None and config.routing.by.reads_occurrence
        return by_class or isinstance(config.alpha, AlphaByOccurrence) or config.ce_weights != OccurrenceWeights()

    @property
    def _is_per_term(self) -> bool:
        return self.config.normalise == "per-term"

    @property
    def _terms_are_apart(self) -> bool:
        """Whether no position ever has both: then what it asks for is the same however much they weigh."""
        alpha = self.config.alpha
        if isinstance(alpha, float | int):
            return alpha in (0, 1)
        return isinstance(alpha, AlphaByOccurrence) and {alpha.ordinary, alpha.first, alpha.copyable} == {0.0, 1.0}

    def _expected_weights(self, asked: Asked) -> Weights | None:
        """Weights given the context, averaged over what it does not determine; None where that is not known."""
        routing = self.config.routing
        if routing is None or (routing.quantile is None and not routing.by.asks_the_student):
            return self.weights(asked) if self._terms_are_apart or not self._is_per_term else None
        if not routing.by.is_random or (self._is_per_term and self._goes_by_occurrence):
            return None
        plain = self._unrouted_weights(asked)
        sequences, length = plain.soft.shape
        n = length * (1 if routing.scope == "sequence" else asked.part.of if asked.part else sequences)
        share = routing.taken(n) / n
        kept = self._kept(asked, plain)
        hard, soft = (1 - share) * plain.hard + share * kept, (1 - share) * plain.soft
        if self._is_per_term:  # every position alike: of so many in a batch each term has this share
            hard = hard / ((1 - share) * (plain.hard > 0) + share * (kept > 0)).clamp(min=1 / n)
            soft = soft / max(1 - share, 1 / n)
        return Weights(hard, soft, plain.routed)

    def _by_occurrence(self, values: OccurrenceWeights | AlphaByOccurrence, asked: Asked) -> Float[Tensor, "batch pos"]:
        ones = asked.student_log_probs.new_ones(asked.student_log_probs.shape[:-1])
        if values.ordinary == values.first == values.copyable:
            return values.ordinary * ones  # most arms: nothing to look up
        occurrence = asked.labels.occurrence.to(ones.device)
        later = torch.where(occurrence == 1, values.first * ones, values.copyable * ones)
        return torch.where(occurrence == 0, values.ordinary * ones, later)

    def _floored(
        self, teacher_log_probs: Float[Tensor, "batch pos vocab"] | None
    ) -> Float[Tensor, "batch pos vocab"] | None:
        """The teacher as the divergence sees it.

        Where the student's mass is on what the teacher excludes, reverse KL is infinite and its gradient nan. Mixed
        with a little of the uniform law it is at most ln(vocab / floor) there. Only here: routing and alpha read the
        teacher itself, and the labels' term is left alone.
        """
        divergence = self.config.divergence
        if teacher_log_probs is None or not divergence.needs_support:
            return teacher_log_probs
        if self._floor is not None:
            floor = torch.as_tensor(self._floor, device=teacher_log_probs.device)
            return mixed(teacher_log_probs, uniform_like(teacher_log_probs), floor)
        if bool((teacher_log_probs == -torch.inf).any()):
            raise MechdistillError(
                f"divergence={divergence.kind}: infinite, since the teacher excludes tokens; "
                "set divergence.floor (like 1e-4) or take another divergence"
            )
        return teacher_log_probs
