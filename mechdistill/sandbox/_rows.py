"""Transition matrices whose row entropies are exactly what was asked for.

A row is a softmax of fixed random scores at a temperature; the temperature is solved so that the row's Shannon
entropy hits its value. Entropies are in nats.
"""

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]


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


def rows_with_entropy(scores: Matrix, entropy: Matrix) -> Matrix:
    """The rows softmax(beta_i * scores_i) whose entropies equal `entropy`, by bisection on log beta.

    Entropy falls monotonically in beta, from ln k at beta = 0 to ln(number of maxima) as beta grows, so 200
    halvings of a bracket reach float64 precision (the tests hold it to 1e-9).
    """
    low = np.full(len(scores), -30.0)
    high = np.full(len(scores), 30.0)
    for _ in range(200):
        middle = (low + high) / 2
        too_flat = row_entropy(softmax_rows(scores, np.exp(middle))) > entropy
        low, high = np.where(too_flat, middle, low), np.where(too_flat, high, middle)
    return softmax_rows(scores, np.exp((low + high) / 2))


def graded(vocab: int, low: float, high: float, rng: np.random.Generator) -> Matrix:
    """A transition matrix [vocab, vocab] whose row entropies are evenly spaced in [low, high] nats.

    Scores are standard normal, and which token gets which entropy is a random permutation, so entropy says
    nothing about a token's index or its frequency as a successor.
    """
    scores = rng.standard_normal((vocab, vocab))
    return rows_with_entropy(scores, rng.permutation(np.linspace(low, high, vocab)))


def stationary(pi: Matrix) -> Matrix:
    """The stationary law mu = mu·pi of an irreducible chain, [token], as the solution of a linear system."""
    k = len(pi)
    system = np.vstack([pi.T - np.eye(k), np.ones(k)])
    mu = np.linalg.lstsq(system, np.append(np.zeros(k), 1.0), rcond=None)[0]
    mu = np.clip(mu, 0.0, None)
    return mu / mu.sum()
