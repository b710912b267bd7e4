"""The paper's Table 1: what each term of the loss brings, and whether φ has to be the attacked recognizer itself.

    python examples/table1.py emb emb-edgeface --weights edgeface-xxs=../shared/weights/edgeface_xxs.safetensors \\
        --lpips-trunk ../shared/weights/torchvision_alexnet_features.safetensors \\
        --train-people ../shared/data/lfw/protocol/peopleDevTrain.txt --exclude George_W_Bush \\
        --people ../shared/data/lfw/protocol/peopleDevTest.txt --work table1 -o docs/results/table1

trains every row for every variant (ξ, φ) of the stores' recognizers at equal budgets, fits the mean face and ridge to
the same portraits, by which a PSNR can be judged, and writes a report like those of `facedecode evaluate`. A killed run
goes on where it stopped: what is in the work folder is not made again.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import itertools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from arguments import Parser, command_line, finish, positive, run
from table1_report import CLOSED, MEASURES, Judged, make_report

from facedecode.annotations.protocols import select_people
from facedecode.cli.console import Console
from facedecode.decoders import Provenance, load_decoder, save_decoder
from facedecode.decoders.base import DecoderNetwork, closed_form
from facedecode.decoders.training_record import TrainingRecord
from facedecode.errors import BadInput, UsageError
from facedecode.evaluation.cohort import (
    JudgedImages,
    known_people,
    open_stores,
    require_unseen,
    require_unseen_by_store,
    without_twice,
)
from facedecode.evaluation.fidelity import joined, picture_values
from facedecode.evaluation.rendering import spread_rows
from facedecode.files import json_text, make_folder, write_bytes
from facedecode.options import named
from facedecode.perceptual.lpips import Lpips
from facedecode.perceptual.phi import PerceptualNetwork, load_phi
from facedecode.pictures.align import PORTRAIT_POINTS
from facedecode.provenance import describe_file, describe_store, environment
from facedecode.report.folder import require_writable
from facedecode.store import Store
from facedecode.store.images import read_portraits
from facedecode.training.decoder_run import VERSION, Pairs, TrainingInputs, train_decoder
from facedecode.training.jobs import LossWeights, TrainSettings
from facedecode.training.trainer import STATE

SIDE = 64  # px
WIDTHS = (256, 128, 64, 32, 16)  # half of the default: 96 trainings are to fit in an hour or two of a small machine
SHOWN = 6  # people
_LOCAL = ("local_pixel", "local_gradient", "local_perceptual")
# Which terms are on; in the paper only the first row has the local ones.
ROWS = {
    "full": ("pixel", "gradient", "perceptual", *_LOCAL),
    "global": ("pixel", "gradient", "perceptual"),
    "pix+grad": ("pixel", "gradient"),
    "pix+perc": ("pixel", "perceptual"),
    "grad+perc": ("gradient", "perceptual"),
    "perc": ("perceptual",),
    "pix": ("pixel",),
    "grad": ("gradient",),
}


def loss_weights(row: str) -> LossWeights:
    """The weights that `train` has by default, of the row's terms only; local perceptual weighs as its whole does."""
    default = asdict(LossWeights())
    weights = {**default, "local_perceptual": default["local_perceptual"] or default["perceptual"]}
    return LossWeights(**{name: weight if name in ROWS[row] else 0.0 for name, weight in weights.items()})


def recorded(settings: TrainSettings | None, training: Training) -> dict[str, object]:
    """JSON: the settings and the perceptual network, as a decoder's file has them. settings: None of a closed form."""
    if settings is None:
        return {"architecture": training.row, "image_size": SIDE}
    return asdict(settings) | {"phi": [training.phi] if training.phi else []}


@dataclass(frozen=True)
class Data:
    """Images that all stores have a template of.

    rows: of the first store. templates: recognizer → float32 (n, dim). portraits: uint8 (n, 64, 64, 3).
    beyond: images that a limit left out.
    """

    rows: list[dict]
    templates: dict[str, np.ndarray]
    portraits: np.ndarray
    beyond: int

    @property
    def identities(self) -> list[str]:
        return [row["identity"] for row in self.rows]

    def digest(self) -> str:
        """A hash of which images these are."""
        return hashlib.sha256(json_text([[row["path"], row["sha256"]] for row in self.rows]).encode()).hexdigest()


