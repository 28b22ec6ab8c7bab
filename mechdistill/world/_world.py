"""What a world has to offer, and what one offers besides that knows its own distribution."""

from abc import ABC, abstractmethod
from typing import Generic, TypeVar, overload

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor

from mechdistill.errors import MechdistillError
from mechdistill.tables import Need
from mechdistill.world._batch import Batch, Labels, Stream

Number = TypeVar("Number", bound=np.generic)

N_BUCKETS = 4  # quartiles of ordinary rows by entropy

EXACT_BAYES = "exact Bayes"
COUNT = "what followed triggers most often"
COUNT_BY_ROW = "count x own row"
ONE_AT_A_TIME = "Bayes, one trigger at a time"
TABLE = "a table without context, of copyable positions"
BIGRAM = "the best table without context"
GUESSERS = (EXACT_BAYES, COUNT, COUNT_BY_ROW, ONE_AT_A_TIME, TABLE, BIGRAM)
"""Who may guess best without matching; all but the first are rules that are compared where it cannot be had."""


class Copied(Generic[Number]):
    """An array of a world, set once, of which everyone gets a copy: worlds are shared by all who measure in them."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = f"_{name}"

    def __set__(self, world: object, array: NDArray[Number]) -> None:
        world.__dict__[self._name] = array

    @overload
    def __get__(self, world: None, owner: type) -> "Copied[Number]": ...
    @overload
    def __get__(self, world: object, owner: type) -> NDArray[Number]: ...
    def __get__(self, world: object, owner: type) -> "NDArray[Number] | Copied[Number]":
        return self if world is None else world.__dict__[self._name].copy()


class World(ABC):
    """Where models are trained and measured."""

    provides: frozenset[Need]
    """What measures can ask of it: triggers, oracle."""
    vocab: int
    """Number of tokens."""
    seq_len: int
    """Predictions in a sequence; a sequence has seq_len + 1 tokens."""
    symbols: tuple[str, ...]
    """What each token stands for."""
    triggers: tuple[int, ...]
    """Tokens that are triggers in every sequence; empty where sequences draw their own, or there are none."""
    start_token: int
    """The token that stands where other models have a beginning-of-sequence token."""

    @abstractmethod
    def training(self, seed: int, unique: int | None = None) -> Stream:
        """The training sequences of a data seed: endless, or `unique` ones reshuffled every epoch."""

    @abstractmethod
    def evaluation(self, count: int, start: int = 0) -> Batch:
        """Held-out sequences, the same for every run in this world."""

    @abstractmethod
    def labels(self, tokens: Int[Tensor, "batch pos"], triggers: Bool[Tensor, "batch vocab"] | None = None) -> Labels:
        """What each position is; `triggers` says which tokens are triggers in each sequence, where tokens do not."""


class KnownWorld(World):
    """A world with an oracle: a first-order chain, given per sequence by its triggers and their targets.

    Its arrays and tensors are copies: what is done to them changes nothing else.
    """

    pi = Copied[np.float64]()
    """[vocab, vocab]: the transition matrix, ordinary rows of triggers included."""
    row_entropy = Copied[np.float64]()
    """[vocab]: entropy of each row, nats."""
    bucket = Copied[np.int64]()
    """[vocab]: quartile of ordinary rows by entropy; -1 for tokens that are always triggers."""
    start_law = Copied[np.float64]()
    """[vocab]: law of a sequence's first token."""
    rate = Copied[np.float64]()
    """[vocab]: probability that a token is a trigger in a sequence."""
    seed: int
    """Seed of the transition matrix and of the held-out sequences."""
    shows_triggers: bool
    """Whether a token says if it is a trigger: not where every sequence draws its own."""

    @property
    @abstractmethod
    def log_pi(self) -> Float[Tensor, "vocab vocab"]:
        """log pi, nats, float32; a copy of its own."""

    @property
    @abstractmethod
    def stationary(self) -> NDArray[np.float64]:
        """[vocab]: how often each token occurs: the mean over what is drawn for a sequence, and over its positions."""

    @abstractmethod
    def identity(self, *, triggers: bool = False) -> str:
        """All that determines its transition matrix, and with `triggers` its oracle, as text."""

    @abstractmethod
    def law(self, tokens: Int[Tensor, "batch pos"]) -> Float[Tensor, "batch pos vocab"]:
        """The oracle: exact Bayes-optimal log-law of the next token given tokens[:, :pos+1], float32, nats."""

    @abstractmethod
    def no_matching_hits(self, data: Batch) -> Float[Tensor, "batch pos"]:
        """Copy accuracy, by position, of the best guesser that knows the triggers and matches nothing."""

    @property
    @abstractmethod
    def no_matching_guesser(self) -> str:
        """Who that is: one of `GUESSERS`."""


def known(world: World, who: str) -> KnownWorld:
    """The world, if it knows its own law; raises `MechdistillError` naming who needs that if not."""
    if not isinstance(world, KnownWorld):
        raise MechdistillError(f"{who}: needs a world that knows its own law, and this one has none; use a sandbox")
    return world
