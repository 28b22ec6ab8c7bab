"""The scorecard as a picture: every criterion on one scale, from no effect to what the claim asks for."""

import math
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from mechdistill.plots._colours import ARMS, BAND, FAINT, GREYS, INK
from mechdistill.plots._seeds import error_bars
from mechdistill.plots._style import page, styled
from mechdistill.plots._text import broken
from mechdistill.stats import CONTRADICTED, INCONCLUSIVE, NOT_TESTED, SUPPORTED

_LINE = 30  # pixels a criterion
_LABEL = 46  # characters of a line beside the panel
_FAR = 4.0
"""How far the scale goes: what lies beyond is drawn at its end, as an arrow."""
_LOOKS = {
    SUPPORTED: (ARMS[0], "circle"),
    CONTRADICTED: (ARMS[1], "x"),
    INCONCLUSIVE: (FAINT, "circle-open"),
}
_NULL = "a table without context"


def claims_figure(table: pd.DataFrame) -> go.Figure | None:
    """A `claims` table as a forest plot: a line a criterion that has an effect, with its 95 % interval over seeds.

    Each line has a scale of its own, from no effect to what its claim asks for; a grey band is where the criterion is
    met. Colours and marks say the verdict, a grey diamond the estimate of tables without context. What lies beyond the
    scale is an arrow at its end. None where no criterion has an effect.
    """
    shown = table[table["effect"].notna()]
    if shown.empty:
        return None
    rows = [_Scaled(row) for row in shown.to_dict("records")]
    made = page([""], 1, 40 + _LINE * len(rows), aside=250)
    figure, at = made.figure, made.places[0]
    y = [len(rows) - 1 - i for i in range(len(rows))]
    named = list(dict.fromkeys(_verdict(row.of) for row in rows))
    for name in named:
        colour, symbol = _LOOKS.get(name, (FAINT, "circle-open-dot"))
        mine = [(row, place) for row, place in zip(rows, y, strict=True) if _verdict(row.of) == name]
        ends = np.array([[row.end("effect"), row.end("low"), row.end("high")] for row, _ in mine])
        figure.add_scatter(
            x=[None],
            y=[None],
            mode="markers",
            marker={"color": colour, "size": 11, "symbol": symbol, "line": {"width": 1.6, "color": colour}},
            name=name,
            **at,
        )
        figure.add_scatter(
            x=ends[:, 0],
            y=[place for _, place in mine],
            error_x=error_bars(ends[:, 2] - ends[:, 0], ends[:, 0] - ends[:, 1], colour, thickness=1.8, width=5),
            mode="markers",
            marker={
                "color": colour,
                "size": 11,
                "symbol": [_arrow(row.position("effect")) or symbol for row, _ in mine],
                "line": {"width": 1.6, "color": colour},
            },
            name=name,
            showlegend=False,
            customdata=[_hover(row.of) for row, _ in mine],
            hovertemplate="%{customdata}",
            **at,
        )
    null = [(row, place) for row, place in zip(rows, y, strict=True) if pd.notna(row.of["null_effect"])]
    if null:
        figure.add_scatter(
            x=[row.end("null_effect") for row, _ in null],
            y=[place - 0.26 for _, place in null],
            mode="markers",
            marker={"color": GREYS[0], "size": 8, "symbol": "diamond-open", "line": {"width": 1.4, "color": GREYS[0]}},
            name=_NULL,
            customdata=[_hover_null(row.of) for row, _ in null],
            hovertemplate="%{customdata}",
            **at,
        )
    labels = [_label(row.of, first=i == 0 or row.of["claim"] != rows[i - 1].of["claim"]) for i, row in enumerate(rows)]
    figure.update_yaxes(tickvals=y, ticktext=labels, range=[-0.7, len(rows) - 0.3], showgrid=False, **at)
    drawn = [row.end(name) for row in rows for name in ("effect", "low", "high", "null_effect")]
    low, high = np.nanmin([-0.3, *drawn]) - 0.15, np.nanmax([1.3, *drawn]) + 0.15
    for row, place in zip(rows, y, strict=True):
        left, right = np.clip(row.met(), low, high)
        box = {"x0": left, "x1": right, "y0": place - 0.44, "y1": place + 0.44}
        figure.add_shape(type="rect", fillcolor=BAND, line_width=0, layer="below", **box, **at)
    figure.add_vline(x=0, line={"color": INK, "dash": "dash", "width": 1}, **at)
    figure.update_xaxes(tickvals=[0], ticktext=["no effect"], range=[low, high], showgrid=False, **at)
    judged = table.drop_duplicates("claim")["claim_verdict"].value_counts()
    counts = ", ".join(f"{judged[name]} {name}" for name in (*_LOOKS, NOT_TESTED) if name in judged)
    return styled(
        made,
        f"The paper's claims: {counts}",
        "In the grey band a criterion is met, each on a scale of its own; lines are 95 % intervals over seeds. What a "
        "table without context meets as well is not about circuits. An arrow: further out than is drawn.",
        legend=[*named, *[_NULL] * bool(null)],
    )


class _Scaled:
    """A line on its claim's own scale."""

    def __init__(self, row: dict[Any, Any]):
        self.of = row
        ends = [float(row[name]) for name in ("least", "most") if pd.notna(row[name])]
        unit = max(ends) - min(ends) if len(ends) > 1 else 2 * abs(ends[0] - row["none"])
        # where any effect will do, its own size is the unit
        self._unit = unit / 2 or max(abs(float(row[name]) - row["none"]) for name in ("effect", *_ends(row)))

    def position(self, column: str) -> float:
        """Where a value lies: 0 no effect, 1 as claimed."""
        value = self.of[column]
        return math.nan if pd.isna(value) else (float(value) - self.of["none"]) / (self._unit or 1.0)

    def end(self, column: str) -> float:
        """The same, no further out than is drawn."""
        return float(np.clip(self.position(column), -_FAR, _FAR))

    def met(self) -> tuple[float, float]:
        """From where to where the criterion is met, likewise."""
        low, high = (self.end(name) for name in ("least", "most"))
        return (-2 * _FAR if math.isnan(low) else low), (2 * _FAR if math.isnan(high) else high)


def _ends(row: dict[Any, Any]) -> list[str]:
    return [name for name in ("low", "high") if pd.notna(row[name])]


def _arrow(position: float) -> str | None:
    return "triangle-right" if position > _FAR else "triangle-left" if position < -_FAR else None


def _verdict(row: dict[Any, Any]) -> str:
    return str(row["verdict"])


def _label(row: dict[Any, Any], *, first: bool) -> str:
    name = f"{row['claim']}  " if first else ""
    return broken(f"{name}{row['criterion']}", _LABEL)


def _hover(row: dict[Any, Any]) -> str:
    interval = f"[{row['low']:.4g}, {row['high']:.4g}]" if pd.notna(row["low"]) else "no interval"
    lines = [
        f"{row['claim']}: {row['statement']}",
        f"{row['criterion']}",
        f"{row['effect']:.4g} {interval}, n = {row['n']}",
    ]
    lines.append(f"{row['verdict']}; the claim: {row['claim_verdict']}")
    lines += [str(row[name]) for name in ("arms", "check", "note") if pd.notna(row[name])]
    return "\n".join(lines)


def _hover_null(row: dict[Any, Any]) -> str:
    interval = f" [{row['null_low']:.4g}, {row['null_high']:.4g}]" if pd.notna(row["null_low"]) else ""
    return f"{_NULL}: {row['null_effect']:.4g}{interval}, n = {row['null_n']}\n{row['null_verdict']}"
