"""A run or an experiment for other people: a folder that they can load, with a model card."""

from mechdistill.publishing._portable import portable, provenance
from mechdistill.publishing._publish import publish

__all__ = ["portable", "provenance", "publish"]