@dataclass(frozen=True)
class Training:
    """One decoder to train. phi: None for a row without a perceptual term, which all φ share. A closed form: seed 0."""

    recognizer: str
    phi: str | None
    row: str
    seed: int

    def name(self) -> str:
        return f"{self.recognizer},{self.phi or 'no-phi'},{self.row},{self.seed}"

    @classmethod
    def of(cls, recognizer: str, phi: str, row: str, seed: int) -> Training:
        """What a row of a variant rests on."""
        if row in CLOSED:
            return cls(recognizer, None, row, 0)
        return cls(recognizer, phi if loss_weights(row).perceptual else None, row, seed)


def main(argv: Sequence[str] | None = None) -> None:
    arguments = parse(argv)
    require_writable(arguments.output, arguments.overwrite)
    stores = open_stores(arguments.stores)
    variants = chosen(arguments.variants, [f"{a}/{b}" for a, b in itertools.product(stores, repeat=2)], "--variants")
    rows = chosen(arguments.rows, [*ROWS, *CLOSED], "--rows")
    weights = {name: Path(file) for name, file in named(arguments.weights, "--weights").items()}
    if unused := sorted(set(weights) - set(stores)):
        raise UsageError(f"--weights {unused[0]}: no store is of that recognizer; there are {', '.join(stores)}")
    lpips = Lpips(arguments.lpips_trunk, device=arguments.device)
    pairs = [tuple(variant.split("/")) for variant in variants]
    networks = {name: load_phi(name, weights.get(name), arguments.device) for name in sorted({phi for _, phi in pairs})}
    trainings = {
        (variant, row, seed): Training.of(xi, phi, row, seed)
        for variant, (xi, phi) in zip(variants, pairs, strict=True)
        for row in rows
        for seed in range(arguments.seeds)
    }
    with Console().progress() as stage:
        used = arguments.exclude, arguments.images
        train = read_data(stores, arguments.train_people, *used, stage("portraits to train on"))
        known = known_people(stores.values()).union(train.identities)
        test = read_data(stores, arguments.people, (), arguments.limit, stage("portraits to judge on"), known)
        for name, store in stores.items():
            images = JudgedImages(test.rows, test.templates[name], store.made_by)
            seen = JudgedImages(train.rows, train.templates[name], store.made_by).known
            require_unseen("of this table", seen, images)
            require_unseen_by_store(store, images)
        unique = list(dict.fromkeys(trainings.values()))
        folders = train_all(unique, arguments, stores, networks, train, stage("training, steps"))
        values = judge_all(folders, arguments.device, test, lpips, stage("decoders judged"))
    shown = spread_rows(test.identities, SHOWN)
    judged = {
        variant: {
            row: Judged(
                *(
                    np.stack([values[trainings[variant, row, seed]][name] for seed in range(arguments.seeds)])
                    for name in MEASURES
                ),
                pictures=draw(folders[trainings[variant, row, 0]], arguments.device, test, shown),
            )
            for row in rows
        }
        for variant in variants
    }
    settings = {
        "image_size": SIDE,
        "widths": WIDTHS,
        "images": len(train.rows),
        "steps": arguments.steps,
        "batch_size": min(arguments.batch_size, len(train.rows)),
        "precision": arguments.precision,
        "seeds": arguments.seeds,
        "loss_weights": {row: asdict(loss_weights(row)) for row in rows if row in ROWS},
        "train_people": describe_file(arguments.train_people),
        "exclude": list(arguments.exclude),
        "people": describe_file(arguments.people),
        "limit": arguments.limit,
        "repetitions": arguments.repetitions,
    }
    provenance = {
        "stores": [describe_store(store) for store in stores.values()],
        "phi": {name: network.describe() for name, network in networks.items()},
        "lpips": lpips.describe(),
        "decoders": {
            training.name(): load_decoder(folders[training]).provenance.training.fingerprint for training in unique
        },
        "settings": settings,
        "command": command_line(__file__, argv),
        "environment": environment(),
    }
    report = make_report(judged, test.identities, test.portraits[shown], shown, test.beyond, provenance)
    finish(report, arguments)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(__doc__, "--device", "--repetitions")
    parser.add_argument("stores", type=Path, nargs="+", help="stores of the same images, one a recognizer")
    parser.add_argument("--weights", nargs="*", default=[], help="NAME=FILE of a recognizer, where no package has it")
    parser.add_argument("--lpips-trunk", type=Path, required=True, help="AlexNet's weights, as torchvision has them")
    parser.add_argument("--train-people", type=Path, required=True, help="whom to train on")
    parser.add_argument("--exclude", nargs="*", default=[], help="people of that file to leave out")
    parser.add_argument("--people", type=Path, required=True, help="whom to judge on")
    parser.add_argument("--work", type=Path, required=True, help="folder for the decoders, kept between runs")
    parser.add_argument("--images", type=positive, default=3000, help="to train on")
    parser.add_argument("--steps", type=positive, default=375, help="of each training (two epochs of 3,000 images)")
    parser.add_argument("--batch-size", type=positive, default=16)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32", help="of training; judged is in fp32")
    parser.add_argument("--seeds", type=positive, default=3)
    parser.add_argument("--limit", type=positive, help="judge on so many images only, to try it out")
    parser.add_argument("--rows", nargs="*", help=f"of {', '.join((*ROWS, *CLOSED))}; all if not given")
    parser.add_argument("--variants", nargs="*", help="XI/PHI, names of recognizers; all if not given")
    return parser.parse_args(argv)


