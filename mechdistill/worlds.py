"""Opening the world of a config: the one place that knows which tenants there are."""

from mechdistill.config import SandboxConfig
from mechdistill.sandbox import Sandbox


def open_world(config: SandboxConfig) -> Sandbox:
    """The world that a run or an experiment says."""
    return Sandbox(config)
