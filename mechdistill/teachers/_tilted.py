"""The law that KL-regularised RL would converge to, computed instead of trained."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mechdistill.config import hashed_seed
from mechdistill.config.teachers import TiltedTeacher
from mechdistill.errors import MechdistillError
from mechdistill.teachers._exact import named_or_oracle
from mechdistill.teachers._protocol import Setting, Teacher
from mechdistill.world import KnownWorld, Labels, known


class Tilted(Teacher):
    """p*(y) ∝ p(y)·E[exp(R / beta) | y], R the rewarded transitions among the next `horizon`, this one included.

    With s the current token, r(s, y) the reward and P the chain behind the world (pi),

        p*(y) ∝ p(y)·exp(r(s, y) / beta)·V_{h-1}(y),   V_0 = 1,   V_j(s) = Σ_y P(y | s)·exp(r(s, y) / beta)·V_{j-1}(y).

    It is the first step of the law of `horizon` tokens that maximises E[R] - beta·KL to the teacher's: at horizon 1
    exactly, for any teacher. Beyond, the future has to be drawn from P: exact for the bigram, for the oracle of a plain
    chain, and at horizon 2 for that of fixed triggers, since V_1 is asked of ordinary rows and, at triggers, which are
    never rewarded, is 1.

    In rows without reward at horizon 1 it is the teacher itself; in others KL(p ‖ p*) = ln E_p[exp(r / beta)] -
    E_p[r] / beta, from 0 (beta -> inf) to infinity (beta -> 0), and 0 if all that the row allows is rewarded.

    A certain target stays, like the oracle's copy targets behind fixed triggers without noise; chance is 1/vocab.
    Fixed triggers are never rewarded, so that at horizon 1 copy accuracy is the teacher's. Otherwise it can differ:
    Bernoulli triggers are rewarded like any row, and a longer horizon tilts what follows a trigger too. Evaluations do
    not know of the reward; `reward` is there to tell rewarded rows from others.
    Source: Korbak et al. 2022 for the one-step law, Levine 2018 for the backward recursion.
    """

    entry = TiltedTeacher
    reward: Bool[Tensor, "row next"]
    """Which transitions are rewarded: all possible; none in rows of tokens that are triggers in every sequence, nor
    in rows of more entropy than `below`."""

    def __init__(
        self,
        teacher: Teacher,
        world: KnownWorld,
        *,
        beta: float = 1.0,
        horizon: int = 1,
        share: float = 0.5,
        good: float = 0.25,
        below: float | None = None,
        seed: int = 0,
    ):
        """Raises `MechdistillError` if no ordinary row's entropy is at most `below`."""
        self.reward = _rewarded(world, share, good, below, seed)
        behind = world.identity() if horizon > 1 else ""
        super().__init__(repr(float(beta)), repr(horizon), behind, self.reward.numpy().tobytes(), parts=(teacher,))
        gain = self.reward.double() / beta
        log_pi = torch.tensor(world.pi).log()
        value = torch.zeros(world.vocab, dtype=torch.float64)  # log V
        for _ in range(horizon - 1):
            value = (log_pi + gain + value).logsumexp(dim=1)
        self._tilt = gain + value  # [row, next], float64

    @classmethod
    def from_config(cls, config: TiltedTeacher, setting: Setting, parts: Sequence[Teacher]) -> Teacher:
        """Of the named teacher or the oracle."""
        options = config.model_dump(include={"beta", "horizon", "share", "good", "below", "seed"})
        return cls(named_or_oracle(parts, setting), known(setting.world, f"teacher '{setting.name}'"), **options)

    def log_probs(self, tokens: Int[Tensor, "batch pos"], labels: Labels) -> Float[Tensor, "batch pos vocab"]:
        """log p*, computed in float64."""
        log_probs = self.parts[0].log_probs(tokens, labels)
        return (log_probs.double() + self._tilt[tokens].to(log_probs.device)).log_softmax(dim=-1).float()


def _rewarded(world: KnownWorld, share: float, good: float, below: float | None, seed: int) -> Bool[Tensor, "row next"]:
    """A share of the rows that can be ordinary, and in each a fraction of its own successors; at least one of both."""
    # a key of its own: the world's rows come from SeedSequence([sandbox seed, 0])
    rng = np.random.default_rng(hashed_seed(f"tilted:{world.seed}:{seed}"))
    ordinary = np.flatnonzero((world.rate < 1) & (world.row_entropy <= (np.inf if below is None else below)))
    if not len(ordinary):
        least = world.row_entropy[world.rate < 1].min()
        raise MechdistillError(
            f"below={below:g}: no row is rewarded, since none that is ordinary has less entropy than {least:.4f} nats; "
            "raise it"
        )
    rows = rng.permutation(ordinary)[: max(1, round(share * len(ordinary)))]
    reward = torch.zeros(world.vocab, world.vocab, dtype=torch.bool)
    for row in rows:
        successors = np.flatnonzero(world.pi[row])
        reward[row, rng.permutation(successors)[: max(1, round(good * len(successors)))]] = True
    return reward