def chosen(wanted: Sequence[str] | None, known: Sequence[str], option: str) -> list[str]:
    """The known names that are wanted, in the known order; all if none is. UsageError for an unknown one."""
    for name in wanted or ():
        if name not in known:
            raise UsageError(f"{option} {name}: there are {', '.join(known)}")
    return [name for name in known if not wanted or name in wanted]


def read_data(
    stores: Mapping[str, Store],
    people: Path,
    exclude: Iterable[str],
    count: int | None,
    progress: Callable[[int, int], None],
    known: Collection[str] = (),
) -> Data:
    """The images of these people that all stores have a template of: `count` of them, drawn at random, or all.

    known: as in `unseen_images`.
    """
    first = next(iter(stores.values()))
    places = {
        name: {(row["path"], row["sha256"]): i for i, row in enumerate(store.rows().to_pylist()) if row["path"]}
        for name, store in stores.items()
    }
    rows = first.rows().to_pylist()
    names = [row["identity"] for row in rows]
    rows = [rows[i] for i in without_twice(select_people(names, people, tuple(exclude)), names, known)[0]]
    # One image is one name and one content: another edition of the pictures has the same names.
    rows = [row for row in rows if all((row["path"], row["sha256"]) in place for place in places.values())]
    if len(rows) < (count or 1):
        raise BadInput(f"{people}: {len(rows)} of its people's images have a template in all stores; lower the number")
    there = len(rows)
    if count is not None:
        rows = [rows[i] for i in np.sort(np.random.default_rng(0).choice(there, count, replace=False))]
    keys = [(row["path"], row["sha256"]) for row in rows]
    templates = {name: store.templates()[[places[name][key] for key in keys]] for name, store in stores.items()}
    return Data(rows, templates, read_portraits(rows, first.root, SIDE, progress), there - len(rows))


