"""What the trainer sees of distillation: a run's teacher and objective, asked together at a step.

A run without a teacher goes through the same lines.
"""

from mechdistill.training._distillation._distillation import Distillation

__all__ = ["Distillation"]
