import itertools
import json
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest

from mechdistill.plots import DARK, arm_colours
from mechdistill.plots._cells import Scale
from mechdistill.plots._colours import (
    AXIS,
    BUTTON,
    BUTTON_INK,
    FAINT,
    INK,
    ON_PALE,
    ON_STRONG,
    PAPER,
    RISING,
    SHADES,
    SIGNED,
)

STUDY = ["spt", "dpt-90", "dpt-50", "dpt-90-oracle", "spt-2x", "spt-downweight", "dpt-90-routed", "dpt-90-random-route"]
ARMS = [*STUDY, *(f"mine-{i}" for i in range(4)), "teacher:a", "teacher:b", "teacher:c"]
PLOTLYS_HOVER = "#F4FAFF"  # behind the entry of a menu that the pointer is on; it cannot be set
BOTH = pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])


def linear(colour: str) -> np.ndarray:
    channel = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(channel <= 0.04045, channel / 12.92, ((channel + 0.055) / 1.055) ** 2.4)


def contrast(one: str | np.ndarray, other: str | np.ndarray) -> float:
    """WCAG 2, of colours as hex or linear sRGB."""
    colours = (linear(colour) if isinstance(colour, str) else colour for colour in (one, other))
    low, high = sorted(float(colour @ [0.2126, 0.7152, 0.0722]) + 0.05 for colour in colours)
    return high / low


def lab(rgb: np.ndarray) -> np.ndarray:
    """CIE L*a*b* of linear sRGB."""
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ rgb.clip(0, 1)
    f = np.array([v ** (1 / 3) if v > 0.008856 else 7.787 * v + 16 / 116 for v in xyz / [0.9505, 1, 1.089]])
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


# Machado, Oliveira and Fernandes 2009, severity 1
VISION = {
    "usual": np.eye(3),
    "protan": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deutan": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]]
    ),
    "tritan": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]]
    ),
}


def seen_on(dark: bool, colour: str) -> str:
    return DARK[colour] if dark else colour


@BOTH
def test_arms_are_seen_and_told_apart_by_every_kind_of_colour_vision(dark: bool) -> None:
    paper = seen_on(dark, PAPER)
    colours = [seen_on(dark, look.colour) for look in arm_colours(ARMS).values()]
    assert min(contrast(colour, paper) for colour in colours) >= 3
    for text in (INK, FAINT):
        assert contrast(seen_on(dark, text), paper) >= 4.5
    for mark in (*SHADES, AXIS):
        assert contrast(seen_on(dark, mark), paper) >= 3
    for behind in (seen_on(dark, BUTTON), PLOTLYS_HOVER):
        assert contrast(seen_on(dark, BUTTON_INK), behind) >= 4.5
    for name, sees in VISION.items():
        seen = [lab(sees @ linear(colour)) for colour in colours[: len(STUDY)]]
        apart = min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2))
        assert apart > 10, name


@BOTH
@pytest.mark.parametrize("colours", [RISING, SIGNED], ids=["rising", "signed"])
def test_numbers_are_read_on_every_cell_of_a_scale(colours: tuple[tuple[float, str], ...], dark: bool) -> None:
    """Plotly mixes neighbours of a scale in sRGB."""
    scale = Scale(-2.0 if colours == SIGNED else 0.0, 2.0, colours)
    channels = np.array([[int(seen_on(dark, c)[i : i + 2], 16) for i in (1, 3, 5)] for _, c in colours])
    values = np.linspace(scale.low, scale.high, 401)
    share = (values - scale.low) / (scale.high - scale.low)
    mixed = np.array([np.interp(share, [stop for stop, _ in colours], channels[:, i]) for i in range(3)]).T
    for rgb, strong in zip(mixed.round().astype(int), scale.strength(values) >= 0.5, strict=True):
        cell = "#" + "".join(f"{channel:02X}" for channel in rgb)
        assert contrast(cell, seen_on(dark, ON_STRONG if strong else ON_PALE)) >= 4.5, cell


def test_the_way_back_from_dark_is_known() -> None:
    assert len(set(DARK.values())) == len(DARK)
    assert all(DARK[colour] == colour for colour in set(DARK) & set(DARK.values()))


def colours_in(value: Any, key: str = "") -> Iterator[str]:
    """Every string that a browser would take for a colour."""
    if isinstance(value, dict):
        for name, part in value.items():
            yield from colours_in(part, name)
    elif isinstance(value, list):
        for part in value:
            yield from colours_in(part, key)
    elif isinstance(value, str) and (re.search(r"#[0-9a-fA-F]{3,8}\b|\brgba?\(", value) or key.endswith("color")):
        yield value


def test_no_colour_but_those_of_the_table_is_in_a_figure(figures: dict[str, go.Figure]) -> None:
    for name, figure in figures.items():
        found = set(colours_in(json.loads(figure.to_json())))
        assert found, name
        assert found <= set(DARK), name


def test_an_arms_look_hangs_on_the_experiment_alone() -> None:
    many = [*STUDY, *(f"arm{i}" for i in range(60)), *(f"teacher:{i}" for i in range(12))]
    looks = arm_colours(many)
    assert len(set(looks.values())) == len(many)
    pairs = {(look.colour, look.dash) for look in looks.values()}
    assert len(pairs) == len(many)
    assert len({looks[arm].dash for arm in STUDY}) == len({looks[arm].symbol for arm in STUDY}) == len(STUDY), "in grey"
    grey = [(looks[arm].dash, looks[arm].symbol) for arm in [*STUDY, "teacher:0", "teacher:1"]]
    assert len({dash for dash, _ in grey}) == len({symbol for _, symbol in grey}) == len(STUDY) + 2, "in grey"
    bars = [str(look.pattern) for look in arm_colours(ARMS).values()]
    assert len(set(bars)) == len(bars), "bars have no dash"
    # whichever of the study's arms there are, and whatever is added behind
    assert arm_colours(["dpt-90"])["dpt-90"] == looks["dpt-90"]
    assert arm_colours(["arm0", "spt", "teacher:0", "arm1"]).items() <= looks.items()
    assert not {look.colour for look in map(looks.get, STUDY)} & {looks[f"arm{i}"].colour for i in range(4)}
