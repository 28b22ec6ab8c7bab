"""Learning curves by row entropy, and of copying: one line an arm, seeds thin, their mean thick."""

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mechdistill.plots._style import INK, arm_colours, styled
from mechdistill.tables import THIRD_ON, last_step, metrics, no_matching_by, title


def row_curves_figure(table: pd.DataFrame) -> go.Figure:
    """A `row-curves` table as six panels: KL to the oracle for each entropy quartile of rows, the final KL of every
    row against its entropy, and copy accuracy at occurrence >= 3 with the no-matching baseline.

    KL in nats on a log scale, against tokens seen. Within a quartile, rows are averaged over positions.
    """
    colours = arm_colours(list(dict.fromkeys(table["arm"])))
    rows = table[(table["metric"] == metrics.KL.name) & table["row"].notna()]
    buckets = sorted({int(bucket) for bucket in rows["bucket"]})
    ranges = rows.groupby("bucket")["row_entropy"].agg(["min", "max"])
    titles = [f"Rows of entropy {ranges.loc[b, 'min']:.2f} to {ranges.loc[b, 'max']:.2f} nats" for b in buckets]
    titles += ["Every row at its last checkpoint", "Copying at occurrence ≥ 3"]
    columns = (len(titles) + 1) // 2
    figure = make_subplots(rows=2, cols=columns, subplot_titles=titles, vertical_spacing=0.2)
    places = [(i // columns + 1, i % columns + 1) for i in range(len(titles))]

    by_bucket = _bucket_means(table)
    for bucket, place in zip(buckets, places, strict=False):
        _curves(figure, by_bucket[by_bucket["bucket"] == bucket], colours, place, legend=bucket == buckets[0])
        _kl_axis(figure, place)
        figure.update_xaxes(title_text="tokens", rangemode="tozero", row=place[0], col=place[1])

    last = last_step(rows)
    for arm, colour in colours.items():
        part = last[last["arm"] == arm]
        figure.add_trace(
            go.Scatter(
                x=part["row_entropy"],
                y=part["value"],
                mode="markers",
                marker={"color": colour, "size": 6, "opacity": 0.75},
                text=[f"{run} @{step}, row {row}" for run, step, row in part[["run", "step", "row"]].to_numpy()],
                hovertemplate="%{text}<br>entropy %{x:.2f} nats<br>KL %{y:.4f} nats<extra></extra>",
                legendgroup=arm,
                showlegend=False,
            ),
            row=places[-2][0],
            col=places[-2][1],
        )
    _kl_axis(figure, places[-2])
    figure.update_xaxes(title_text="row entropy, nats", row=places[-2][0], col=places[-2][1])

    copying = table[table["occurrence"] == THIRD_ON]
    _curves(figure, copying[copying["metric"] == metrics.COPY_ACCURACY.name], colours, places[-1], legend=False)
    baseline = copying[copying["metric"] == metrics.NO_MATCHING.name]["value"]
    if len(baseline):
        figure.add_hline(
            y=baseline.iloc[0],
            line={"dash": "dash", "color": INK},
            annotation={"text": f"no matching ({no_matching_by(copying)})", "font": {"color": INK}},
            row=places[-1][0],  # pyright: ignore[reportArgumentType]  (plotly's annotation says str)
            col=places[-1][1],  # pyright: ignore[reportArgumentType]
        )
    figure.update_yaxes(title_text="accuracy", range=[0, 1.03], row=places[-1][0], col=places[-1][1])
    figure.update_xaxes(title_text="tokens", rangemode="tozero", row=places[-1][0], col=places[-1][1])
    return styled(figure, "How each row is learned, by its entropy", 720).update_layout(
        legend={"orientation": "h", "x": 1, "xanchor": "right", "y": 1.09}
    )


def _kl_axis(figure: go.Figure, place: tuple[int, int]) -> None:
    text = {"text": title(metrics.KL)}
    minor = {"showgrid": True, "gridcolor": "rgba(128,128,128,0.08)"}
    figure.update_yaxes({"type": "log", "dtick": 1, "title": text, "minor": minor}, row=place[0], col=place[1])


def _bucket_means(table: pd.DataFrame) -> pd.DataFrame:
    """KL of each entropy bucket, rows weighted by how many positions they had."""
    keys = ["run", "arm", "seed", "step", "tokens", "bucket", "row"]
    wide = table[table["row"].notna()].pivot(index=keys, columns="metric", values="value").reset_index()
    wide["value"] = wide[metrics.KL.name] * wide[metrics.POSITIONS.name]
    sums = wide.groupby(keys[:-1], as_index=False)[["value", metrics.POSITIONS.name]].sum()
    sums["value"] /= sums[metrics.POSITIONS.name]
    return sums


def _curves(
    figure: go.Figure, data: pd.DataFrame, colours: dict[str, str], place: tuple[int, int], *, legend: bool
) -> None:
    for arm in (arm for arm in colours if arm in set(data["arm"])):
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
                    line={"color": colours[arm], "width": 1 if thin else 2.5},
                    opacity=0.45 if thin else 1,
                    name=str(arm),
                    legendgroup=arm,
                    showlegend=legend and not thin,
                    hovertemplate=f"{name}<br>%{{x:.3s}} tokens<br>%{{y:.4f}}<extra></extra>",
                ),
                row=place[0],
                col=place[1],
            )
