"""`facedecode attack`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from facedecode.cli.app import Device, DryRun, Model, Overwrite, Spec, Weights, command, start_torch
from facedecode.cli.checks import Input
from facedecode.cli.commands import summary
from facedecode.cli.console import Console
from facedecode.errors import FailedItems, UsageError


def attack(
    console: Console,
    images: Annotated[
        list[Path],
        typer.Argument(help="Images, or folders of them (a subfolder is an identity); - reads a list from stdin."),
        Input("images"),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder: pictures, their store, a table, a figure.")],
    method: Annotated[
        Literal["tfgsm", "itfgsm", "tcw", "itcw", "ddn"],
        typer.Option("--method", help="tfgsm, itfgsm, tcw, itcw or ddn."),
    ] = "itfgsm",
    target: Annotated[
        str | None, typer.Option("--target", help="Whom to be taken for: an image, or the name of a class.")
    ] = None,
    away: Annotated[
        bool, typer.Option("--away", help="No target: away from each image's own template (dodging).")
    ] = False,
    objective: Annotated[
        Literal["class", "embedding"] | None,
        typer.Option("--objective", help="class (softmax) or embedding (template); class if there is a classifier."),
    ] = None,
    classifier: Annotated[
        Path | None,
        typer.Option("--classifier", help="Made by 'train --kind classifier': attacked, or looked at."),
        Input("classifier"),
    ] = None,
    threshold: Annotated[
        float | None, typer.Option("--threshold", help="Score at which an embedding attack has succeeded.")
    ] = None,
    fmr: Annotated[
        float | None, typer.Option("--fmr", help="Instead: the score of this false match rate; --thresholds-from.")
    ] = None,
    thresholds_from: Annotated[
        Path | None,
        typer.Option("--thresholds-from", help="The store whose non-mated pairs set the score of --fmr."),
        Input("store"),
    ] = None,
    epsilon: Annotated[
        str | None, typer.Option("--epsilon", help="Largest change of a pixel in [0, 1], as 0.03 or 8/255.")
    ] = None,
    steps: Annotated[int | None, typer.Option("--steps", help="Gradients of one run.")] = None,
    alpha: Annotated[str | None, typer.Option("--alpha", help="Change of a pixel in one step, as 1/255.")] = None,
    momentum: Annotated[float | None, typer.Option("--momentum", help="Share of earlier gradients kept.")] = None,
    c: Annotated[float | None, typer.Option("--c", help="Weight of the margin against the squared L2.")] = None,
    kappa: Annotated[float | None, typer.Option("--kappa", help="Margin to reach, in logits or scores.")] = None,
    learning_rate: Annotated[float | None, typer.Option("--learning-rate", help="Adam's, in tanh space.")] = None,
    search_steps: Annotated[int | None, typer.Option("--search-steps", help="Values of c tried for each.")] = None,
    max_gradients: Annotated[int | None, typer.Option("--max-gradients", help="Of one image in all runs.")] = None,
    on_failure: Annotated[
        Literal["original", "keep"],
        typer.Option("--on-failure", help="What to save of a face that resisted: original, or keep (the attempt)."),
    ] = "original",
    decoder: Annotated[
        str | None,
        typer.Option("--decoder", help="Draws the figure's last row; else the recognizer's shipped one."),
        Input("decoder"),
    ] = None,
    model: Model = "dlib-resnet",
    weights: Weights = None,
    spec: Spec = None,
    device: Device = "auto",
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Faces that go through together.")] = 16,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 5 if an image gave no face.")] = False,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
) -> tuple[dict, dict]:
    """What is attacked is the aligned crop that the recognizer sees. The folder gets the attacked crops, the store of
    their templates, a table of what the attack did (attacks.csv) and a figure (attacks.png). Success is judged on the
    saved pictures. A run that was interrupted is resumed by the same command.
    """
    from facedecode.attacks.methods import Budget, find_method

    budget = Budget(
        epsilon=_number(epsilon, "--epsilon"),
        steps=steps,
        alpha=_number(alpha, "--alpha"),
        momentum=momentum,
        c=c,
        kappa=kappa,
        learning_rate=learning_rate,
        search_steps=search_steps,
        max_gradients=max_gradients,
    )
    find_method(method).budget(budget)

    from facedecode.attacks.base import victim_of
    from facedecode.attacks.output import summary
    from facedecode.attacks.run import AttackJob, attack_images
    from facedecode.attacks.target import choose_objective, choose_threshold, find_aim, refuse_target_alone
    from facedecode.classifiers.classifier import load_classifier
    from facedecode.cli.commands.extract import listed
    from facedecode.decoders import optional_decoder
    from facedecode.extraction.cropping import FaceCropper
    from facedecode.pictures.faces import FaceDetector
    from facedecode.pictures.images import find_images
    from facedecode.recognizers import load_recognizer

    objective = choose_objective(objective, classifier, target, away)
    if objective == "class" and (threshold, fmr, thresholds_from) != (None, None, None):
        raise UsageError("--threshold, --fmr and --thresholds-from are of templates: leave them out for a class")
    images = listed(images)
    refuse_target_alone(target, find_images(images)[1])
    device = start_torch(device)
    recognizer = load_recognizer(model, weights, device, contract=spec)
    victim_of(recognizer)
    head = load_classifier(classifier) if classifier else None
    if head:
        head.require_recognizer(recognizer.describe())
    score = choose_threshold(recognizer, threshold, fmr, thresholds_from) if objective == "embedding" else None
    cropper = FaceCropper(recognizer, FaceDetector(device))
    aim = find_aim(objective, target, cropper, classifier=head, threshold=score)
    if score and threshold is None:
        console.say(f"success is judged at the score {score.said}")
    without = "the figure is without reconstructions"
    drawer = optional_decoder(recognizer.describe(), decoder, device, without, console.say)
    job = AttackJob(
        inputs=images,
        output=output,
        method=method,
        budget=budget,
        on_failure=on_failure,
        batch_size=batch_size,
        overwrite=overwrite,
    )
    if dry_run:
        counts = {"images": len(find_images(images)[1])}
        console.say(f"{counts['images']} images would be attacked by {method}, {aim.said}, and go to {output}")
        return counts, {}
    with console.progress() as stage:
        result = attack_images(job, cropper, aim, drawer, stage("attack"))
    metrics = {"failed": len(result.failures), **summary(result.rows)}
    _say(console, output, method, aim.said, metrics, result.resumed)
    if strict and result.failures:
        first = result.failures[0]
        raise FailedItems(
            f"{len(result.failures)} images gave no face (the first: {first['path']}: {first['reason']}); all are "
            f"listed in {output / 'emb' / 'failures.jsonl'}"
        )
    places = {"pictures": "pictures", "store": "emb", "table": "attacks.csv", "figure": "attacks.png"}
    return metrics, {name: str(output / place) for name, place in places.items()}


def _number(given: str | None, option: str) -> float | None:
    """A number, or a fraction such as 8/255; anything else is a `UsageError`."""
    if given is None:
        return None
    above, slash, below = given.partition("/")
    try:
        return float(above) / float(below) if slash else float(above)
    except (ValueError, ZeroDivisionError):
        raise UsageError(f"{option} {given}: give a number, or a fraction such as 8/255") from None


def _say(console: Console, output: Path, method: str, said: str, metrics: dict, resumed: int) -> None:
    attempted, rate = metrics["attempted"], metrics["success_saved"]
    others = [f"{metrics['already']} were there already"] if metrics["already"] else []
    others += [f"{metrics['failed']} without a face"] if metrics["failed"] else []
    others += [f"{resumed} inputs were done before"] if resumed else []
    line = f"{output}: {method}, {said}: {attempted} faces attacked"
    if attempted:
        span = "" if rate["low"] is None else f" ({rate['low']:.0%} to {rate['high']:.0%})"
        memory = metrics["success"]["value"]
        unsaved = "" if memory <= rate["value"] else f" (before rounding to 8 bits {memory:.1%}; --kappa sets a margin)"
        line += f", success {rate['value']:.1%}{span}{unsaved}, {metrics['gradients']['value']:.1f} gradients each"
    if metrics["l2"]["n"]:
        line += f", mean L2 {metrics['l2']['value']:.3g}, L∞ {metrics['linf']['value'] * 255:.1f}/255"
    console.say("; ".join([line, *others]))
    console.say(f"look at {output / 'attacks.png'}")


app = command("attack", attack, summary("attack"))
