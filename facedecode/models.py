"""The list of recognizers and decoders, whether their weights are here, and their downloads. Free of torch."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from facedecode.errors import BadInput, MissingWeights, UsageError
from facedecode.files import SHIPPED, read_file, read_text, sha256_file, sha256_of
from facedecode.progress import Progress, silent
from facedecode.recognizers import REGISTRY, RecognizerSpec, find_spec_by_name, find_weights
from facedecode.recognizers.cache import require_cache_folder, require_recorded, write_record
from facedecode.recognizers.registry import download_name, weights_places
from facedecode.recognizers.weights_file import kind_of_weights
from facedecode.records import read_json

_LICENSE = "- **License**: "  # of a decoder: a line of its model card


def list_recognizers() -> list[dict]:
    """The registered recognizers, as JSON: their templates, where the weights are (None: missing), how to get them."""
    return [_describe(spec) for spec in REGISTRY.values()]


def list_decoders(folder: Path = SHIPPED) -> list[dict]:
    """The decoders that come with the package, as JSON. Raises BadInput: a description that cannot be read."""
    return [_describe_decoder(path) for path in sorted(folder.glob("*/decoder.json"))]


def download_weights(name: str, offline: bool = False, progress: Progress = silent) -> Path:
    """The weights of a recognizer in the cache, downloaded where they are not there yet; checked in either case.

    offline: refuse to download. progress: called with (bytes that are there, bytes of the whole file).

    Raises:
        UsageError: no such recognizer, or its weights have no public download.
        MissingWeights: not there and `offline`, or the download stopped early (the same call resumes it).
        BadInput: another file. OutputError, OutputInUse: the cache cannot be written.
    """
    from facedecode.download import download  # ssl, http

    spec = find_spec_by_name(name)
    if spec.url is None:
        raise UsageError(f"{name}: there is no download; {spec.obtain}")
    path = require_cache_folder() / download_name(spec)
    if path.is_file():
        _check(spec, path)
        require_recorded(path)
        return path
    if offline:
        raise MissingWeights(f"{path}: not there, and --offline forbids to download {spec.url}; leave --offline out")
    download(spec.url, path, progress, lambda part: _check(spec, part))
    write_record(path, sha256_file(path), spec.url)
    return path


def _check(spec: RecognizerSpec, path: Path) -> None:
    content = read_file(path)
    kind_of_weights(path, content)
    if spec.sha256 and sha256_of(content) != spec.sha256:
        raise BadInput(f"{path}: not the known weights of {spec.name} (sha256); remove it and download it again")


def _describe(spec: RecognizerSpec) -> dict:
    try:
        weights, missing = str(find_weights(spec)), None
    except MissingWeights:
        weights, missing = None, spec.obtain
    if spec.requires and find_spec(spec.requires) is None:
        missing = "; ".join(filter(None, [missing, f"install the package {spec.requires}"]))
    return {
        "name": spec.name,
        "dim": spec.dim,
        "score": spec.score,
        "input_size": spec.crop.size,
        "channel_order": spec.channel_order,
        "license": spec.license,
        "weights": weights,
        "pinned": spec.sha256 is not None,
        "looked_in": [str(path) for path in weights_places(spec)],
        "url": spec.url,
        "missing": missing,
    }


def _describe_decoder(path: Path) -> dict:
    try:
        card = read_json(path)
        readme = path.with_name("README.md")
        lines = read_text(readme).splitlines() if readme.is_file() else []
        return {
            "name": path.parent.name,
            "kind": card["kind"],
            "recognizer": card["recognizer"]["name"],
            "dim": card["config"]["dim"],
            "image_size": card["config"]["image_size"],
            "license": next((line.removeprefix(_LICENSE) for line in lines if line.startswith(_LICENSE)), None),
            "weights": str(path.with_name("decoder.safetensors")),
        }
    except (KeyError, TypeError) as error:
        raise BadInput(
            f"{path}: not a decoder's description ({type(error).__name__}); install facedecode again"
        ) from None
