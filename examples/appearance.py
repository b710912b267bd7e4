"""Faces that are turned, moved, scaled or covered, and what a map of their templates undoes: the paper's Fig. 8 to 11.

    facedecode fit-mapping --embeddings emb --transform all --people ../shared/data/lfw/protocol/peopleDevTrain.txt
    python examples/appearance.py emb --figure rotations --mappings mappings --decoder dlib-resnet \\
        --people ../shared/data/lfw/protocol/peopleDevTest.txt -o fig08.png

A column is one perturbation. The rows are the original; the same window of the perturbed picture, which the
recognizer sees by the landmarks of the original; what the decoder draws of the perturbed template, without and with
the map; and what it draws of the unperturbed one. Below each drawing stands the recognizer's score of the drawing
against the original template. Who is shown is fixed by rule: people spread evenly over the sorted names, each one's
first image.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from arguments import Parser, positive, refuse_existing, run

from facedecode.decoders import load_decoder
from facedecode.errors import BadInput, NoFace
from facedecode.evaluation.cohort import (
    JudgedImages,
    known_people,
    open_stores,
    require_unseen,
    require_unseen_by_mapping,
    require_unseen_by_store,
    unseen_images,
)
from facedecode.evaluation.rendering import spread_rows
from facedecode.mapping.maps import Mapping, load_mapping
from facedecode.pictures import align
from facedecode.pictures.figures import enlarged, picture_grid, shortened
from facedecode.pictures.images import load_image, save_image
from facedecode.pictures.perturb import Transform, expand_group, perturb
from facedecode.recognizers import load_recognizer
from facedecode.recognizers.recognizer import Recognizer, embed_pictures
from facedecode.report.text import show_number
from facedecode.statistics.scores import score_pairs
from facedecode.store import Store
from facedecode.store.images import read_portraits, row_face
from facedecode.store.processing import refuse_done

FIGURES = {"rotations": "Fig. 8", "shifts": "Fig. 9", "scales": "Fig. 10", "occlusions": "Fig. 11"}
LABELS = ("original", "perturbed", "drawn of it", "with the map", "unperturbed")


@dataclass(frozen=True)
class Perturbed:
    """One picture perturbed in k ways. portraits: (k, P, P, 3) uint8. templates: (k, dim) float32."""

    portraits: np.ndarray
    templates: np.ndarray


def main(argv: Sequence[str] | None = None) -> None:
    arguments = parse(argv)
    refuse_existing(arguments.output, arguments.overwrite)
    store = next(iter(open_stores([arguments.store]).values()))
    refuse_done(store.manifest, store.folder, reason="the figure perturbs them itself")
    name = arguments.decoder or store.recognizer.name
    decoder = load_decoder(name, arguments.device)
    images = unseen_images(store, arguments.people, known=known_people([store], [decoder]))
    shown = spread_rows(images.acquired_identities, arguments.shown)
    rows = [images.acquired[row] for row in shown]
    judged = JudgedImages(rows, images.templates[~images.missing][shown], store.made_by)
    transforms = expand_group(arguments.figure)
    mappings = [fitted(arguments.mappings, transform, store, judged) for transform in transforms]
    decoder.require_recognizer(store.recognizer, f"the decoder {name}")
    require_unseen(name, decoder.known, judged)
    require_unseen_by_store(store, judged)
    recognizer = load_recognizer(store.recognizer, arguments.weights, arguments.device, store.manifest.precision)
    root, size = arguments.images or store.root, decoder.image_size
    originals, templates = read_portraits(rows, root, size), images.templates[~images.missing][shown]
    bands, captions = [], []
    for row, original, template in zip(rows, originals, templates, strict=True):
        found = perturbed(root, row, recognizer, transforms, size)
        mapped = [mapping.apply(own[None])[0] for mapping, own in zip(mappings, found.templates, strict=True)]
        decoded = [found.templates, np.stack(mapped), np.repeat(template[None], len(transforms), axis=0)]
        drawn = [decoder.decode(np.ascontiguousarray(own)) for own in decoded]
        bands += [np.repeat(original[None], len(transforms), axis=0), found.portraits, *drawn]
        captions += [[row["identity"]] * len(transforms), [transform.name for transform in transforms]]
        for pictures in drawn:
            own, wanted = embed_pictures(recognizer, pictures), np.repeat(template[None], len(pictures), axis=0)
            scores = score_pairs(own, wanted, recognizer.spec.score)
            captions.append([show_number(float(score)) for score in scores])
    bands = [enlarged(band) for band in bands]
    side = bands[0].shape[2]
    captions = [[shortened(caption, side) for caption in line] for line in captions]
    save_image(arguments.output, picture_grid(bands, LABELS * len(rows), captions))
    print(f"{FIGURES[arguments.figure]}: look at {arguments.output}", file=sys.stderr)


def fitted(folder: Path, transform: Transform, store: Store, judged: JudgedImages) -> Mapping:
    """The map of a transform, fitted for the store's recognizer on others than these. BadInput if it is not."""
    mapping = load_mapping(folder / f"{transform.name}.safetensors")
    if mapping.transform != transform.name:
        raise BadInput(f"{mapping.source}: undoes {mapping.transform}; fit one of {transform.name} in its place")
    mapping.require_templates(store.recognizer, store.manifest, store.folder)
    require_unseen_by_mapping(mapping, judged)
    return mapping


def perturbed(root: Path, row: dict, recognizer: Recognizer, transforms: Sequence[Transform], size: int) -> Perturbed:
    """A store's row in each way, by the box and landmarks that the store has. BadInput where no face stays."""
    image, face = load_image(root / row["path"]), row_face(row)
    try:
        pictures = [perturb(image, face, transform, str(recognizer.device)) for transform in transforms]
    except NoFace as error:
        raise BadInput(f"{root / row['path']}: {error}; choose others by --people or --shown") from None
    frame = align.portrait_crop(size)
    return Perturbed(
        np.stack([align.crop(picture, face, frame) for picture in pictures]),
        recognizer.embed_crops(np.stack([recognizer.crop(picture, face) for picture in pictures])),
    )


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(__doc__, "--device", "--images", output="a PNG file")
    parser.add_argument("store", type=Path, help="store of the unperturbed templates, with its images")
    parser.add_argument("--figure", choices=list(FIGURES), required=True, help="what is done to the faces")
    parser.add_argument("--mappings", type=Path, default=Path("mappings"), help="folder that fit-mapping wrote")
    parser.add_argument("--decoder", help="its folder; the shipped one for the store's recognizer if not given")
    parser.add_argument("--people", type=Path, required=True, help="people whom neither decoder nor maps have seen")
    parser.add_argument("--shown", type=positive, default=1, help="people in the figure, five rows each")
    parser.add_argument("--weights", type=Path, help="the recognizer's file, where no package has it")
    return parser.parse_args(argv)


if __name__ == "__main__":
    run(main)
