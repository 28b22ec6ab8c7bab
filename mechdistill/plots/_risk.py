"""Squared error of distilled runs beside what their twins foretell of it with nothing fitted, and the count table's."""

from typing import Any

import pandas as pd
import plotly.graph_objects as go

from mechdistill.plots._arms import Look, looks
from mechdistill.plots._colours import INK
from mechdistill.plots._row_curves import log_ticks
from mechdistill.plots._seeds import band_in_words, curve
from mechdistill.plots._style import page, styled
from mechdistill.tables import metrics, title

_FORETOLD, _TABLE = "foretold from the twin", "count table"


def predicted_risk_figure(table: pd.DataFrame) -> go.Figure | None:
    """A `predicted-risk` table: squared error against tokens, a panel an arm and entropy quartile of rows.

    The measurement is a line with a band over seeds; what (1-alpha)²·(the twin's) + alpha²·(the teacher's) comes to is
    a dark line, and the count table's own error, in the same metric, a dotted one; both are means over seeds. No
    parameter is fitted. None where nothing is foretold.
    """
    rows = table[table["bucket"].notna() & (table["tokens"] > 0)]
    if rows.empty:
        return None
    arms = looks(rows)
    panels = [(arm, bucket) for arm in arms for bucket in sorted({int(b) for b in rows["bucket"]})]
    last = max(panels, key=lambda panel: panel[1])[1]
    words = {0: "rows of lowest entropy", last: "rows of highest entropy"}
    titles = [f"{arm}: {words.get(bucket, f'entropy quartile {bucket + 1}')}" for arm, bucket in panels]
    made = page(titles, 2, 230, horizontal_spacing=0.11)
    figure = made.figure
    for (arm, bucket), place in zip(panels, made.places, strict=True):
        part = rows[(rows["arm"] == arm) & (rows["bucket"] == bucket)]
        first = (arm, bucket) == panels[0]
        once = bucket == panels[0][1]
        curve(figure, part.assign(value=part["measured"]), arms[arm], place, name=arm, group=arm, legend=once, of=arm)
        _line(figure, part, "predicted", _FORETOLD, "solid", place, legend=first)
        _line(figure, part, "tabular", _TABLE, "dot", place, legend=first)
        drawn = pd.concat([part[name] for name in ("measured", "predicted", "tabular")])
        ticks = log_ticks(drawn[drawn > 0])
        figure.update_yaxes(
            type="log",
            title_text=title(metrics.SQUARED_ERROR),
            tickvals=ticks,
            ticktext=[f"{tick:.6g}" for tick in ticks],
            **place,
        )
        figure.update_xaxes(title_text="tokens trained on", rangemode="tozero", **place)
    baselines = ", ".join(dict.fromkeys(rows["baseline"]))
    return styled(
        made,
        "What distilling should do to each row, and what it does",
        f"Lower is better (log scale). Foretold: (1-alpha)² × the error of the {baselines} twin + alpha² × the "
        "teacher's, nothing fitted. The count table sees the same data and targets." + band_in_words(rows),
        legend=[*arms, _FORETOLD, _TABLE],
    )


def _line(
    figure: go.Figure, part: pd.DataFrame, column: str, name: str, dash: str, place: dict[str, Any], *, legend: bool
) -> None:
    mean = part.groupby("tokens")[column].mean().dropna()
    if mean.empty:
        return
    look = Look(INK, dash, "circle")
    figure.add_trace(
        go.Scatter(
            x=mean.index.astype(float),
            y=mean,
            mode="lines",
            line={"color": look.colour, "dash": look.dash, "width": 2},
            name=name,
            legendgroup=name,
            showlegend=legend,
            hovertemplate=f"{name}\n%{{x:.3s}} tokens\n%{{y:.4g}}",
        ),
        **place,
    )
