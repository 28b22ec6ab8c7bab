"""Every colour of every figure, in two: on a light page, and its counterpart on a dark one.

A figure carries the light colours; `dark.js` puts the dark ones in their place. Text is at least 4.5:1 on its
background, lines and marks 3:1, and arms are apart for readers of every kind of colour vision, on both pages.
"""

PAPER = "#FFFFFF"
INK = "#2B2F36"
FAINT = "#5F6771"
GRID = "#E6E8EB"
AXIS = "#868E97"
BUTTON, BUTTON_INK = "#F6F7F9", "#22262C"
"""Of menus: plotly paints the entry under the pointer in a light colour of its own, so its text is dark on both."""

BAND = "#DCDFE4"
"""Behind marks: a range to hold them against."""

ARMS = ("#0072B2", "#D55E00", "#998B54", "#1B1B1B", "#00966F", "#CC6FA8", "#4B1F86", "#6E1A10")
"""Of the study's usual arms."""
FURTHER = ("#00616B", "#8A5FD0", "#6F7D12", "#3A8FC7")
GREYS = ("#595959", "#767676", "#8C8C8C")
"""Of teachers."""
SHADES = ("#3A8FC7", "#003F66", "#0072B2", "#00616B")
"""Slots of blue for what is measured in several ways."""

BLUE, ORANGE = ARMS[:2]

_PALE, _BLUE, _NAVY, _RUST, _BROWN = "#EEF1F4", "#2F7AB7", "#05264D", "#BF5620", "#561F04"
RISING = ((0.0, _PALE), (0.5, _BLUE), (1.0, _NAVY))
"""A scale that leaves the page: little is pale, half is a blue on which black and white are read alike."""
SIGNED = ((0.0, _NAVY), (0.25, _BLUE), (0.5, _PALE), (0.75, _RUST), (1.0, _BROWN))
"""The same to both sides of 0."""
ON_PALE, ON_STRONG = "#000000", "#FEFEFE"
"""Of numbers in cells: below half of a scale, and above."""

DARK: dict[str, str] = {
    PAPER: "#15181D",
    INK: "#E3E7EC",
    FAINT: "#A0A8B3",
    GRID: "#2A2F37",
    AXIS: "#7A828D",
    BUTTON: "#B9C1CB",
    BUTTON_INK: BUTTON_INK,
    BAND: "#363C46",
    **dict(
        zip(
            ARMS,
            ("#83AAEE", "#FF9824", "#B3BC69", "#F6F0FA", "#3AE2AA", "#C581AB", "#A875FF", "#BB4A3D"),
            strict=True,
        )
    ),
    **dict(zip(FURTHER, ("#5FB9C4", "#C3ABF5", "#95A63A", "#A5DAFA"), strict=True)),
    **dict(zip(GREYS, ("#B5B5B5", "#979797", "#7C7C7C"), strict=True)),
    "#003F66": "#4F7FD1",
    _PALE: "#23282F",
    _BLUE: _BLUE,
    _NAVY: "#D6E8FB",
    _RUST: _RUST,
    _BROWN: "#FFDECB",
    ON_PALE: "#FFFFFE",
    ON_STRONG: "#000001",
}
"""Light colour -> its counterpart on a dark page. No two share one, so that the way back is known too."""
