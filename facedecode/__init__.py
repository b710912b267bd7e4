"""facedecode: face-recognition templates back into faces, and figures on the space they live in.

What is named in `__all__` is the public interface; docs/python.md shows it at work. Names are loaded when they are
asked for: importing the package alone stays cheap and free of torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from facedecode.api import (
        AttackedCrops,
        Clusters,
        Embedded,
        aggregate,
        attack,
        cluster,
        embed,
        evaluate,
        extract,
        fit_mapping,
    )
    from facedecode.attacks.methods import Budget
    from facedecode.decoders import Decoder, load_decoder
    from facedecode.errors import FacedecodeError
    from facedecode.evaluation.jobs import (
        AggregationJob,
        EquivarianceJob,
        LeakageJob,
        ProtectionJob,
        ReconstructionJob,
        SecurityJob,
        VerificationJob,
    )
    from facedecode.inversion.invert import Inverted, invert
    from facedecode.mapping.maps import Mapping, load_mapping
    from facedecode.recognizers import load_recognizer
    from facedecode.store import Store

__version__ = "0.1.0"
_HOMES = {
    "facedecode.api": (
        "AttackedCrops",
        "Clusters",
        "Embedded",
        "aggregate",
        "attack",
        "cluster",
        "embed",
        "evaluate",
        "extract",
        "fit_mapping",
    ),
    "facedecode.attacks.methods": ("Budget",),
    "facedecode.decoders": ("Decoder", "load_decoder"),
    "facedecode.errors": ("FacedecodeError",),
    "facedecode.evaluation.jobs": (
        "AggregationJob",
        "EquivarianceJob",
        "LeakageJob",
        "ProtectionJob",
        "ReconstructionJob",
        "SecurityJob",
        "VerificationJob",
    ),
    "facedecode.inversion.invert": ("Inverted", "invert"),
    "facedecode.mapping.maps": ("Mapping", "load_mapping"),
    "facedecode.recognizers": ("load_recognizer",),
    "facedecode.store": ("Store",),
}
__all__ = [
    "AggregationJob",
    "AttackedCrops",
    "Budget",
    "Clusters",
    "Decoder",
    "Embedded",
    "EquivarianceJob",
    "FacedecodeError",
    "Inverted",
    "LeakageJob",
    "Mapping",
    "ProtectionJob",
    "ReconstructionJob",
    "SecurityJob",
    "Store",
    "VerificationJob",
    "__version__",
    "aggregate",
    "attack",
    "cluster",
    "embed",
    "evaluate",
    "extract",
    "fit_mapping",
    "invert",
    "load_decoder",
    "load_mapping",
    "load_recognizer",
]


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            value = getattr(import_module(module), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module 'facedecode' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
