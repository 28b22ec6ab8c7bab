"""What a measure's numbers depend on besides weights, settings and our own source: users' definitions."""

from typing import Any

from mechdistill.circuits import ABLATIONS, SCORES
from mechdistill.registry import Origin, Registry, definitions_loaded
from mechdistill.tables import MEASURES, Measure


def definitions(measure: Measure) -> dict[str, Origin]:
    """The users' definitions that a measure's numbers depend on, by kind and name.

    Ours iterate scores and ablations where they look at heads; what a user's own measure asks for is not known, so that
    it depends on them all and on every other measure of a user.
    """
    registries: list[Registry[Any]] = []
    if MEASURES.origin(measure.name) is not None:
        registries = [SCORES, ABLATIONS, MEASURES]
    elif "heads" in measure.needs:
        registries = [SCORES, ABLATIONS]
    return definitions_loaded(registries)
