"""How soon rows are learned, by their entropy: tokens until each row's KL has halved, and the line through them."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from mechdistill.plots._arms import looks
from mechdistill.plots._row_curves import log_ticks
from mechdistill.plots._style import page, styled
from mechdistill.tables import metrics


def learning_speed_figure(table: pd.DataFrame) -> go.Figure | None:
    """A `learning-speed` table: tokens until a row's KL has halved (log scale) against its entropy, a mark a row.

    Marks are means over seeds (on the log scale), the line has the arm's mean slope through the middle of its marks.
    The second panel shows the slopes: a small mark a seed, the mean with its 95 % t interval, and the difference from
    the baseline likewise. None where no row halves.
    """
    halving = table[(table["metric"] == metrics.TOKENS_TO_HALVE.name) & (table["value"] > 0)]
    if halving.empty:
        return None
    slopes = table[table["metric"] == metrics.HALVING_SLOPE.name].dropna(subset="value")
    arms = looks(halving)
    made = page(
        ["Tokens until a row's KL has halved", "Slope of their logarithm on entropy"], 2, 300, horizontal_spacing=0.2
    )
    figure, (left, right) = made.figure, made.places
    for arm, look in arms.items():
        of_arm = halving[halving["arm"] == arm].assign(log=lambda rows: np.log(rows["value"].astype(float)))
        marks = of_arm.groupby(["row", "row_entropy"], as_index=False)["log"].mean()
        figure.add_trace(
            go.Scatter(
                x=marks["row_entropy"],
                y=np.exp(marks["log"]),
                mode="markers",
                marker={"color": look.colour, "symbol": look.symbol, "size": 6, "opacity": 0.6},
                name=arm,
                legendgroup=arm,
                text=[f"{arm}, row {row}" for row in marks["row"]],
                hovertemplate="%{text}\nentropy %{x:.2f} nats\n%{y:.3s} tokens",
            ),
            **left,
        )
        mean = slopes[(slopes["arm"] == arm) & slopes["run"].isna() & slopes["baseline"].isna()]
        if len(mean):
            ends = np.array([marks["row_entropy"].min(), marks["row_entropy"].max()])
            line = marks["log"].mean() + float(mean["value"].iloc[0]) * (ends - marks["row_entropy"].mean())
            figure.add_trace(
                go.Scatter(
                    x=ends,
                    y=np.exp(line),
                    mode="lines",
                    line={"color": look.colour, "dash": look.dash, "width": 2.2},
                    legendgroup=arm,
                    showlegend=False,
                    hoverinfo="skip",
                ),
                **left,
            )
    labels: list[str] = []
    for arm, look in arms.items():
        for line in slopes[(slopes["arm"] == arm) & slopes["run"].isna()].to_dict("records"):
            difference = not pd.isna(line["baseline"])
            at = len(labels)
            labels.append(f"{arm} - {line['baseline']}" if difference else arm)
            seeds = slopes[(slopes["arm"] == arm) & slopes["run"].notna()]["value"]
            sure = not pd.isna(line["low"])
            far = line["high"] - line["value"] if sure else 0.0
            if not difference:
                figure.add_trace(
                    go.Scatter(
                        x=seeds,
                        y=[at] * len(seeds),
                        mode="markers",
                        marker={"color": look.colour, "symbol": look.symbol, "size": 6, "opacity": 0.45},
                        hovertemplate=f"{arm}, a seed\n%{{x:.3f}} per nat",
                        legendgroup=arm,
                        showlegend=False,
                    ),
                    **right,
                )
            figure.add_trace(
                go.Scatter(
                    x=[line["value"]],
                    y=[at],
                    error_x={"type": "data", "array": [far], "thickness": 2, "width": 6, "color": look.colour},
                    mode="markers",
                    marker={"color": look.colour, "symbol": look.symbol, "size": 11},
                    text=[f"{labels[-1]}, mean of {line['n']}" + f", ± {far:.3f}" * sure],
                    hovertemplate="%{text}\n%{x:.3f} per nat",
                    legendgroup=arm,
                    showlegend=False,
                ),
                **right,
            )
    ticks = log_ticks(halving["value"].astype(float))
    figure.update_yaxes(type="log", title_text="tokens", tickvals=ticks, ticktext=[f"{t:,.0f}" for t in ticks], **left)
    figure.update_xaxes(title_text="row entropy, nats", **left)
    figure.update_yaxes(
        tickvals=list(range(len(labels))), ticktext=labels, range=[len(labels) - 0.5, -0.5], showgrid=False, **right
    )
    figure.update_xaxes(title_text="log tokens per nat", zeroline=True, **right)
    return styled(
        made,
        "How soon rows are learned, by their entropy",
        "Left: lower is sooner; a mark is a row, mean over seeds. Right: above 0, rows of high entropy come later; "
        "large marks are means over seeds, with 95 % t intervals from three seeds on.",
        legend=list(arms),
    )
