"""What stands in a lane of the figure of ablations: one ablation in the panel of a run, a place for each knockout."""

from typing import Any, NamedTuple

import pandas as pd
import plotly.graph_objects as go

from mechdistill.circuits import ABLATIONS, targets
from mechdistill.plots._colours import AXIS, BAND, INK, SHADES
from mechdistill.plots._seeds import error_bars

BAND_LABEL = "range of the controls"


class Lane(NamedTuple):
    """Where the bars of one ablation lie in the panel of a run."""

    figure: go.Figure
    place: dict[str, Any]
    heights: dict[str, float]
    """On the axis, by what is knocked out."""
    width: float
    ablation: str

    @property
    def label(self) -> str:
        """The ablation, for legends."""
        return ablation_label(self.ablation)


def band(lane: Lane, part: pd.DataFrame, *, legend: bool) -> None:
    """The range of the controls of each half."""
    ends = part.groupby("place", sort=False)["value"].agg(["min", "max"])
    kinds = part.groupby(["place", "what"], sort=False)["value"].agg(["min", "max"])
    said = ["\n".join(_kind(what, row) for what, row in kinds.loc[label].iterrows()) for label in ends.index]
    lane.figure.add_trace(
        go.Bar(
            y=[lane.heights[label] for label in ends.index],
            x=ends["max"] - ends["min"],
            base=ends["min"],
            width=lane.width,
            orientation="h",
            marker={"color": BAND, "line": {"width": 1, "color": AXIS}},
            name=BAND_LABEL,
            legendrank=1002,
            legendgroup=BAND_LABEL,
            showlegend=legend,
            customdata=said,
            hovertemplate="%{customdata}",
        ),
        **lane.place,
    )


def marks(lane: Lane, part: pd.DataFrame, name: str, symbol: str, *, legend: bool) -> None:
    """One mark of ink a place; a column `said` is said of it too."""
    groups = part.groupby("place", sort=False)
    means = groups["value"].mean()
    said = list(groups["said"].first()) if "said" in part else [""] * len(means)
    line = symbol.startswith("line")
    lane.figure.add_trace(
        go.Scatter(
            x=list(means),
            y=[lane.heights[str(label)] for label in means.index],
            mode="markers",
            name=name,
            legendrank=1001,
            legendgroup=name,
            showlegend=legend,
            marker={
                "symbol": symbol,
                "size": 9 if line else 7,
                "color": INK,
                "line": {"color": INK, "width": 2 if line else 1.2},
            },
            customdata=[
                f"{lane.label}, {name}\n{label}\nΔ {mean:.3f} nats\n{more}".strip()
                for (label, mean), more in zip(means.items(), said, strict=True)
            ],
            hovertemplate="%{customdata}",
        ),
        **lane.place,
    )


def _kind(what: Any, row: "pd.Series[float]") -> str:
    return f"{targets.LABELS.get(str(what), str(what)).strip()}: {row['min']:.3f} to {row['max']:.3f} nats"


def bars(lane: Lane, part: pd.DataFrame, *, legend: bool) -> None:
    """What each knockout costs, and the spread of what a bar is the mean of."""
    groups = part.groupby("place", sort=False)
    stats = groups["value"].agg(["mean", "min", "max", "size"])
    drawn = stats[["min", "max"]].where(stats["min"] < stats["max"])  # no line where there is one draw
    lane.figure.add_trace(
        go.Bar(
            y=[lane.heights[label] for label in stats.index],
            x=stats["mean"],
            width=lane.width * 0.5,  # its band stands out above and below
            orientation="h",
            name=lane.label,
            legendgroup=lane.label,
            showlegend=legend,
            marker={"color": _colour(lane.ablation), "line": {"width": 0}},
            error_x=error_bars(drawn["max"] - stats["mean"], stats["mean"] - drawn["min"], INK),
            customdata=[
                _about(lane.label, row)
                for row in stats.assign(heads=groups["heads"].first()).reset_index().to_dict("records")
            ],
            hovertemplate="%{customdata}",
        ),
        **lane.place,
    )


def _about(ablation: str, row: dict[Any, Any]) -> str:
    """A bar in words: which heads, what they cost, and the spread of what it is the mean of."""
    heads = "" if pd.isna(row["heads"]) else f" ({row['heads']})"
    draws = f", mean of {row['size']:.0f} from {row['min']:.3f} to {row['max']:.3f}" if row["size"] > 1 else ""
    return f"{ablation}\n{row['place']}{heads}\nΔ {row['mean']:.3f} nats{draws}"


def ablation_label(name: str) -> str:
    """An ablation for legends; one that nobody has registered is known by its name alone."""
    return ABLATIONS[name].label if name in ABLATIONS else name


def _colour(name: str) -> str:
    """An ablation's shade of blue."""
    slot = ABLATIONS[name].colour if name in ABLATIONS else len(ABLATIONS)
    return SHADES[slot % len(SHADES)]
