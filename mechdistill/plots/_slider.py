"""The slider over checkpoints, of figures with a frame for each."""

import pandas as pd

from mechdistill.plots._colours import AXIS, FAINT, GRID, INK


def slider(table: pd.DataFrame, steps: list[int]) -> dict[str, object]:
    """One step a checkpoint, by the names of the figure's frames; it starts at the last."""
    tokens = dict(zip(table["step"].astype(int), table["tokens"].astype(int), strict=True))
    return {
        "active": len(steps) - 1,
        "currentvalue": {"prefix": "checkpoint: step ", "font": {"color": INK}},
        "pad": {"t": 45},
        "font": {"color": INK},
        "bgcolor": GRID,
        "activebgcolor": AXIS,
        "bordercolor": FAINT,
        "tickcolor": FAINT,
        "steps": [
            {
                "label": str(step),
                "method": "animate",
                "args": [[str(step)], {"mode": "immediate", "frame": {"duration": 0, "redraw": True}}],
                "value": f"{step} ({tokens[step] / 1e6:.2f} M tokens)",
            }
            for step in steps
        ],
    }
