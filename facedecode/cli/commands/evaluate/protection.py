"""`facedecode evaluate protection`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from facedecode.cli.app import Device, Images, Overwrite, Seed, choose_device, command
from facedecode.cli.checks import Input
from facedecode.cli.commands.evaluate import summary
from facedecode.cli.commands.evaluate.common import (
    Against,
    FailIf,
    JudgeWeights,
    Output,
    People,
    Repetitions,
    finish,
    parse_gates,
    refuse_output,
)
from facedecode.cli.console import Console
from facedecode.errors import UsageError
from facedecode.options import named

_WORDS = ("linkability", "maximal_linkability", "eer", "tar", "type1", "type2")


def protection(
    console: Console,
    stores: Annotated[
        list[Path],
        typer.Argument(help="The store of unprotected templates; then, without --scheme, two or more protected ones."),
        Input("store"),
    ],
    scheme: Annotated[
        Literal["rotation", "biohash"] | None,
        typer.Option("--scheme", help="Protect here, with keys from the seed: rotation, biohash."),
    ] = None,
    keys: Annotated[int | None, typer.Option("--keys", help="Number of keys of --scheme; 5 if absent.")] = None,
    bits: Annotated[
        int | None, typer.Option("--bits", help="Of a biohash; as many as a template has numbers if absent.")
    ] = None,
    center: Annotated[
        bool | None,
        typer.Option("--center/--no-center", help="Take the training people's mean off before a biohash, or do not."),
    ] = None,
    people: People = None,
    train_people: Annotated[
        Path | None,
        typer.Option("--train-people", help="Whom an attacker trains on: a name a line, or LFW's format."),
        Input("file"),
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option("--exclude", help="Less this person of --train-people (repeatable).")
    ] = None,
    fmr: Annotated[
        list[float] | None, typer.Option("--fmr", help="False match rates (repeatable); 0.01 and 0.001 if absent.")
    ] = None,
    attacker: Annotated[
        Literal["ridge", "nearest"] | None,
        typer.Option("--attacker", help="What is trained on protected templates: ridge, nearest; ridge if absent."),
    ] = None,
    image_size: Annotated[
        int | None, typer.Option("--image-size", min=16, help="Side of its pictures, pixels; 128 if absent.")
    ] = None,
    against: Against = None,
    weights: JudgeWeights = None,
    images: Images = None,
    device: Device = "auto",
    repetitions: Repetitions = 1000,
    seed: Seed = 0,
    output: Output = None,
    overwrite: Overwrite = False,
    fail_if: FailIf = None,
) -> tuple[dict, dict]:
    """Gates: linkability and maximal_linkability (the highest of all scores and images), eer and tar@far=R (one key for
    all), type1@fmr=R and type2@fmr=R (the highest, key known or not, before every judge). One of them: eer[S] and
    tar[S]@far=R (S: unprotected, one-key, own-keys), type1[A,J]@fmr=R (attacker A: known, unknown, unprotected,
    mean-face; judge J: recognizer, system, or another's name), linkability[K,I] (score K: own, length; I:
    different-images, same-image).
    """
    gates = parse_gates(fail_if, _WORDS)
    refuse_output(output, overwrite)
    from facedecode.evaluation.cohort import load_recognizers, make_judge, open_stores
    from facedecode.evaluation.protection.gates import gate_figures, require_figures
    from facedecode.evaluation.protection.measure import FMRS, Settings, evaluate_protection
    from facedecode.evaluation.protection.protected import SubjectSplit, derived_study, stored_study
    from facedecode.evaluation.protection.report import protection_report
    from facedecode.report.gates import rates_of
    from facedecode.store import Store

    needing = {"--against": against, "--weights": weights, "--images": images}
    needing |= {"--attacker": attacker, "--image-size": image_size}
    if not train_people and (given := [option for option, value in needing.items() if value not in (None, [])]):
        raise UsageError(f"{given[0]} is for an attacker's pictures, and there is no attacker: give --train-people")
    first, *protected = (Store.open(folder) for folder in stores)
    groups = SubjectSplit(people, train_people, tuple(exclude or ()))
    if scheme is None:
        if keys is not None or bits is not None or center is not None:
            raise UsageError("--keys, --bits, --center and --no-center go with --scheme; stores have theirs")
        study = stored_study(first, protected, groups)
    elif protected:
        raise UsageError("give --scheme and one store, or protected stores and no --scheme")
    else:
        study = derived_study(
            first, groups, scheme, keys=5 if keys is None else keys, bits=bits, center=center, seed=seed
        )
    settings = Settings(
        fmrs=sorted({*(fmr or FMRS), *rates_of(gates, "far", "fmr")}, reverse=True),
        attacker=attacker or "ridge",
        image_size=image_size or 128,
        images=images,
        repetitions=repetitions,
        seed=seed,
    )
    judging = open_stores([stores[0], *(against or [])]) if train_people else {}
    further = {name: store for name, store in judging.items() if name != first.recognizer.name}
    require_figures(gates, gate_figures(study, settings.fmrs, further))
    recognizer, judges = None, {}
    if train_people:
        files = {name: Path(file) for name, file in named(weights or [], "--weights").items()}
        recognizers = load_recognizers(judging, files, choose_device(device))
        recognizer = recognizers.pop(first.recognizer.name)
        judges = {name: make_judge(made, judging[name], study.test.images) for name, made in recognizers.items()}
    with console.progress() as stage:
        figures = evaluate_protection(study, settings, recognizer, judges, stage)
        report = protection_report(figures, study, further)
    return finish(console, report, output, overwrite, gates)


app = command("evaluate protection", protection, summary("protection"))
