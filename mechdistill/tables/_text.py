"""Text of unknown origin as a reader sees it: what steers a terminal or hides is written as an escape, never sent."""

import math
import unicodedata

from mechdistill.errors import visible


def shown(symbol: str) -> str:
    """What a token stands for, to be read: as it is, or quoted and escaped where it could not be told from nothing.

    For the terminal; in markup, `html.escape` it besides. Tables and JSON keep the symbol itself.
    """
    text = visible(symbol)
    if symbol and unicodedata.category(symbol[0]).startswith("M"):  # it would sit on the character before
        text = symbol[0].encode("unicode_escape").decode() + visible(symbol[1:])
    return text if text == symbol and symbol.strip() == symbol and symbol else f"'{text}'"


def p_value(p: float | None) -> str:
    """A p-value to four digits; none is known to be 0, and a dash stands where there is none."""
    if p is None or math.isnan(p):
        return "-"
    return "< .0001" if p < 0.0001 else f"{p:.4f}"
