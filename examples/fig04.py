"""The paper's Fig. 4: what is drawn of templates that SoftMax and ArcFace taught one backbone on the same people.

    python examples/fig04.py emb --recognizer SoftMax=softmax --recognizer ArcFace=arcface \\
        --train-people ../shared/data/lfw/protocol/peopleDevTrain.txt --exclude George_W_Bush \\
        --people ../shared/data/lfw/protocol/peopleDevTest.txt --work fig04 -o results/fig04

`emb` is any recognizer's store of the images; its landmarks are used, and its recognizer stands beside the two. They
were made by `facedecode train emb --kind recognizer --head …`. Of the people to train decoders on, those are taken whom
no recognizer was trained on: of its own training images a recognizer makes other templates than of anybody's. Each
recognizer's templates go to `--work`, and so do the decoders, which an interrupted run goes on with.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from arguments import Parser, command_line, positive, run
from fig04_report import Drawn, make_report

from facedecode.annotations.protocols import people_names, select_people
from facedecode.cli.console import Console
from facedecode.decoders import Decoder
from facedecode.errors import BadInput
from facedecode.evaluation.cohort import JudgedImages, require_unseen, require_unseen_by_recognizer, without_twice
from facedecode.evaluation.rendering import spread_rows
from facedecode.evaluation.trials import AllPairs
from facedecode.evaluation.verification.measure import VerificationSettings, verification_figures
from facedecode.known_pictures import Known
from facedecode.names import shared_people
from facedecode.options import named
from facedecode.pictures.images import save_image
from facedecode.pictures.metrics import psnr, ssim
from facedecode.provenance import describe_decoder, describe_file, describe_store, environment
from facedecode.recognizers import load_recognizer
from facedecode.recognizers.recognizer import Recognizer, embed_pictures
from facedecode.recognizers.registry import read_card
from facedecode.report.folder import require_writable, write_report
from facedecode.statistics.security import Attack, Originals, attack_success
from facedecode.store import Store, StoreWriter
from facedecode.store.images import read_crops, read_portraits
from facedecode.store.processing import require_extracted
from facedecode.training.decoder import train_store
from facedecode.training.jobs import DecoderJob, LossWeights, TrainSettings

SIDE = 64
WIDTHS = (128, 96, 48, 24, 16)  # a quarter of the default's: an epoch of 3,000 images takes a minute of one core
RATES = (0.01, 0.001)  # FAR of recognizers (the first), FMR of attacks
EACH = 2  # images of a person to judge on, at most: five men have two thirds of LFW's mated pairs


def main(argv: Sequence[str] | None = None) -> None:
    arguments = parse(argv)
    require_writable(arguments.output, arguments.overwrite)
    store = Store.open(arguments.store)
    require_extracted(store)
    recognizers = {
        name: load_recognizer(path, device=arguments.device)
        for name, path in named(arguments.recognizer, "--recognizer").items()
    }
    own = load_recognizer(store.recognizer, arguments.weights, arguments.device)
    recognizers[own.name] = own
    train, test = choose_rows(store, recognizers, arguments)
    with Console().progress() as stage:
        stores = {
            name: own_store(
                store, np.concatenate([train, test]), recognizer, arguments.work, stage(f"{name}, templates")
            )
            for name, recognizer in recognizers.items()
        }
        folders, decoders = {}, {}
        for name, each in stores.items():
            for kind in ("ridge", "dfd") if recognizers[name] is not own else ("ridge",):
                folders[name, kind] = arguments.work / f"{kind}-{recognizers[name].name}"
                job = decoder_job(each, folders[name, kind], kind, recognizers[name], arguments)
                decoders[name, kind] = train_store(job, arguments.device, training=stage(f"{name}, {kind}"))
        options = {"repetitions": arguments.repetitions}
        say = stage("rates")
        verified = {}
        for done, (name, each) in enumerate(stores.items()):
            say(done, len(stores), name)
            compared = AllPairs(arguments.people).compare(each)
            verified[name] = verification_figures(compared, RATES[:1], VerificationSettings(fmrs=RATES[:1], **options))
        rows = store.rows().take(test).to_pylist()
        originals = read_portraits(rows, store.root, SIDE)
        drawn = {
            key: judge(decoder, stores[key[0]], recognizers[key[0]], rows, originals, options)
            for key, decoder in decoders.items()
        }
        say(len(stores), len(stores), "")
    shown = spread_rows([row["identity"] for row in rows], arguments.columns)
    provenance = {
        "store": describe_store(store),
        "recognizers": {name: read_card(r.spec.folder).training for name, r in recognizers.items() if r.spec.folder},
        "stores": {name: describe_store(each) for name, each in stores.items()},
        "decoders": {" ".join(key): describe_decoder(decoders[key]) for key in decoders},
        "files": [describe_file(path) for path in (arguments.train_people, arguments.people)],
        "settings": {
            "training_images": len(train),
            "images": len(test),
            "epochs": arguments.epochs,
            "widths": WIDTHS,
            "batch_size": arguments.batch_size,
            **options,
        },
        "command": command_line(__file__, argv),
        "environment": environment(),
    }
    for card in provenance["recognizers"].values():
        del card["held_out_people"]  # in the card
    report, grid = make_report(verified, drawn, rows, originals, shown, provenance)
    write_report(report, arguments.output, overwrite=arguments.overwrite)
    if arguments.picture:
        save_image(arguments.picture, grid)
    print(f"look at {arguments.output / 'report.html'}", file=sys.stderr)


def choose_rows(
    store: Store, recognizers: Mapping[str, Recognizer], arguments: argparse.Namespace
) -> tuple[np.ndarray, np.ndarray]:
    """Rows to train decoders on, spread evenly, and to judge on: the first two images of each person."""
    names, paths = store.identities(), store.paths()
    known = {person for recognizer in recognizers.values() for person in recognizer.spec.training_people}
    seen = shared_people(filter(None, names), known)
    wanted = [i for i in select_people(names, arguments.train_people, tuple(arguments.exclude)) if names[i] not in seen]
    if not wanted:
        raise BadInput(f"{arguments.train_people}: the recognizers were trained on all of these people")
    wanted.sort(key=lambda i: paths[i])
    train = (
        [wanted[k * len(wanted) // arguments.images] for k in range(arguments.images)]
        if len(wanted) > arguments.images
        else wanted
    )
    test: dict[str, list[int]] = {}
    trained = people_names(arguments.train_people)
    judged, _ = without_twice(select_people(names, arguments.people), names, known.union(trained))
    for i in sorted(judged, key=lambda i: paths[i]):
        test.setdefault(names[i], []).append(int(i))
    chosen = np.array(sorted(i for rows in test.values() for i in rows[:EACH]))
    images = JudgedImages.of_store(store, chosen)
    require_unseen("of this figure", Known(trained, JudgedImages.of_store(store, train).known.pictures), images)
    for recognizer in recognizers.values():
        require_unseen_by_recognizer(recognizer, images)
    return np.array(sorted(train)), chosen


def own_store(store: Store, rows: np.ndarray, recognizer: Recognizer, work: Path, progress) -> Store:
    """A recognizer's store of some images of a store, by their landmarks; of the store's own, its templates."""
    folder = work / f"emb-{recognizer.name}"
    settings = {"of": store.fingerprint, "rows": rows.tolist()}
    manifest = {"score": recognizer.spec.score, "transform": None, "precision": "fp32", "l2_normalized": False}
    with StoreWriter(folder, settings, store.root, recognizer.describe(), len(rows), manifest=manifest) as writer:
        if not writer.complete:
            described = store.rows().take(rows).to_pylist()
            if recognizer.name == store.recognizer.name:
                templates = store.take(rows)
            else:
                templates = recognizer.embed_crops(read_crops(described, store.root, recognizer.spec.crop, progress))
            writer.append(templates, described, [], len(rows))
            writer.finish()
    return Store.open(folder)


def decoder_job(
    store: Store, folder: Path, kind: str, recognizer: Recognizer, arguments: argparse.Namespace
) -> DecoderJob:
    """The same for every recognizer; the network's φ is ξ."""
    settings = TrainSettings(
        image_size=SIDE,
        widths=WIDTHS,
        epochs=arguments.epochs,
        batch_size=arguments.batch_size,
        mirror=False,
        weights=LossWeights(identity=0),
    )
    return DecoderJob(
        store=store.folder,
        output=folder,
        architecture=kind,
        people=arguments.train_people,
        weights=recognizer.weights,
        settings=settings,
    )


