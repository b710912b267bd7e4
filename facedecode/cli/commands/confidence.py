"""`facedecode fit-confidence`."""

from __future__ import annotations

from facedecode.cli.app import command, start_torch
from facedecode.cli.console import Console
from facedecode.inversion.jobs import ConfidenceJob


def fit_confidence(console: Console, job: ConfidenceJob) -> tuple[dict, dict]:
    """Draws the store's templates, and fits the expected error of a picture given its template, for each cell of a
    grid. People whom the decoder was trained on are left out, because its errors on them are too small.
    """
    from facedecode.decoders import load_decoder_for
    from facedecode.inversion.confidence_fit import fit_store_confidence
    from facedecode.store import Store

    store = Store.open(job.store)
    decoder = load_decoder_for(store.recognizer, job.decoder, start_torch(job.device))
    with console.progress() as stage:
        confidence = fit_store_confidence(job, store, decoder, stage)
    report = confidence.report
    if decoder.provenance.training.start and decoder.provenance.training.held_out is None:
        console.say(
            f"decoder {decoder.folder.name} went on from another, which is taken to have held out the same people"
        )
    explained = report["explained"]
    console.say(
        f"{job.output}: {report['images']} images of {len(confidence.fitted_on)} people whom the decoder has not seen; "
        f"explains {explained['center']:.1%} of the central region's variance, {explained['all']:.1%} of the whole "
        "portrait's"
    )
    return report | {"people": len(confidence.fitted_on)}, {"output": str(job.output)}


app = command("fit-confidence", fit_confidence)
