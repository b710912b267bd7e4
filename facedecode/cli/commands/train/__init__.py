"""`facedecode train`: one command, and a module for each thing that it makes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from facedecode.cli.app import BareModel, Device, Images, Overwrite, Spec, Weights, choose_device, command
from facedecode.cli.commands import summary
from facedecode.cli.commands.embeddings import describe_recognizer, recognizer_file, store_of_bare
from facedecode.cli.commands.train import classifier, decoder, disentangler, latent, recognizer
from facedecode.cli.commands.train.options import TrainingSource
from facedecode.cli.console import Console
from facedecode.cli.variants import Variant, is_given, refuse_others, signature_of_all
from facedecode.errors import UsageError

_NETWORK = Variant(decoder.train_network, "dfd and nbnet")
_CLOSED_FORM = Variant(decoder.fit_closed_form, "mean-face, nearest and ridge")
_LATENT = Variant(latent.train_latent_decoder, "latent")
_RECOGNIZER = Variant(recognizer.train_recognizer, "recognizers")
_CLASSIFIER = Variant(classifier.train_classifier, "classifiers")
_HEAD = Variant(classifier.import_classifier, "classifiers")
_DISENTANGLER = Variant(disentangler.train_disentangler, "disentanglers")
WAYS = (_NETWORK, _CLOSED_FORM, _LATENT, _CLASSIFIER, _HEAD, _RECOGNIZER, _DISENTANGLER)
KINDS = ("decoder", "recognizer", "classifier", "disentangler")
_OF_ALL = {"store", "output", "kind", "overwrite", "quiet", "json", "debug"}
_OF_DECODERS = {"architecture"}
_OF_BARE = {"model", "weights", "spec", "images", "device"}


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
    model: BareModel = None,
    weights: Weights = None,
    spec: Spec = None,
    images: Images = None,
    device: Device = "auto",
    overwrite: Overwrite = False,
    **options: Any,
) -> tuple[dict, dict]:
    """While a decoder trains, the output folder shows the validation curve (curve.csv) and samples. A run that was
    interrupted is resumed by the same command; under torchrun, several processes train together, each on a part of
    every batch. With --kind recognizer, a network is trained anew to tell the people of the store's images apart; its
    folder is then a --model. With --kind classifier, a softmax over the people who have images enough is fitted to
    their templates, and judged on a fifth of each person's images. With --kind disentangler, 'transform --disentangle'
    can then part templates into identity and the attribute of --labels; it is judged on a tenth of the people.
    """
    variant, said = _chosen(kind, options["architecture"], from_head=options["from_head"] is not None)
    bare = store.suffix == ".npy"
    if console.ranks.count > 1 and (bare or variant is not _NETWORK):
        what = f"{store} is made a store" if bare else f"{said} is fitted"
        raise UsageError(f"{what} in one process; start it without torchrun")
    if not bare and (model or spec):
        raise UsageError("--model and --spec are said of a bare .npy file; a store's manifest has its recognizer")
    allowed = {*_OF_ALL, *variant.options, *(_OF_BARE if bare else ()), *(_OF_DECODERS if kind == "decoder" else ())}
    refuse_others(context, allowed, f"go with {said}")
    if bare and options["dry_run"]:
        raise UsageError(f"--dry-run looks at a store; 'facedecode import' makes one of {store}")
    given = {name: context.params[name] for name in variant.options if is_given(context, name)}
    if bare:
        given.pop("images", None)
        if "weights" in variant.options:
            given["weights"] = recognizer_file(model, weights)

    def make() -> Path:
        return store_of_bare(console, store, images, output, model, weights, spec, device, overwrite)

    def describe() -> dict:
        return describe_recognizer(model, weights, spec, choose_device(device))

    return variant.run(
        console, TrainingSource(store, make, describe) if bare else TrainingSource(store), output, **given
    )


def _chosen(kind: str, architecture: str, from_head: bool) -> tuple[Variant, str]:
    """What to do, and the options that say so."""
    if kind == "decoder":
        from facedecode.decoders.kinds import find_kind

        variant = {"gradients": _NETWORK, "closed form": _CLOSED_FORM, "generator": _LATENT}[
            find_kind(architecture).fitting
        ]
        return variant, f"--architecture {architecture} (--kind decoder)"
    if kind == "recognizer":
        return _RECOGNIZER, "--kind recognizer"
    if kind == "classifier":
        return (_HEAD, "--from-head") if from_head else (_CLASSIFIER, "--kind classifier without --from-head")
    if kind == "disentangler":
        return _DISENTANGLER, "--kind disentangler"
    raise UsageError(f"--kind {kind}: use {', '.join(KINDS[:-1])} or {KINDS[-1]}")


train.__signature__ = signature_of_all(train, WAYS)
app = command("train", train, summary("train"), several=True)
