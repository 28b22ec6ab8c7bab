"""Teachers: whatever gives soft targets. To add one, see `config.TEACHERS`; the classes here are for use in Python."""

from mechdistill.teachers._build import build_teacher
from mechdistill.teachers._checkpoint import Checkpoint, Progressive
from mechdistill.teachers._combined import Ensemble, Splice, Temperature
from mechdistill.teachers._corrupted import Noisy, Permuted
from mechdistill.teachers._count import Count
from mechdistill.teachers._drawn import Sampled, TopK
from mechdistill.teachers._exact import Bigram, Oracle, Uniform
from mechdistill.teachers._own import own_kind
from mechdistill.teachers._protocol import Moment, Setting, Teacher, everyone
from mechdistill.teachers._student import Ema
from mechdistill.teachers._tilted import Tilted

__all__ = [
    "Bigram",
    "Checkpoint",
    "Count",
    "Ema",
    "Ensemble",
    "Moment",
    "Noisy",
    "Oracle",
    "Permuted",
    "Progressive",
    "Sampled",
    "Setting",
    "Splice",
    "Teacher",
    "Temperature",
    "Tilted",
    "TopK",
    "Uniform",
    "build_teacher",
    "everyone",
    "own_kind",
]
