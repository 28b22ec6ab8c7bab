"""Transition matrices: graded and two-level entropies (hit exactly), uniform and Dirichlet rows, bigrams of a text.

Entropies are in nats.
"""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple, assert_never

import numpy as np
from numpy.typing import NDArray

from mechdistill.config import CorpusRows, DirichletRows, GradedRows, SandboxConfig, SupportRows, TwoLevelRows
from mechdistill.sandbox._corpus import read

Matrix = NDArray[np.float64]

_AT_ONCE = 2**17  # numbers of the rows whose temperatures are sought together
_MOST_SOLVED_EXACTLY = 512  # tokens


def softmax_rows(scores: Matrix, inverse_temperature: Matrix) -> Matrix:
    """Rows softmax(beta_i * scores_i) in float64. Shapes [row, token], [row] -> [row, token]."""
    z = scores * inverse_temperature[:, None]
    z -= z.max(axis=1, keepdims=True)
    p = np.exp(z)
    return p / p.sum(axis=1, keepdims=True)


def row_entropy(pi: Matrix) -> Matrix:
    """Shannon entropy of each row, in nats; 0·log 0 = 0. Range [0, ln k]."""
    log_pi = np.log(pi, where=pi > 0, out=np.zeros_like(pi))
    return -(pi * log_pi).sum(axis=1)


def normalised(weights: Matrix) -> Matrix:
    """Rows divided by their sums; a row of zeros becomes uniform over the columns that any row can reach."""
    reachable = (weights.sum(axis=0) > 0).astype(float)
    weights = np.where(weights.sum(axis=1, keepdims=True) > 0, weights, reachable)
    return weights / weights.sum(axis=1, keepdims=True)


