"""What a measure's numbers depend on besides weights, settings and our own source: users' definitions."""

from mechdistill.circuits import ABLATIONS, SCORES
from mechdistill.registry import Origin, Registry
from mechdistill.tables import MEASURES, Measure


def definitions(measure: Measure) -> dict[str, Origin]:
    """The users' definitions that a measure's numbers depend on."""
    registries: list[Registry[object]] = [SCORES, ABLATIONS] if "heads" in measure.needs else []  # type: ignore[list-item]
    found = {f"{r.kind} {name}": origin for r in registries for name, origin in r.origins.items()}
    own = MEASURES.origin(measure.name)
    return found if own is None else {**found, f"{MEASURES.kind} {measure.name}": own}
