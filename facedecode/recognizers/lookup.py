"""A recognizer's contract by its name or folder, and where its weights are. Free of torch."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from facedecode.errors import BadInput, MissingWeights, UsageError
from facedecode.recognizers.cache import cache_folder
from facedecode.recognizers.spec import REGISTRY, RecognizerSpec
from facedecode.recognizers.trained import CARD, WEIGHTS, read_spec, trained_folder


def find_spec_by_name(name: str, weights: Path | str | None = None) -> RecognizerSpec:
    """The spec registered under `name`, or of the recognizer that was trained into the folder `name`.

    Args:
        weights: of a trained recognizer that is given by name, its folder.

    Raises:
        UsageError: no recognizer has that name; the known names are listed.
        MissingWeights: the name is that of protected templates, which no recognizer makes of pictures.
        BadInput: a folder whose card cannot be read, or that holds a recognizer of another name.
    """
    if name in REGISTRY:
        return REGISTRY[name]
    if folder := trained_folder(name):
        return read_spec(folder)
    if weights is not None and (folder := trained_folder(weights)):
        spec = read_spec(folder)
        if spec.name != name:
            raise BadInput(f"{folder}: holds the recognizer {spec.name}, not {name}; give the folder of {name}")
        return spec
    if "@" in name:
        raise MissingWeights(
            f"{name}: templates protected by 'transform', and no recognizer makes those of pictures; a network learns "
            "from them by --identity-weight 0 --perceptual-weight 0 --no-mirror"
        )
    raise UsageError(
        f"no recognizer is called {name!r}; known: {', '.join(sorted(REGISTRY))}; one that was trained here goes by "
        f"its folder (--model, or --weights where a store names it), and there is no {Path(weights or name) / CARD}"
    )


def find_weights(spec: RecognizerSpec, weights: Path | str | None = None) -> Path:
    """The weights file of a recognizer: `weights` if given, else its folder's, its package's, or the cache's.

    Raises:
        MissingWeights: it is not there; the message says where it was looked for and how to get it.
    """
    if weights is None and spec.folder is not None:
        weights = spec.folder
    if weights is not None:
        path = Path(weights)
        if spec.folder is not None and (folder := trained_folder(path)):
            path = folder / WEIGHTS
        if not path.is_file():
            raise MissingWeights(f"{path}: no such weights file for {spec.name}; {spec.obtain}")
        return path
    if spec.package is None and spec.url is None:
        raise MissingWeights(f"{spec.name}: its weights come with no package; {spec.obtain}")
    places = weights_places(spec)
    for path in places:
        if path.is_file():
            return path
    looked = ", ".join(map(str, places)) or f"package {spec.package} (not installed)"
    raise MissingWeights(f"{spec.name}: no weights; looked in {looked}; {spec.obtain}")


def weights_places(spec: RecognizerSpec) -> list[Path]:
    """Where weights of a recognizer are looked for that are not given; the first that is there is taken."""
    places = []
    if spec.package is not None:
        # The package is located, never imported: importing it needs pkg_resources.
        found = find_spec(spec.package)
        folders = list(found.submodule_search_locations or []) if found else []
        places += [Path(folder) / spec.package_file for folder in folders]
    if spec.url is not None:
        places.append(cached_weights(spec))
    return places


def cached_weights(spec: RecognizerSpec) -> Path:
    """Where the download of a recognizer's weights goes; it may not be there yet. The spec has a `url`."""
    return cache_folder() / str(spec.url).rpartition("/")[2]
