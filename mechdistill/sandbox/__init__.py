"""The synthetic bigram world: transition matrices, sampler, exact oracle, per-position labels."""

from mechdistill.sandbox._world import CHUNK, N_BUCKETS, Labels, Sandbox

__all__ = ["CHUNK", "N_BUCKETS", "Labels", "Sandbox"]