def rows_with_entropy(scores: Matrix, entropy: Matrix) -> Matrix:
    """The rows softmax(beta_i * scores_i) whose entropies equal `entropy`, by bisection on log beta.

    Entropy falls monotonically in beta, from ln k at beta = 0 to ln(number of maxima) as beta grows, so 200
    halvings of a bracket reach float64 precision (the tests hold it to 1e-9).
    """
    step = max(1, _AT_ONCE // scores.shape[1])  # rows have nothing to do with each other; few stay in the cache
    return np.concatenate([_bisected(scores[i : i + step], entropy[i : i + step]) for i in range(0, len(scores), step)])


def _bisected(scores: Matrix, entropy: Matrix) -> Matrix:
    low = np.full(len(scores), -30.0)
    high = np.full(len(scores), 30.0)
    for _ in range(200):
        middle = (low + high) / 2
        too_flat = row_entropy(softmax_rows(scores, np.exp(middle))) > entropy
        bracket = np.where(too_flat, middle, low), np.where(too_flat, high, middle)
        if np.array_equal(bracket, (low, high)):
            break  # the bracket is two neighbouring numbers, or one
        low, high = bracket
    return softmax_rows(scores, np.exp((low + high) / 2))


def graded(vocab: int, low: float, high: float, rng: np.random.Generator) -> Matrix:
    """A transition matrix [vocab, vocab] whose row entropies are evenly spaced in [low, high] nats.

    A row is a softmax of fixed random scores at the temperature that gives its entropy. Scores are standard normal,
    and which token gets which entropy is a random permutation, so entropy says nothing about a token's index or its
    frequency as a successor.
    """
    scores = rng.standard_normal((vocab, vocab))
    return rows_with_entropy(scores, rng.permutation(np.linspace(low, high, vocab)))


def stationary(pi: Matrix) -> Matrix:
    """The stationary law mu = mu·pi of a chain, [token], as the solution of a linear system.

    Of a chain that has several, the one of least norm. Beyond 512 tokens, where that takes minutes: of the chain that
    jumps to a random token once in 1e12 steps, which has one.
    """
    k = len(pi)
    if k <= _MOST_SOLVED_EXACTLY:
        system = np.vstack([pi.T - np.eye(k), np.ones(k)])
        mu = np.linalg.lstsq(system, np.append(np.zeros(k), 1.0), rcond=None)[0]
    else:
        jump = 1e-12
        mu = np.linalg.solve(np.eye(k) - (1 - jump) * pi.T, np.full(k, jump / k))
    mu = np.clip(mu, 0.0, None)
    return mu / mu.sum()


def two_level(vocab: int, share: float, low: int, high: int, rng: np.random.Generator) -> Matrix:
    """Uniform rows on random supports: round(share·vocab) rows of `low` successors, the others of `high`.

    Row entropies are ln(low) and ln(high) exactly. Source: arXiv 2509.01649.
    """
    sizes = np.full(vocab, high)
    sizes[rng.permutation(vocab)[: round(share * vocab)]] = low
    return uniform_on_supports(sizes, rng)


def supports(vocab: int, sizes: Sequence[int], rng: np.random.Generator) -> Matrix:
    """Uniform rows on random supports whose sizes come up equally often, which row has which being random."""
    return uniform_on_supports(np.resize(np.array(sizes), vocab)[rng.permutation(vocab)], rng)


def uniform_on_supports(sizes: NDArray[np.int64], rng: np.random.Generator) -> Matrix:
    """Uniform rows on random supports of these sizes, [row]: entropies are their logarithms exactly.

    Every support contains the row's successor on one random cycle through all tokens, so no set of rows can trap the
    chain.
    """
    vocab = len(sizes)
    cycle = rng.permutation(vocab)
    pi = np.zeros((vocab, vocab))
    for row, following in zip(cycle, np.roll(cycle, -1), strict=True):
        others = np.setdiff1d(np.arange(vocab), [following])
        support = np.append(rng.choice(others, sizes[row] - 1, replace=False), following)
        pi[row, support] = 1 / sizes[row]
    return pi


def dirichlet(vocab: int, concentration: float, rng: np.random.Generator) -> Matrix:
    """Rows drawn from a symmetric Dirichlet law: small concentrations give peaked rows, 1 is uniform on the simplex."""
    return rng.dirichlet(np.full(vocab, concentration), size=vocab)


class World(NamedTuple):
    """A transition matrix and what its tokens stand for."""

    pi: Matrix  # [vocab, vocab]
    symbols: tuple[str, ...]


def corpus(text: str, vocab: int) -> World:
    """Character bigrams of a text: pi[a, b] = count(ab) / count(a), tokens in order of frequency.

    Only the `vocab` most frequent characters are kept; the text that is left is read as a circle, so that every
    character has a successor and the chain is irreducible. Source: Bietti et al. 2023.
    """
    kept = [symbol for symbol, _ in Counter(text).most_common(vocab)]
    token_of = {symbol: i for i, symbol in enumerate(kept)}
    tokens = np.array([token_of[symbol] for symbol in text if symbol in token_of])
    counts = np.zeros((vocab, vocab))
    np.add.at(counts, (tokens, np.roll(tokens, -1)), 1)
    return World(counts / counts.sum(axis=1, keepdims=True), tuple(kept))


def transition_matrix(config: SandboxConfig) -> World:
    """The rows that a config asks for, drawn from its seed."""
    rows, k = config.rows, config.vocab
    rng = np.random.default_rng(np.random.SeedSequence([config.seed, 0]))
    symbols = tuple(str(i) for i in range(k))
    match rows:
        case GradedRows():
            return World(graded(k, rows.low, rows.high, rng), symbols)
        case TwoLevelRows():
            return World(two_level(k, rows.share, rows.low, rows.high, rng), symbols)
        case SupportRows():
            return World(supports(k, rows.sizes, rng), symbols)
        case DirichletRows():
            return World(dirichlet(k, rows.concentration, rng), symbols)
        case CorpusRows():
            return corpus(read(rows, k).content, k)
        case _:
            assert_never(rows)
