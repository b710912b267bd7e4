"""`facedecode evaluate security`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from facedecode.cli.app import Device, Images, Overwrite, Seed, choose_device, command
from facedecode.cli.commands.evaluate import summary
from facedecode.cli.commands.evaluate.common import (
    Decoders,
    FailIf,
    JudgeWeights,
    Output,
    People,
    Repetitions,
    finish,
    parse_gates,
    refuse_output,
    refuse_unknown,
)
from facedecode.cli.console import Console
from facedecode.errors import UsageError
from facedecode.options import named

if TYPE_CHECKING:
    from facedecode.evaluation.security.pairs_curve import CurveSettings

_WORDS = ("type1", "type2", "tar", "rank1", "rank1_same")


def security(
    console: Console,
    stores: Annotated[
        list[Path],
        typer.Argument(help="Stores of the same images, each by another recognizer; the first one names the images."),
    ],
    decoder: Decoders,
    people: People = None,
    fmr: Annotated[
        list[float] | None,
        typer.Option(
            "--fmr", help="False match rates (repeatable); 0.1, 0.01, 0.001, 0.0001 if absent, as far as resolved."
        ),
    ] = None,
    train_people: Annotated[
        Path | None,
        typer.Option("--train-people", help="Also success against the number of pairs, drawn from these people."),
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option("--exclude", help="Less this person of --train-people (repeatable).")
    ] = None,
    pairs_curve: Annotated[
        str | None,
        typer.Option("--pairs-curve", help="Numbers of pairs: 10,30,100,300,1000,3000,all (the default)."),
    ] = None,
    pairs_curve_draws: Annotated[
        int | None, typer.Option("--pairs-curve-draws", min=1, help="How often the pairs are drawn; 3 if absent.")
    ] = None,
    pairs_curve_size: Annotated[
        int | None, typer.Option("--pairs-curve-size", min=16, help="Side of its pictures, pixels; 128 if absent.")
    ] = None,
    weights: JudgeWeights = None,
    images: Images = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=2, help="Only the first so many images, by path, to try it out.")
    ] = None,
    device: Device = "auto",
    repetitions: Repetitions = 1000,
    seed: Seed = 0,
    output: Output = None,
    overwrite: Overwrite = False,
    fail_if: FailIf = None,
) -> tuple[dict, dict]:
    """Each decoder belongs to the store of its recognizer, and its pictures are shown to the recognizers of all stores.
    Gates: type1@fmr=R and type2@fmr=R (the highest of all decoders against their own recognizer), type1[D,B]@fmr=R,
    type2[D,B]@fmr=R (decoder D before recognizer B), tar[B]@fmr=R, rank1, rank1[D,B], rank1_same[D,B].
    Of one recognizer also tar@fmr=R. Of tar, @far is another spelling of @fmr.
    """
    gates = parse_gates(fail_if, _WORDS)
    refuse_output(output, overwrite)
    from facedecode.evaluation.cohort import open_stores
    from facedecode.evaluation.security.measure import SecurityJob, evaluate_security, wanted_fmrs
    from facedecode.evaluation.security.report import security_report
    from facedecode.evaluation.security.summary import gate_names
    from facedecode.report.gates import rates_of

    job = SecurityJob(
        stores=stores,
        decoders=named(decoder, "--decoder"),
        weights={name: Path(file) for name, file in named(weights or [], "--weights").items()},
        people=people,
        fmrs=fmr or None,
        required=rates_of(gates, "fmr", "far"),
        limit=limit,
        images=images,
        curve=_curve(train_people, exclude, pairs_curve, pairs_curve_size, pairs_curve_draws),
        repetitions=repetitions,
        seed=seed,
    )
    if gates:
        refuse_unknown(gates, gate_names(list(job.decoders), list(open_stores(stores)), wanted_fmrs(job)))
    with console.progress() as stage:
        figures = evaluate_security(
            job, choose_device(device), stage("pictures"), stage("portraits"), stage("pairs curve")
        )
        report = security_report(figures, job)
    return finish(console, report, output, overwrite, gates)


def _curve(
    people: Path | None, exclude: list[str] | None, sizes: str | None, image_size: int | None, draws: int | None
) -> CurveSettings | None:
    """The pairs curve that is asked for; UsageError for options that contradict each other."""
    from facedecode.evaluation.security.pairs_curve import ALL, CurveSettings

    options = {
        "--pairs-curve": sizes,
        "--exclude": exclude,
        "--pairs-curve-size": image_size,
        "--pairs-curve-draws": draws,
    }
    if people is None:
        if given := [option for option, value in options.items() if value]:
            raise UsageError(f"{given[0]} needs --train-people: whose pairs to draw")
        return None
    counts: list[int | str] = []
    for word in (sizes or "").split(",") if sizes else []:
        if word.strip() != ALL and not (word.strip().isascii() and word.strip().isdigit()):
            raise UsageError(f"--pairs-curve {sizes!r}: {word!r} is neither a number of pairs nor {ALL!r}")
        counts.append(ALL if word.strip() == ALL else int(word))
    more = {name: value for name, value in (("image_size", image_size), ("draws", draws)) if value is not None}
    return CurveSettings(people, tuple(exclude or ()), tuple(counts) or None, **more)


app = command("evaluate security", security, summary("security"))