def train_all(
    trainings: Sequence[Training],
    arguments: argparse.Namespace,
    stores: Mapping[str, Store],
    networks: Mapping[str, PerceptualNetwork],
    data: Data,
    progress: Callable[..., None],
) -> dict[Training, Path]:
    """Train what is not yet in the work folder; where each decoder is."""
    batch = min(arguments.batch_size, len(data.rows))
    empty = Pairs(np.empty((0, 0), np.float32), np.empty((0, SIDE, SIDE, 3), np.uint8))
    jobs: dict[Training, tuple[Path, TrainSettings | None, str]] = {}
    for training in trainings:
        settings = None
        if training.row not in CLOSED:
            settings = TrainSettings(
                image_size=SIDE,
                widths=WIDTHS,
                coarse=0,
                epochs=arguments.steps / (len(data.rows) // batch),
                batch_size=batch,
                mirror=False,
                seed=training.seed,
                precision=arguments.precision,
                weights=loss_weights(training.row),
            )
        described = {
            "store": stores[training.recognizer].fingerprint,
            "images": data.digest(),
            "phi": networks[training.phi].describe() if training.phi else None,
            "frame": PORTRAIT_POINTS,
            "settings": recorded(settings, training),
            "version": VERSION if settings else None,
        }
        fingerprint = hashlib.sha256(json_text(described).encode()).hexdigest()
        # Another job has another folder, so that a decoder of other data or settings is never taken for this one.
        jobs[training] = (arguments.work / f"{training.name()},{fingerprint[:12]}", settings, fingerprint)
    missing = [training for training in trainings if not (jobs[training][0] / "decoder.json").exists()]
    for number, training in enumerate(missing):
        folder, settings, fingerprint = jobs[training]

        def stepped(step: int, steps: int, note: str = "", number: int = number, name: str = training.name()) -> None:
            progress(number * steps + step, len(missing) * steps, f"{name} {note}")

        make_folder(folder)
        store = stores[training.recognizer]
        pairs = Pairs(data.templates[training.recognizer], data.portraits)
        score, device = store.score, arguments.device
        net: DecoderNetwork
        if settings is None:
            portraits = torch.from_numpy(pairs.portraits).permute(0, 3, 1, 2)
            net = closed_form(training.row)(store.dim, SIDE).fit(torch.from_numpy(pairs.templates), portraits, score)
        else:
            phi = [networks[training.phi]] if training.phi else []
            inputs = TrainingInputs(pairs, empty, settings, folder, fingerprint, score, phi=phi)
            net, _ = train_decoder(inputs, device, progress=stepped)
        people, described = sorted(set(data.identities)), recorded(settings, training)
        made = {"people": people, "images": len(pairs), "settings": described}
        made |= {"store": store.fingerprint, "fingerprint": fingerprint}
        kind = "dfd" if settings else training.row
        provenance = Provenance(store.recognizer, training=TrainingRecord.from_json(folder, made))
        pictures = JudgedImages(data.rows, pairs.templates, store.made_by).known.pictures
        save_decoder(folder, kind, net, provenance, pictures=pictures)
        (folder / STATE).unlink(missing_ok=True)
    return {training: folder for training, (folder, *_) in jobs.items()}


def judge_all(
    folders: Mapping[Training, Path],
    device: str,
    data: Data,
    lpips: Lpips,
    progress: Callable[[int, int], None],
) -> dict[Training, dict[str, np.ndarray]]:
    """PSNR, SSIM and LPIPS of every picture, each float64 (n,), kept beside the decoder."""
    found = {}
    known = hashlib.sha256((data.digest() + lpips.trunk_sha256).encode()).hexdigest()[:12]
    for done, (training, folder) in enumerate(folders.items(), 1):
        path = folder / f"judged-{known}.npz"
        if not path.exists():
            templates, parts = data.templates[training.recognizer], []
            decoder = load_decoder(folder, device)
            for start in range(0, len(templates), 64):
                rows = slice(start, start + 64)
                drawn = decoder.decode(templates[rows])
                parts.append(picture_values(drawn, data.portraits[rows], lpips))
            values, stream = joined(parts), io.BytesIO()
            np.savez(stream, **{name: values[name] for name in MEASURES})
            write_bytes(path, stream.getvalue())
        with np.load(path, allow_pickle=False) as file:
            found[training] = dict(file)
        progress(done, len(folders))
    return found


def draw(folder: Path, device: str, data: Data, rows: Sequence[int]) -> np.ndarray:
    """What a decoder draws of these rows: (n, 64, 64, 3) uint8."""
    decoder = load_decoder(folder, device)
    return decoder.decode(data.templates[decoder.recognizer.name][list(rows)])


if __name__ == "__main__":
    run(main)
