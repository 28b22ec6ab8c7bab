"""One self-contained HTML page of an experiment, with the trained models running in it."""

from mechdistill.report._choice import MAX_SIZE, budget_of
from mechdistill.report._explore import Exploration, explore
from mechdistill.report._explorer import Explorer, explorer
from mechdistill.report._material import Drawn, Material, drawn
from mechdistill.report._page import Payload, asset, page
from mechdistill.report._report import Report, report

__all__ = [
    "MAX_SIZE",
    "Drawn",
    "Exploration",
    "Explorer",
    "Material",
    "Payload",
    "Report",
    "asset",
    "budget_of",
    "drawn",
    "explore",
    "explorer",
    "page",
    "report",
]
