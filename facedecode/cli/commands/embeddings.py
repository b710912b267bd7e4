"""`facedecode import`, and what `train` does with a bare `.npy`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from facedecode.cli.app import command, refuse_failures, start_torch
from facedecode.cli.console import Console
from facedecode.errors import UsageError
from facedecode.extraction.jobs import ImportJob
from facedecode.identity import RecognizerId
from facedecode.options import BareRecognizerOptions

if TYPE_CHECKING:  # needs torch
    from facedecode.extraction.embeddings_import import Imported


def import_(console: Console, job: ImportJob) -> tuple[dict, dict]:
    """Finds the face in each image, because decoders are trained to draw it. Images without a face are listed in
    failures.jsonl in the store, and their templates are left out. Without images, the store has templates only. An
    interrupted run is resumed by the same command.
    """
    result = import_store(console, job)
    if job.strict:
        refuse_failures(result.failures, "show no face", job.output)
    return {"count": result.count, "failed": len(result.failures)}, {"store": str(job.output)}


def import_store(console: Console, job: ImportJob, need_images: bool = False) -> Imported:
    """Make the store, and say what there is to say of it. need_images: see `import_embeddings`."""
    from facedecode.annotations.labels import DataSet
    from facedecode.extraction.embeddings_import import import_embeddings
    from facedecode.extraction.jobs import StoreOptions
    from facedecode.recognizers import DEFAULT_RECOGNIZER, load_chosen_recognizer
    from facedecode.recognizers.contract import TEMPLATES_ONLY

    name = job.recognizer.model
    if name is None:
        console.say(f"{job.embeddings}: taken as templates of {DEFAULT_RECOGNIZER} (say --model if they are not)")
    device = start_torch(job.device)
    recognizer = name if name and name.startswith(TEMPLATES_ONLY) else load_chosen_recognizer(job.recognizer, device)
    with console.progress() as stage:
        result = import_embeddings(
            job.embeddings,
            job.images,
            job.output,
            recognizer,
            job.faces,
            device=device,
            score=job.score or "cosine",
            data_set=DataSet(job.identities, renamed=job.renamed, level=job.identity_level),
            options=StoreOptions(overwrite=job.overwrite),
            need_images=need_images,
            progress=stage("import"),
        )
    for note in result.notes:
        console.note(note)
    before = f", {result.resumed} were done before" if result.resumed else ""
    images = f" with their images, {len(result.failures)} failed" if result.images else " without images"
    console.say(f"{job.output}: {result.count} templates{images}{before}")
    return result


def store_of_bare(
    console: Console,
    embeddings: Path,
    images: Path | None,
    output: Path,
    recognizer: BareRecognizerOptions,
    device: str,
    overwrite: bool,
) -> Path:
    """A bare file and its images as a store beside the output."""
    if images is None:
        raise UsageError(f"{embeddings}: bare templates; name a text file of their images' paths by --images list.txt")
    folder = output.with_name(f"{output.name}-emb")
    job = ImportJob(embeddings, folder, images, recognizer, device=device, overwrite=overwrite)
    import_store(console, job, need_images=True)
    return folder


def describe_recognizer(recognizer: BareRecognizerOptions, device: str) -> RecognizerId:
    """The recognizer of a bare file's templates, as its store will describe it; of one not at hand, its name alone."""
    from facedecode.recognizers import load_chosen_recognizer
    from facedecode.recognizers.contract import TEMPLATES_ONLY

    if recognizer.model and recognizer.model.startswith(TEMPLATES_ONLY):
        return RecognizerId(recognizer.model, None)
    return load_chosen_recognizer(recognizer, device).describe()


app = command("import", import_)