def judge(
    decoder: Decoder, store: Store, recognizer: Recognizer, rows: Sequence[dict], originals: np.ndarray, options: dict
) -> Drawn:
    """What a decoder makes of the templates of these rows' images, and how near it comes."""
    place = {path: i for i, path in enumerate(store.paths())}
    templates = store.take(np.array([place[row["path"]] for row in rows]))
    pictures, people = decoder.decode(templates), [row["identity"] for row in rows]
    again = embed_pictures(recognizer, pictures)
    attacked = Originals(templates, people, recognizer.spec.score)
    rates = attack_success({"": Attack(again)}, attacked, RATES, **options)[""]
    return Drawn(psnr(pictures, originals), ssim(pictures, originals), pictures, rates)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(__doc__, "--device", "--repetitions", output="folder of the report")
    parser.add_argument("store", type=Path)
    parser.add_argument(
        "--recognizer", action="append", required=True, metavar="NAME=FOLDER", help="made by 'train --kind recognizer'"
    )
    parser.add_argument("--weights", type=Path, help="of the store's recognizer, where no package has them")
    parser.add_argument("--train-people", type=Path, required=True, help="whom to train decoders on")
    parser.add_argument("--exclude", action="append", default=[], help="leave out a person (repeatable)")
    parser.add_argument("--people", type=Path, required=True, help="whom to judge on")
    parser.add_argument("--images", type=positive, default=3000, help="images to train decoders on, at most")
    parser.add_argument("--epochs", type=float, default=2.0, help="of the networks' training")
    parser.add_argument("--batch-size", type=positive, default=16)
    parser.add_argument("--columns", type=positive, default=8, help="people in the picture")
    parser.add_argument("--work", type=Path, required=True, help="folder for templates and decoders")
    parser.add_argument("--picture", type=Path, help="also write the picture here")
    return parser.parse_args(argv)


if __name__ == "__main__":
    run(main)
