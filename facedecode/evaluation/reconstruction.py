"""`evaluate reconstruction`: what several decoders' pictures are worth, of people whom none of them was trained on.

Pictures are 8-bit portraits (`facedecode.pictures.align`) and are embedded again in the portrait's own frame, without a
new detection. `fidelity.PICTURE_METRICS` declares what is measured.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from facedecode.device import find_device
from facedecode.errors import BadInput, UsageError
from facedecode.evaluation.cohort import (
    SCORES,
    Reference,
    UnseenImages,
    known_people,
    load_recognizers,
    make_reference,
    open_stores,
    require_unseen,
    unseen_images,
)
from facedecode.evaluation.fidelity import (
    ORIGINALS,
    PICTURE_METRICS,
    PictureValues,
    add_fidelity,
    fidelity_axes,
    fidelity_specs,
    joined,
    picture_values,
)
from facedecode.evaluation.jobs import ReconstructionJob
from facedecode.evaluation.rendering import PLACES, Examples, draw_examples
from facedecode.evaluation.result import MetricSpec, Result, Schema, paragraphs, texts
from facedecode.pictures.figures import enlarged, picture_grid, png_bytes, shortened
from facedecode.progress import Progress, Stage, silent, silent_stage
from facedecode.provenance import describe_decoder, describe_job, describe_recognizers, describe_store
from facedecode.report import Column, Picture, Section, Table, plots
from facedecode.report.model import Unit
from facedecode.report.text import show_number
from facedecode.statistics.bootstrap import mean_interval
from facedecode.statistics.intervals import LEVEL
from facedecode.statistics.scores import score_pairs
from facedecode.store import Store

if TYPE_CHECKING:  # these need torch
    from facedecode.decoders import Decoder
    from facedecode.perceptual.lpips import Lpips
    from facedecode.perceptual.phi import PerceptualNetwork

TEXTS = texts("reconstruction")
_BATCH = 64  # portraits at once: 3 MB at 128 px
_ACROSS = 6  # faces, as many as a phone's width shows


def reconstruction_schema(job: ReconstructionJob) -> Schema:
    """The figures that there will be."""
    axes = fidelity_axes(list(job.decoders), list(open_stores([job.store, *job.against])), list(job.phi))
    failures = MetricSpec(
        "failure_to_acquire", ("recognizer",), "percent", "images without a template", "failure_to_acquire/{recognizer}"
    )
    metrics = [*fidelity_specs(job.lpips_trunk is not None), failures]
    return Schema("reconstruction", "Faces drawn from templates: fidelity", axes, metrics)


def evaluate_reconstruction(job: ReconstructionJob, stage: Stage = silent_stage) -> Result:
    """All figures of a job. stage: see `Evaluation.evaluate`.

    Raises:
        UsageError: no decoder, or one called 'originals'; a baseline that is none of the decoders, two stores of one
            recognizer, weights for a recognizer that has no store, an unknown perceptual network, or a net of LPIPS
            without its trunk.
        MissingWeights: a decoder, a recognizer's or perceptual network's weights, or LPIPS's trunk is not found.
        BadInput: a decoder has seen one of the people, takes another recognizer's templates or draws another size
            than the others; images that are missing or others than the store's; a wrong trunk.
    """
    from facedecode.decoders import load_decoder_for
    from facedecode.perceptual.lpips import Lpips
    from facedecode.perceptual.phi import load_phi
    from facedecode.store.images import portrait_batches

    if not job.decoders:
        raise UsageError("there is no decoder to evaluate: give one at least")
    if ORIGINALS in job.decoders:
        raise UsageError(f"no decoder can be called {ORIGINALS!r}, which the report calls the original portraits")
    if job.lpips_net and not job.lpips_trunk:
        raise UsageError("--lpips-net: give its trunk too, with --lpips-trunk FILE")
    device, progress = find_device(job.device), stage("reconstruction")
    lpips = Lpips(job.lpips_trunk, job.lpips_net or "alex", device) if job.lpips_trunk else None
    networks = {name: load_phi(name, file, device) for name, file in job.phi.items()}
    stores = open_stores([job.store, *job.against])
    attacked, store = next(iter(stores.items()))
    decoders = {name: load_decoder_for(store.recognizer, folder, device) for name, folder in job.decoders.items()}
    baseline = choose_baseline(decoders, job.baseline)
    images = unseen_images(store, job.people, job.limit, known_people(stores.values(), decoders.values()))
    size, told = require_comparable(decoders, images)
    acquired = images.templates[~images.missing]
    looks = [decoder.check(acquired, store.folder, store.manifest) for decoder in decoders.values()]
    recognizers = load_recognizers(stores, job.weights, device)
    references = {name: make_reference(recognizers[name], stores[name], images) for name in stores}
    root = store.images(job.images)
    batches = portrait_batches(images.acquired, root, size, _BATCH)
    values = measure(decoders, images, batches, references, lpips, progress, networks)
    result, people = Result(reconstruction_schema(job)), images.acquired_identities
    add_fidelity(result, values, people, baseline, repetitions=job.repetitions, seed=job.seed)
    for name, by in references.items():
        rate = mean_interval(by.missing, images.identities, repetitions=job.repetitions, seed=job.seed)
        result.add("failure_to_acquire", {"recognizer": name}, rate)
    result.people = len(set(people))
    result.facts = {"images": len(images.rows), "people": len(set(images.identities))}
    if len(decoders) == 1:  # its figures stand at the top, too
        result.facts |= result.as_json()["decoders"][next(iter(decoders))]
    result.warnings = [
        *images.warnings(),
        *dict.fromkeys([*told, *(sentence for reference in references.values() for sentence in reference.warnings)]),
        *dict.fromkeys(look.sentence for look in looks if look.sentence),
        *_decoder_warnings(result, decoders, {name: network.describe() for name, network in networks.items()}),
    ]
    examples = draw_examples(decoders, values, images, root, attacked, job.columns)
    result.sections = [
        Section("What the decoders draw", pictures=[_side_by_side(examples, people)]),
        *_figures(result, values, images, baseline),
        *_extremes(examples, values, people, attacked),
        _behind(result, decoders, references),
    ]
    what = lpips.describe() if lpips else None
    result.protocol = _protocol(job, images, references, stores, what, size)
    result.provenance = {
        "stores": [describe_store(opened) for opened in stores.values()],
        "decoders": {name: describe_decoder(decoder) for name, decoder in decoders.items()},
        "recognizers": describe_recognizers(recognizers),
        "lpips": what,
        "phi": {name: network.describe() for name, network in networks.items()},
        "settings": describe_job(job) | {"baseline": baseline},
    }
    return result


def choose_baseline(decoders: Mapping[str, Decoder], name: str | None) -> str | None:
    """The decoder of that name, or the first ridge if it is None. UsageError where there is none of that name."""
    if name is not None and name not in decoders:
        raise UsageError(f"--baseline {name}: no such decoder; there are {', '.join(decoders)}")
    return name or next((label for label, decoder in decoders.items() if decoder.kind == "ridge"), None)


def require_comparable(decoders: Mapping[str, Decoder], images: UnseenImages) -> tuple[int, list[str]]:
    """The side of the pictures, px, and warnings. BadInput where a decoder has seen an image, or sizes differ."""
    told = [told for name, decoder in decoders.items() for told in require_unseen(name, decoder.known, images.judged)]
    sizes = {name: decoder.image_size for name, decoder in decoders.items()}
    if len(set(sizes.values())) != 1:
        listed = ", ".join(f"{name} {size} px" for name, size in sizes.items())
        raise BadInput(f"the decoders draw different sizes ({listed}): compare pictures of one size, in separate runs")
    return next(iter(sizes.values())), told


def measure(
    decoders: Mapping[str, Decoder],
    images: UnseenImages,
    originals: Iterable[np.ndarray],
    references: Mapping[str, Reference],
    lpips: Lpips | None = None,
    progress: Progress = silent,
    networks: Mapping[str, PerceptualNetwork] | None = None,
) -> dict[str, PictureValues]:
    """What every decoder's picture of every acquired image is worth; first, as 'originals', the original itself.

    originals: batches (b, P, P, 3) uint8 of the portraits of `images.acquired`, in that order; memory is that of one
    batch. progress: called with (done, total) images. BadInput for fewer or more portraits than templates.
    """
    acquired = ~images.missing
    templates = images.templates[acquired]
    references_of = {name: (by.templates[acquired], by.missing[acquired]) for name, by in references.items()}
    parts: dict[str, list[PictureValues]] = {ORIGINALS: [], **{name: [] for name in decoders}}
    done = 0
    progress(done, len(templates))
    for batch in originals:
        rows = slice(done, done + len(batch))
        done += len(batch)
        if done > len(templates):
            raise BadInput(f"more than {len(templates)} portraits for as many templates: give one for each")
        for name, values in parts.items():
            pictures = batch if name == ORIGINALS else decoders[name].decode(templates[rows], checked=True)
            scores = _scores(
                pictures, references, {judge: (t[rows], gone[rows]) for judge, (t, gone) in references_of.items()}
            )
            values.append(picture_values(pictures, batch, lpips, scores, networks))
        progress(done, len(templates))
    if done < len(templates):
        raise BadInput(f"{done} portraits for {len(templates)} templates: give one for each")
    return {name: joined(values) for name, values in parts.items()}


def _scores(
    pictures: np.ndarray, references: Mapping[str, Reference], originals: Mapping[str, tuple[np.ndarray, np.ndarray]]
) -> dict[str, np.ndarray]:
    """Each picture's score against the template of its original, -inf where there is none: float32 (n,) a recognizer.

    own: recognizer → its templates of the originals (n, dim), and those missing, bool (n,).
    """
    from facedecode.recognizers.recognizer import DistinctEmbedder

    scores = {}
    for name, judge in references.items():
        templates, missing = originals[name]
        drawn = DistinctEmbedder(judge.recognizer)(pictures)
        scores[name] = np.full(len(pictures), -np.inf, dtype=np.float32)
        scores[name][~missing] = score_pairs(drawn[~missing], templates[~missing], judge.recognizer.spec.score)
    return scores


def _protocol(
    job: ReconstructionJob,
    images: UnseenImages,
    references: Mapping[str, Reference],
    stores: Mapping[str, Store],
    lpips: Mapping[str, str] | None,
    size: int,
) -> list[str]:
    attacked = next(iter(stores))
    judges = "; ".join(
        f"{name}, {SCORES[by.recognizer.spec.score]}"
        + (f" ({name} has none of {int(by.missing.sum()):,} of the images)" if by.missing.any() else "")
        for name, by in references.items()
    )
    trunk = "LPIPS was not measured: the weights of its trunk were not given."
    if lpips:
        trunk = (
            f"LPIPS: the lpips package's version {lpips['version']}, net {lpips['net']}, on torchvision's "
            f"{lpips['trunk']} (its values are verified), pictures of {size} px, in [-1, 1]; lower is better."
        )
    facts = {"lpips": trunk, "networks": " and ".join(job.phi) or None, "judges": judges}
    text = TEXTS["protocol"].replace("{metrics}", "\n\n".join(metric.meaning for metric in PICTURE_METRICS))
    transforms = {store.manifest.transform for store in stores.values()} - {None}
    rest = {
        "images": len(images.rows),
        "people": len(set(images.identities)),
        "who": f"the people of {job.people.name}" if job.people else "all people of the store",
        "missing": int(images.missing.sum()),
        "side": size,
        "transforms": ", ".join(sorted(transforms)) or None,
    }
    fixed = {"attacked": attacked, "originals": ORIGINALS, "level": LEVEL}
    return paragraphs(
        text, repetitions=job.repetitions, seed=job.seed, changes=_changes(stores) or None, **facts, **rest, **fixed
    )


def _changes(stores: Mapping[str, Store]) -> str:
    """What was done to images or templates of a store."""
    changes = []
    for name, store in stores.items():
        if attack := store.manifest.attack:
            changes.append(
                f"The templates of {name} are of images attacked by {attack['method']}; so are the originals."
            )
        if mapping := store.manifest.mapping:
            undone = mapping["undoes"]
            changes.append(f"The templates of {name} were mapped after extraction, by a map that undoes {undone}.")
    return " ".join(changes)


def _decoder_warnings(
    result: Result, decoders: Mapping[str, Decoder], networks: Mapping[str, Mapping[str, Any]]
) -> Iterator[str]:
    for name, decoder in decoders.items():
        for network, made_of in networks.items():  # called as `--phi` called it: with its layers, for one
            if (part := decoder.looked_through(made_of["name"], made_of["weights_sha256"])) is not False:
                how = "was" if part else "may, in an earlier run, have been"
                yield f"{name} {how} trained to be near in {network}'s maps: its φ distance there is no test of it."
        if equal := result.value("psnr", {"decoder": name}).infinite:
            yield f"{name} draws {equal:,} originals without an error: they are left out of its mean PSNR."


def _side_by_side(shown: Examples, people: Sequence[str]) -> Picture:
    labels, rows, captions = ["original", *shown.pictures], [], []
    for start in range(0, len(shown.spread), _ACROSS):
        band = shown.spread[start : start + _ACROSS]
        rows += [
            enlarged(np.stack([source[k] for k in band])) for source in (shown.portraits, *shown.pictures.values())
        ]
        names = [shortened(people[k], rows[-1].shape[2]) for k in band]
        captions += [names, *([] for _ in shown.pictures)]
    return Picture(
        "side-by-side",
        "All decoders side by side",
        png_bytes(picture_grid(rows, labels * (len(rows) // len(labels)), captions)),
        f"People spread evenly over the sorted names, each one's first image: "
        f"{', '.join(people[k] for k in shown.spread)}.",
        f"{len(shown.spread)} people, one a column, in bands of {_ACROSS}; from top to bottom: {', '.join(labels)}.",
    )


def _figures(
    result: Result, values: Mapping[str, PictureValues], images: UnseenImages, baseline: str | None
) -> Iterator[Section]:
    """The tables of means, of each picture, and the spectrum."""

    def table(name: str, title: str, note: str, more: Sequence[str] = ()) -> Table:
        columns = [spec.name for metric in PICTURE_METRICS if metric.table == name for spec in metric.specs()]
        columns = [name for name in columns if not name.endswith("_baseline")]
        return result.table(name, title, ["decoder"], [*columns, *more], note=note)

    note = f"Mean over images, 95 % interval in brackets. The {ORIGINALS} are compared with themselves."
    title = "Likeness to the original, pixel by pixel"
    yield Section("Fidelity", tables=[table("fidelity", title, note), _image_table(values, images)])
    title = "Mean score of a picture against the template of its original"
    note = "Higher is more alike. 'evaluate security' measures how often such scores pass a threshold."
    yield Section("What recognizers take the pictures for", tables=[table("scores", title, note)])
    title = "Gradient energy, and peaks that a grid would leave in the spectrum"
    note = (
        "Gradient energy: mean |∇luma|², luma in [0, 1]. Grid peak: power at that period over the spectrum's own "
        "trend, about 0 dB without a grid."
    )
    sharpness = table("sharpness", title, note, ["grid_peak"])
    spectrum, picture = _spectrum(values, result.labels("period"))
    yield Section("Sharpness and grid patterns", tables=[sharpness, spectrum], pictures=[picture])
    if baseline and len(values) > 2:
        note = (
            "Paired: differences on the same images, with the same replicates. Images with an infinite PSNR in either "
            "are left out of its difference. Times: the ratio of the two means."
        )
        columns = [metric.compared for metric in PICTURE_METRICS if result.rows(metric.compared)]
        differences = result.table("differences", f"Each decoder less {baseline}", ["decoder"], columns, note=note)
        yield Section(f"Against the baseline {baseline}", tables=[differences])


def _image_table(values: Mapping[str, PictureValues], images: UnseenImages) -> Table:
    """One row a picture, for the CSV."""
    keys = next(iter(values.values())).values
    declared = {measured.name: measured for measured in PICTURE_METRICS}
    columns = [Column("path"), Column("identity"), Column("decoder")]
    for name, which in keys:
        columns.append(Column(declared[name].title.format(recognizer=which, network=which), declared[name].unit))
    rows: list[tuple] = []
    for decoder, measured in values.items():
        cells = ([x if np.isfinite(x) else None for x in measured[key].tolist()] for key in keys)
        for row, *numbers in zip(images.acquired, *cells, strict=True):
            rows.append((row["path"], row["identity"], decoder, *numbers))
    note = "A field is empty where the PSNR is infinite, or a recognizer has no template of the original."
    return Table("images", "Every picture", columns, rows, note, shown=False)


def _spectrum(values: Mapping[str, PictureValues], periods: Sequence[int]) -> tuple[Table, Picture]:
    title = "Spectrum of luma along rows and columns"
    spectra = {name: measured.spectra.mean(0) for name, measured in values.items()}
    bins = len(spectra[ORIGINALS])
    columns = [Column("cycles a pixel", "small"), *(Column(f"power, {name}", "small") for name in spectra)]
    frequencies = np.arange(bins) / (2 * (bins - 1))
    rows = np.stack([frequencies, *spectra.values()], axis=1).tolist()
    table = Table("spectrum", title, columns, rows, shown=False)
    data = plots.spectrum_plot(spectra, periods)
    caption = "Mean power over images. Dotted: periods at which doubling a map leaves a grid, if it leaves one."
    alt = f"Power against frequency, a curve each for {', '.join(spectra)}."
    return table, Picture("spectrum", title, data, caption, alt, "svg")


def _extremes(
    shown: Examples, values: Mapping[str, PictureValues], people: Sequence[str], attacked: str
) -> Iterator[Section]:
    """The best, median and worst pictures of each decoder, by PSNR and by score."""
    measured: dict[str, tuple[str | tuple[str, str], str, Unit]] = {
        "psnr": ("psnr", "PSNR", "db"),
        "score": (("scores", attacked), f"score ({attacked})", "number"),
    }
    pictures = []
    for number, (name, measures) in enumerate(shown.extremes.items(), 1):
        for measure, places in measures.items():
            key, title, unit = measured[measure]
            row = values[name][key]
            chosen = [(place, k) for place in PLACES for k in places[place]]
            rows = [
                enlarged(np.stack([source[k] for _, k in chosen])) for source in (shown.portraits, shown.pictures[name])
            ]
            side, each = rows[0].shape[2], len(places[PLACES[0]])
            captions = [
                [shortened(people[k], side) for _, k in chosen],
                [shortened(f"{place} {show_number(float(row[k]), unit)}", side) for place, k in chosen],
            ]
            caption = (
                f"From the left: the {each} best, the {each} about the median and the {each} worst of "
                f"{int(np.isfinite(row).sum()):,} images by {title}; originals above, what {name} draws below."
            )
            alt = f"Two rows of {len(chosen)} pictures: originals, and what {name} draws of their templates."
            data = png_bytes(picture_grid(rows, ["original", name], captions))
            pictures.append(Picture(f"decoder-{number}-{measure}", f"{name}, by {title}", data, caption, alt))
    if pictures:
        yield Section("Best, median and worst", pictures=pictures)


def _behind(result: Result, decoders: Mapping[str, Decoder], references: Mapping[str, Reference]) -> Section:
    columns = [Column("decoder"), Column("kind"), *(Column(title, "count") for title in ("px", "people", "images"))]
    rows: list[tuple] = []
    for name, decoder in decoders.items():
        training = decoder.provenance.training
        rows.append((name, decoder.kind, decoder.image_size, len(training.people or ()), training.images))
    tables = [Table("decoders", "Decoders, and what they were trained on", columns, rows)]
    columns = [Column("recognizer"), Column("role"), Column("score"), Column("images without a template", "percent")]
    roles = ["attacked: its templates are decoded", *["further judge"] * (len(references) - 1)]
    rows = [
        (name, role, SCORES[by.recognizer.spec.score], result.value("failure_to_acquire", {"recognizer": name}))
        for role, (name, by) in zip(roles, references.items(), strict=True)
    ]
    note = (
        "An image without a template (failure to acquire, ISO/IEC 19795-1) of the attacked recognizer has no picture, "
        "and is in no other figure; one without a template of another recognizer has no score by that one."
    )
    return Section("Behind the figures", tables=[*tables, Table("recognizers", "Recognizers", columns, rows, note)])
