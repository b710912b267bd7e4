"""Face recognizers (ξ): one registry, one interface.

`load_recognizer("dlib-resnet")` gives a `Recognizer`, `load_recognizer(store.recognizer)` the one that made a store.
`REGISTRY` lists the registered ones without importing torch.
"""

from facedecode.recognizers.contract import is_custom
from facedecode.recognizers.registry import find_spec_by_name, find_weights, load_chosen_recognizer, load_recognizer
from facedecode.recognizers.spec import DEFAULT_RECOGNIZER, REGISTRY, RecognizerSpec

__all__ = [
    "DEFAULT_RECOGNIZER",
    "REGISTRY",
    "RecognizerSpec",
    "find_spec_by_name",
    "find_weights",
    "is_custom",
    "load_chosen_recognizer",
    "load_recognizer",
]
