import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mechdistill.stats import holm

families = st.lists(st.floats(0, 1), max_size=6)


def closed_testing(p: list[float]) -> list[float]:
    """Holm as it is derived: the largest Bonferroni p of all the intersections that contain a hypothesis."""
    sets = [s for size in range(1, len(p) + 1) for s in itertools.combinations(range(len(p)), size)]
    return [max(min(1.0, len(s) * min(p[j] for j in s)) for s in sets if i in s) for i in range(len(p))]


@given(families)
def test_holm_equals_closed_testing(p: list[float]) -> None:
    assert holm(p) == pytest.approx(closed_testing(p))


def test_a_known_family() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])  # R: p.adjust(p, "holm")


@given(families, st.integers(0, 6))
def test_nan_is_no_member_of_the_family(p: list[float], place: int) -> None:
    adjusted = holm(np.insert(p, min(place, len(p)), np.nan))
    assert np.isnan(adjusted).sum() == 1
    assert adjusted[~np.isnan(adjusted)].tolist() == holm(p).tolist()
