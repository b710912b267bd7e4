"""The templates to invert, the decoder that draws them, and the recognizer that scores its pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from facedecode.decoders.checkpoint import Decoder, load_decoder_for
from facedecode.errors import BadInput, MissingWeights, UsageError
from facedecode.escaping import file_names
from facedecode.identity import RecognizerId, require_same_recognizer
from facedecode.inversion.jobs import DrawingOptions
from facedecode.recognizers import DEFAULT_RECOGNIZER, find_spec_by_name, is_custom, load_recognizer
from facedecode.recognizers.contract import TEMPLATES_ONLY, full_model_name
from facedecode.recognizers.recognizer import Recognizer
from facedecode.recognizers.registry import recognizer_file
from facedecode.store import ImageFolder, Manifest, Store, load_templates

# What is put behind the name of a picture; `invert` writes a map of confidence beside each.
MAP_SUFFIX = "-confidence"
LONGEST_SUFFIX = f"{MAP_SUFFIX}.png"


@dataclass
class TemplateInput:
    """Templates to invert.

    templates: (n, dim) float32.
    recognizer: from the manifest; for a bare file only the name is known.
    weights: the recognizer's file, where the user named it.
    names: a file name for each, without suffix.
    manifest: of their store, if they are in one.
    rows: the store's rows, if it is a store; `root` is where its images are.
    note: for the user, an assumption or a cast.
    """

    templates: np.ndarray
    recognizer: RecognizerId
    weights: Path | None
    names: list[str]
    manifest: Manifest | None = None
    rows: list[dict] | None = None
    root: ImageFolder | None = None
    note: str | None = None


def read_inputs(path: Path, options: DrawingOptions | None = None, device: str = "cpu") -> TemplateInput:
    """Read a store, a shard of it, or a bare `.npy`. device: to try a model of the user's on.

    Raises BadInput: unreadable, templates of another recognizer, or a bare file where the originals are asked for.
    UsageError, MissingWeights: as `load_recognizer`.
    """
    options = options or DrawingOptions()
    wanted = options.recognizer
    model, weights = wanted.model and full_model_name(wanted.model), wanted.weights
    custom = None
    if model is not None and is_custom(model):
        custom = load_recognizer(model, weights, device, "fp32", wanted.spec, wanted.template_output).describe()
    elif wanted.spec is not None or wanted.template_output is not None:
        raise UsageError("--spec and --template-output go with --model net.onnx or net.pt2; a store has its contract")
    weights = recognizer_file(model, weights)
    if path.is_dir():
        store = Store.open(path)
        rows, root = store.rows().to_pylist(), store.images(options.images)
        names = picture_names([row["path"] for row in rows])
        result = TemplateInput(store.templates(), store.recognizer, weights, names, store.manifest, rows, root)
    else:
        if options.originals:
            raise BadInput(f"{path}: --originals needs a whole store: its manifest says where the images are")
        templates, manifest, note = load_templates(path)
        names = [path.stem if len(templates) == 1 else f"{path.stem}_{i:05d}" for i in range(len(templates))]
        names = file_names(names, LONGEST_SUFFIX)
        if manifest is None:
            recognizer, assumed = _recognizer_of_bare(path, templates, model, custom)
            note = "; ".join(filter(None, (assumed, note))) or None
        else:
            recognizer = manifest.recognizer
        result = TemplateInput(templates, recognizer, weights, names, manifest, note=note)
    name = result.recognizer.name
    if custom:
        require_same_recognizer(result.recognizer, custom, f"--model {model}")
    elif model and name != model and name != find_spec_by_name(model).name:
        raise BadInput(f"{path}: its manifest says {name}, not {model}; leave --model out")
    return result


def _recognizer_of_bare(
    path: Path, templates: np.ndarray, model: str | None, custom: RecognizerId | None
) -> tuple[RecognizerId, str | None]:
    """The recognizer of templates without a manifest, and a note where it is assumed."""
    if model is not None and model.startswith(TEMPLATES_ONLY):  # nothing tells how long its templates are
        return RecognizerId(model, None), None
    if custom:
        recognizer, dim = custom, custom.dim
    else:
        spec = find_spec_by_name(model or DEFAULT_RECOGNIZER)
        recognizer, dim = RecognizerId(spec.name, None), spec.dim
    name = recognizer.name
    if templates.shape[1] != dim:
        raise BadInput(f"{path}: templates of {templates.shape[1]} numbers, and {name}'s have {dim}; say --model")
    return recognizer, None if model else f"{path}: taken as templates of {name} (say --model if they are not)"


def picture_names(paths: Sequence[str | None]) -> list[str]:
    """A name for each row's picture, after its image's path, without suffix; see `file_names`."""
    parts = [[part for part in (path or "").split("/") if part not in ("", ".")] for path in paths]
    stems = ["__".join([*folders[:-1], *(PurePosixPath(last).stem for last in folders[-1:])]) for folders in parts]
    return file_names(stems, LONGEST_SUFFIX)


@dataclass(frozen=True)
class Networks:
    """A decoder, and the recognizer of its templates; None where its weights are missing, and `note` says why."""

    decoder: Decoder
    recognizer: Recognizer | None
    note: str | None = None


def load_networks(
    inputs: TemplateInput, decoder: str | None = None, device: str = "cpu", *, need_recognizer: bool = False
) -> Networks:
    """The decoder of that name or folder, or the shipped one, and the recognizer.

    Raises BadInput: the decoder is for templates of another recognizer. MissingWeights: no such decoder; or the
    recognizer's weights are missing although the user named them or they are needed.
    """
    drawer = load_decoder_for(inputs.recognizer, decoder, device)
    try:
        return Networks(drawer, load_recognizer(drawer.recognizer, inputs.weights, device))
    except (MissingWeights, UsageError) as error:  # UsageError: the name of one that was trained elsewhere
        if inputs.weights is not None or need_recognizer:
            raise
        return Networks(drawer, None, f"no scores: {error}")
