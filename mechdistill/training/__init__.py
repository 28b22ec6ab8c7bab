"""Training: the loop, its optimiser, resume, and the engine that runs many."""

from mechdistill.training._checks import checks
from mechdistill.training._cost import Cost, estimate
from mechdistill.training._device import available_device
from mechdistill.training._engine import Outcome
from mechdistill.training._experiment import Plan, plan, train
from mechdistill.training._hooks import Pace
from mechdistill.training._tabular import tabular_laws

__all__ = ["Cost", "Outcome", "Pace", "Plan", "available_device", "checks", "estimate", "plan", "tabular_laws", "train"]
