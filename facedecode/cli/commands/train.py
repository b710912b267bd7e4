"""`facedecode train`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import typer

from facedecode.cli.app import (
    BareModel,
    Device,
    Images,
    Overwrite,
    Precision,
    Seed,
    Spec,
    Weights,
    choose_device,
    choose_precision,
    command,
)
from facedecode.cli.commands.classifier import import_classifier, train_classifier
from facedecode.cli.commands.disentangler import train_disentangler
from facedecode.cli.commands.embeddings import store_of_bare
from facedecode.cli.commands.evaluate.common import named
from facedecode.cli.commands.latent import train_latent_decoder
from facedecode.cli.commands.recognizer import train_recognizer
from facedecode.cli.console import Console
from facedecode.cli.given import is_given, only_given, refuse_others
from facedecode.errors import UsageError

KINDS = ("decoder", "recognizer", "classifier", "disentangler")
_OF_EVERY_KIND = {"store", "output", "kind", "people", "exclude", "overwrite", "quiet", "json", "debug"}
_OF_BARE = {"model", "weights", "spec", "images", "device"}
_OF_CLASSIFIERS = {"head", "min_images", "l2", "scale", "from_head", "names"}
_ONLY_RECOGNIZERS = {"backbone", "margin"}
_OF_RECOGNIZERS = _ONLY_RECOGNIZERS | {
    *("head", "min_images", "scale", "validation", "image_size", "epochs", "batch_size", "learning_rate", "mirror"),
    *("jitter", "start", "images", "device", "precision", "seed"),
}
_OF_DISENTANGLERS = {"labels", "label"}
# What only a loop of steps uses: closed forms have none.
_OF_NETWORKS = {
    *("epochs", "batch_size", "learning_rate", "perceptual_after", "phi", "identity_target", "gain", "mirror"),
    *("pixel_weight", "gradient_weight", "local_pixel_weight", "local_gradient_weight", "absolute_weight"),
    *("identity_weight", "perceptual_weight", "local_perceptual_weight", "jitter", "start", "precision", "width"),
}
_ONLY_LATENT = {"generator", "generator_range", "latent_size", "samples"}
_OF_LATENT = _ONLY_LATENT | {"architecture", "image_size", "weights", "device", "seed"}
# What chooses and fits weights; a head from elsewhere has its own.
_OF_FITS = {"people", "exclude", "min_images", "l2"}


def register(app: typer.Typer) -> None:
    command("train", several=True)(train)


def train(
    console: Console,
    context: typer.Context,
    store: Annotated[
        Path,
        typer.Argument(
            help="A store made by 'extract'; its images are found through it. Or a .npy file, with --images: a text "
            "file of its rows' images."
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The decoder's folder, or the file of another kind.")],
    kind: Annotated[
        str,
        typer.Option(
            "--kind",
            help="decoder, recognizer (a network that makes templates), classifier (people, by a softmax on their "
            "templates), or disentangler (templates into identity and an attribute).",
        ),
    ] = "decoder",
    architecture: Annotated[
        str,
        typer.Option(
            "--architecture",
            help="A network: dfd, or its rival nbnet; a closed form: mean-face, nearest, ridge; or latent: through a "
            "generator of yours.",
        ),
    ] = "dfd",
    people: Annotated[
        Path | None, typer.Option("--people", help="Train on these people only: a name a line, or LFW's format.")
    ] = None,
    exclude: Annotated[list[str] | None, typer.Option("--exclude", help="Leave out a person (repeatable).")] = None,
    validation: Annotated[float, typer.Option("--validation", help="Share of the people held out.")] = 0.1,
    image_size: Annotated[
        int, typer.Option("--image-size", help="64, 128 or 224 pixels. A recognizer's crops: 64.")
    ] = 128,
    width: Annotated[
        float, typer.Option("--width", help="Share of the network's channels; 0.5 is a quarter of the arithmetic.")
    ] = 1.0,
    epochs: Annotated[float, typer.Option("--epochs", help="Passes over the training people. A recognizer: 30.")] = 5,
    batch_size: Annotated[int, typer.Option("--batch-size", min=2, help="A recognizer: 64.")] = 32,
    accumulate: Annotated[
        int,
        typer.Option(
            "--accumulate",
            min=1,
            help="Pieces of a batch that go through the loss in turn: less memory, same result.",
        ),
    ] = 1,
    learning_rate: Annotated[
        float, typer.Option("--learning-rate", help="Peak of the one-cycle schedule. A recognizer: 0.002.")
    ] = 1.5e-3,
    pixel_weight: Annotated[
        float | None, typer.Option("--pixel-weight", help="Eq. 3, whole portrait (dfd 4, nbnet 0). 0: off.")
    ] = None,
    gradient_weight: Annotated[
        float | None, typer.Option("--gradient-weight", help="Eq. 4, whole portrait (dfd 300, nbnet 0).")
    ] = None,
    local_pixel_weight: Annotated[
        float | None, typer.Option("--local-pixel-weight", help="Eq. 3, central region (dfd 4, nbnet 0).")
    ] = None,
    local_gradient_weight: Annotated[
        float | None, typer.Option("--local-gradient-weight", help="Eq. 4, central region (dfd 300, nbnet 0).")
    ] = None,
    absolute_weight: Annotated[
        float | None,
        typer.Option("--absolute-weight", help="Mean absolute difference, whole portrait (dfd 0, nbnet 1)."),
    ] = None,
    identity_weight: Annotated[
        float | None,
        typer.Option(
            "--identity-weight", help="Template distance (not in the paper; white-box; dfd 0.5, nbnet 0). 0: off."
        ),
    ] = None,
    perceptual_weight: Annotated[
        float | None,
        typer.Option(
            "--perceptual-weight", help="Eq. 5, whole view of the perceptual network (dfd 0.6, nbnet 1). 0: off."
        ),
    ] = None,
    local_perceptual_weight: Annotated[
        float | None, typer.Option("--local-perceptual-weight", help="Eq. 5, central region (0).")
    ] = None,
    perceptual_after: Annotated[
        float | None,
        typer.Option(
            "--perceptual-after",
            help="Share of the steps for the terms on pixels alone; then those that look through networks count "
            "alone (dfd: all count in every step; nbnet 0.5).",
        ),
    ] = None,
    phi: Annotated[
        list[str] | None,
        typer.Option(
            "--phi",
            help="Perceptual network, NAME, NAME=FILE or NAME:LAYER+LAYER=FILE: squeezenet, a recognizer (repeatable).",
        ),
    ] = None,
    identity_target: Annotated[
        str,
        typer.Option("--identity-target", help="Aim at the 'template', or at what is expected of its 'person'."),
    ] = "person",
    gain: Annotated[
        float, typer.Option("--gain", help="Scale of templates about their mean before the finished decoder draws.")
    ] = 1.0,
    mirror: Annotated[
        bool,
        typer.Option(
            "--mirror/--no-mirror", help="Train on each image turned over, too; a decoder takes its recognizer."
        ),
    ] = True,
    jitter: Annotated[
        float | None, typer.Option("--jitter", help="Random crops before networks look (dfd 1, nbnet 0); 0: off.")
    ] = None,
    start: Annotated[
        Path | None,
        typer.Option("--start", help="Go on from this decoder, or recognizer, instead of a random network."),
    ] = None,
    model: BareModel = None,
    weights: Weights = None,
    spec: Spec = None,
    images: Images = None,
    device: Device = "auto",
    precision: Precision = "fp32",
    seed: Seed = 0,
    half: Annotated[bool, typer.Option("--half", help="Save float16 tensors, at half the size.")] = False,
    generator: Annotated[
        Path | None,
        typer.Option("--generator", help="Of latent: an exported program, latents → pictures (n, 3, S, S)."),
    ] = None,
    generator_range: Annotated[
        str | None, typer.Option("--generator-range", help="Values of its black and white: -1,1 or 0,1.")
    ] = None,
    latent_size: Annotated[
        int | None, typer.Option("--latent-size", min=1, help="Numbers that it takes, if it is TorchScript.")
    ] = None,
    samples: Annotated[int, typer.Option("--samples", min=1, help="Of latent: pictures to generate.")] = 10_000,
    backbone: Annotated[
        str, typer.Option("--backbone", help="Of a recognizer: small (128 numbers), or resnet50 (2048).")
    ] = "small",
    head: Annotated[
        str,
        typer.Option(
            "--head",
            help="Of a classifier: linear, or cosine (normalized weights and templates). Of a recognizer: arcface (its "
            "default), or softmax.",
        ),
    ] = "linear",
    margin: Annotated[
        float, typer.Option("--margin", help="Of an arcface recognizer: radians added to the angle to one's own class.")
    ] = 0.5,
    min_images: Annotated[
        int,
        typer.Option(
            "--min-images", min=2, help="Of a classifier: images that a person needs to be a class. A recognizer: 5."
        ),
    ] = 10,
    l2: Annotated[
        float | None, typer.Option("--l2", help="Of a linear classifier: penalty on its weights; 0.001 if absent.")
    ] = None,
    scale: Annotated[
        float | None,
        typer.Option("--scale", help="Of cosine and arcface heads: what multiplies cosines; 64 if absent."),
    ] = None,
    from_head: Annotated[
        Path | None,
        typer.Option(
            "--from-head", help="Of a classifier: take this softmax layer, safetensors with weight (and bias)."
        ),
    ] = None,
    names: Annotated[
        Path | None, typer.Option("--names", help="The classes of --from-head, one a line, in the order of its rows.")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option("--labels", help="Of a disentangler: CSV file with a column 'path', and --label.")
    ] = None,
    label: Annotated[str | None, typer.Option("--label", help="Column of --labels, of two classes: gender.")] = None,
    overwrite: Overwrite = False,
) -> tuple[dict, dict]:
    """A store → a decoder that draws faces from its templates, a recognizer, a classifier, or a disentangler.

    While a decoder trains, the output folder shows the validation curve (curve.csv) and samples. A run that was
    interrupted is resumed by the same command; under torchrun, several processes train together, each on a part of
    every batch. With --kind recognizer, a network is trained anew to tell the people of the store's images apart; its
    folder is then a --model. With --kind classifier, a softmax over the people who have images enough is fitted to
    their templates, and judged on a fifth of each person's images. With --kind disentangler, 'transform --disentangle'
    can then part templates into identity and the attribute of --labels; it is judged on a tenth of the people.
    """
    if kind not in KINDS:
        raise UsageError(f"--kind {kind}: use {', '.join(KINDS[:-1])} or {KINDS[-1]}")
    if console.ranks.count > 1 and (kind != "decoder" or architecture == "latent" or store.suffix == ".npy"):
        fitted = f"--kind {kind}" if kind != "decoder" else "--architecture latent"
        what = f"{store} is made a store" if store.suffix == ".npy" else f"{fitted} is fitted"
        raise UsageError(f"{what} in one process; start it without torchrun")
    every = _OF_EVERY_KIND
    if store.suffix == ".npy":
        every = every | _OF_BARE
    elif model or spec:
        raise UsageError("--model and --spec are said of a bare .npy file; a store's manifest has its recognizer")

    def read() -> tuple[Path, Path | None, Path | None]:
        """Store, recognizer's file, folder of images. Called when nothing is left to refuse: a bare file takes long."""
        if store.suffix != ".npy":
            return store, weights, images
        return *store_of_bare(console, store, images, output, model, weights, spec, device, overwrite), None

    if kind == "classifier":
        allowed = every | _OF_CLASSIFIERS
        if from_head:
            refuse_others(context, allowed - _OF_FITS, "go with --from-head, whose weights are trained already")
            return import_classifier(
                console, read()[0], output, weights=from_head, names=names, head=head, scale=scale, overwrite=overwrite
            )
        refuse_others(context, allowed - {"names"}, "go with --kind classifier without --from-head")
        return train_classifier(
            console,
            read()[0],
            output,
            people=people,
            exclude=tuple(exclude or ()),
            min_images=min_images,
            head=head,
            l2=l2,
            scale=scale,
            overwrite=overwrite,
        )
    if kind == "disentangler":
        refuse_others(context, every | _OF_DISENTANGLERS, "go with --kind disentangler")
        return train_disentangler(
            console,
            read()[0],
            output,
            labels=labels,
            label=label,
            people=people,
            exclude=tuple(exclude or ()),
            overwrite=overwrite,
        )
    if kind == "recognizer":
        allowed = every | _OF_RECOGNIZERS
        refuse_others(context, allowed, "go with --kind recognizer")
        if head == "softmax":
            refuse_others(context, allowed - {"scale", "margin"}, "go with a softmax head")

        from facedecode.recognizer_heads import HeadSettings
        from facedecode.recognizer_training import RecognizerSettings

        def chosen(**defaults: Any) -> dict[str, Any]:
            """What was given, and of the rest a recognizer's defaults."""
            return {n: context.params[n] if is_given(context, n) else value for n, value in defaults.items()}

        settings = RecognizerSettings(
            backbone=backbone,
            mirror=mirror,
            seed=seed,
            precision=choose_precision(precision),
            head=HeadSettings(chosen(head="arcface")["head"], **chosen(scale=64.0), margin=margin),
            **chosen(image_size=64, epochs=30.0, batch_size=64, learning_rate=2e-3, jitter=1.0),
        )
        settings.check()
        device = choose_device(device)
        store, _, images = read()
        return train_recognizer(
            console,
            store,
            output,
            people=people,
            exclude=tuple(exclude or ()),
            validation=validation,
            images=images,
            start=start,
            device=device,
            overwrite=overwrite,
            settings=settings,
            **chosen(min_images=5),
        )
    others = _OF_CLASSIFIERS | _OF_DISENTANGLERS | _ONLY_RECOGNIZERS
    refuse_others(context, set(context.params) - others, "go with --kind decoder")

    if architecture == "latent":
        refuse_others(context, (every - {"exclude"}) | _OF_LATENT, "go with --architecture latent")
        store, weights, _ = read()
        return train_latent_decoder(
            console,
            store,
            output,
            generator=generator,
            generator_range=generator_range,
            latent_size=latent_size,
            samples=samples,
            people=people,
            image_size=image_size,
            weights=weights,
            device=choose_device(device),
            seed=seed,
            overwrite=overwrite,
        )

    from facedecode.decoder_training import DecoderJob, train_store
    from facedecode.decoders.kinds import CLOSED_FORMS, NETWORKS
    from facedecode.decoders.network import DeepFaceDecoder
    from facedecode.decoders.sizes import usual_widths
    from facedecode.training import DEFAULTS

    others = _ONLY_LATENT | (_OF_NETWORKS | {"validation", "seed"} if architecture in CLOSED_FORMS else set())
    refuse_others(context, set(context.params) - others, f"go with --architecture {architecture}")
    networks = named(phi or [], "--phi")
    default = DEFAULTS.get(architecture, DEFAULTS["dfd"])
    settings = dataclasses.replace(
        default,
        image_size=image_size,
        widths=None if width == 1 else usual_widths(NETWORKS.get(architecture, DeepFaceDecoder), image_size, width),
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        gain=gain,
        phi=tuple(networks),
        identity_target=identity_target,
        mirror=mirror,
        seed=seed,
        precision=choose_precision(precision),
        **only_given(jitter=jitter, perceptual_after=perceptual_after),
        weights=dataclasses.replace(
            default.weights,
            **only_given(
                pixel=pixel_weight,
                gradient=gradient_weight,
                local_pixel=local_pixel_weight,
                local_gradient=local_gradient_weight,
                perceptual=perceptual_weight,
                local_perceptual=local_perceptual_weight,
                identity=identity_weight,
                absolute=absolute_weight,
            ),
        ),
    )
    if start:
        refuse_others(context, set(context.params) - {"width"}, "go with --start, whose network has its channels")
    weighs = settings.weights
    unused = set() if weighs.identity else {"identity_target"}
    unused |= set() if weighs.perceptual or weighs.local_perceptual else {"phi"}
    unused |= set() if any(dataclasses.asdict(weighs.of_networks()).values()) else {"jitter"}
    refuse_others(context, set(context.params) - unused, "go with a term whose weight is 0")
    if architecture in NETWORKS:
        settings.check(architecture)
    device = choose_device(device, console.ranks)
    store, weights, images = read()
    job = DecoderJob(
        store=store,
        output=output,
        architecture=architecture,
        people=people,
        exclude=tuple(exclude or ()),
        validation=validation,
        weights=weights,
        phi_weights={name: Path(file) for name, file in networks.items() if file != name},
        images=images,
        half=half,
        start=start,
        accumulate=accumulate,
        overwrite=overwrite,
        settings=settings,
    )
    with console.progress() as stage:
        decoder = train_store(job, device, stage("portraits"), stage("train"), console.ranks)
    if decoder is None:
        return {}, {}
    figures = decoder.provenance.training
    console.say(f"{output}: {decoder.kind} decoder, {figures['images']} images of {len(figures['people'])} people")
    last = (figures.get("curve") or [{}])[-1]
    return {k: v for k, v in last.items() if k != "step"}, {"decoder": str(output)}
