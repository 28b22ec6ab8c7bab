"""Learning curves by row entropy, and of copying: one line an arm, seeds thin, their mean thick."""

from typing import Any

import pandas as pd
import plotly.graph_objects as go

from mechdistill.plots._arms import Look, looks
from mechdistill.plots._style import FAINT, page, styled
from mechdistill.tables import THIRD_ON, last_step, metrics, no_matching_by, title


def row_curves_figure(table: pd.DataFrame) -> go.Figure:
    """A `row-curves` table as six panels: KL to the oracle for each entropy quartile of rows, the final KL of every
    row against its entropy, and copy accuracy at occurrence >= 3 with the no-matching baseline.

    KL in nats on a log scale, against tokens seen. Within a quartile, rows are averaged over positions.
    """
    arms = looks(table)
    rows = table[(table["metric"] == metrics.KL.name) & table["row"].notna()]
    buckets = sorted({int(bucket) for bucket in rows["bucket"]})
    ranges = rows.groupby("bucket")["row_entropy"].agg(["min", "max"])
    titles = [f"Rows of entropy {ranges.loc[b, 'min']:.2f} to {ranges.loc[b, 'max']:.2f} nats" for b in buckets]
    titles += ["Every row at its last checkpoint", "Copying at occurrence ≥ 3"]
    made = page(titles, 2, 260, horizontal_spacing=0.11)
    figure, places = made.figure, made.places

    by_bucket = _bucket_means(table)
    for bucket, place in zip(buckets, places, strict=False):
        _curves(figure, by_bucket[by_bucket["bucket"] == bucket], arms, place, legend=bucket == buckets[0])
        _kl_axis(figure, place)
        figure.update_xaxes(title_text="tokens", rangemode="tozero", **place)

    last = last_step(rows)
    for arm, look in arms.items():
        part = last[last["arm"] == arm]
        figure.add_trace(
            go.Scatter(
                x=part["row_entropy"],
                y=part["value"],
                mode="markers",
                marker={"color": look.colour, "symbol": look.symbol, "size": 6, "opacity": 0.7},
                text=[f"{run} @{step}, row {row}" for run, step, row in part[["run", "step", "row"]].to_numpy()],
                hovertemplate="%{text}<br>entropy %{x:.2f} nats<br>KL %{y:.4f} nats<extra></extra>",
                legendgroup=arm,
                showlegend=False,
            ),
            **places[-2],
        )
    _kl_axis(figure, places[-2])
    figure.update_xaxes(title_text="row entropy, nats", **places[-2])

    copying = table[table["occurrence"] == THIRD_ON]
    _curves(figure, copying[copying["metric"] == metrics.COPY_ACCURACY.name], arms, places[-1], legend=False)
    baseline = copying[copying["metric"] == metrics.NO_MATCHING.name]["value"]
    if len(baseline):
        figure.add_hline(
            y=baseline.iloc[0],
            line={"dash": "dash", "color": FAINT, "width": 1.5},
            annotation={"text": f"no matching ({no_matching_by(copying)})", "font": {"color": FAINT}},
            **places[-1],
        )
    figure.update_yaxes(title_text="accuracy", range=[0, 1.03], **places[-1])
    figure.update_xaxes(title_text="tokens", rangemode="tozero", **places[-1])
    return styled(made, "How each row is learned, by its entropy", legend=list(arms))


def _kl_axis(figure: go.Figure, place: dict[str, Any]) -> None:
    values = [digit * 10.0**power for power in range(-9, 3) for digit in (1, 2, 5)]
    ticks = {"tickvals": values, "ticktext": [f"{value:g}" for value in values]}
    figure.update_yaxes({"type": "log", "title": {"text": title(metrics.KL)}, **ticks}, **place)


def _bucket_means(table: pd.DataFrame) -> pd.DataFrame:
    """KL of each entropy bucket, rows weighted by how many positions they had."""
    keys = ["run", "arm", "seed", "step", "tokens", "bucket", "row"]
    wide = table[table["row"].notna()].pivot(index=keys, columns="metric", values="value").reset_index()
    wide["value"] = wide[metrics.KL.name] * wide[metrics.POSITIONS.name]
    sums = wide.groupby(keys[:-1], as_index=False)[["value", metrics.POSITIONS.name]].sum()
    sums["value"] /= sums[metrics.POSITIONS.name]
    return sums


def _curves(
    figure: go.Figure, data: pd.DataFrame, arms: dict[str, Look], place: dict[str, Any], *, legend: bool
) -> None:
    for arm in (arm for arm in arms if arm in set(data["arm"])):
        of_arm = data[data["arm"] == arm]
        seeds = list(of_arm.groupby("seed"))
        several = len(seeds) > 1
        lines = [(str(part["run"].iloc[0]), part.sort_values("tokens"), several) for _, part in seeds]
        if several:
            mean = of_arm.groupby("tokens", as_index=False)["value"].agg(["mean", "count"])
            complete = mean[mean["count"] == len(seeds)].rename(columns={"mean": "value"})
            lines.append((f"{arm}, mean of {len(seeds)} seeds", complete, False))
        for name, part, thin in lines:
            figure.add_trace(
                go.Scatter(
                    x=part["tokens"],
                    y=part["value"],
                    mode="lines" if len(part) > 1 else "markers",
                    line={"color": arms[arm].colour, "dash": arms[arm].dash, "width": 1 if thin else 2.5},
                    marker={"symbol": arms[arm].symbol, "size": 8},
                    opacity=0.4 if thin else 1,
                    name=str(arm),
                    legendgroup=arm,
                    showlegend=legend and not thin,
                    hovertemplate=f"{name}<br>%{{x:.3s}} tokens<br>%{{y:.4f}}<extra></extra>",
                ),
                **place,
            )
