"""What a job of `evaluate verification` compares: stores, the side that is mapped, and the source of comparisons."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from facedecode.annotations.labels import read_person_labels
from facedecode.annotations.pairs import read_pairs
from facedecode.errors import UsageError
from facedecode.evaluation.cohort import known_people
from facedecode.evaluation.jobs import VerificationJob
from facedecode.evaluation.trials import AllPairs, PairsFile, TrialSource
from facedecode.evaluation.verification.measure import VerificationSettings
from facedecode.mapping.maps import load_mapping
from facedecode.options import require_label
from facedecode.store import Store
from facedecode.templates.transformation import MappedStore


def verification_inputs(
    job: VerificationJob,
) -> tuple[Mapping[str, Store | MappedStore], TrialSource, VerificationSettings]:
    """The arguments of `evaluate_verification` that a job describes.

    Raises UsageError: options that do not go together, two stores of one name, or a rate or threshold that is none.
    BadInput: files that are not what they should be.
    """
    if (job.labels is None) != (job.label is None):
        raise UsageError("--labels and --label go together: a CSV file, and the column of it")
    stores = _open(job.stores)
    settings = VerificationSettings(
        fmrs=job.fmrs,
        more_fmrs=job.required,
        threshold=job.threshold,
        labels=None if job.labels is None else read_person_labels(job.labels, job.label, _people(stores)),
        ignore_failures=job.ignore_failures,
        repetitions=job.repetitions,
        seed=job.seed,
    )
    if job.probes is not None and len(stores) > 1:
        raise UsageError("--probes are of one recognizer: give one STORE with them")
    probes = None if job.probes is None else Store.open(job.probes)
    templates, second = _mapped(stores, probes, job)
    stores_used = [*templates.values(), *([] if second is None else [second])]
    return templates, _source(job, second, known_people(stores_used)), settings


def _open(stores: Sequence[str]) -> dict[str, Store]:
    """The stores by their labels, else by their recognizers' names."""
    opened: dict[str, Store] = {}
    for spelled in stores:
        name, equals, folder = spelled.partition("=")
        if not equals or Path(spelled).exists():
            name, folder = "", spelled
        store = Store.open(folder)
        name = name or store.recognizer.name
        require_label(name, "STORE")
        if name in opened:
            raise UsageError(f"two stores of {name}: label them apart, as NAME=STORE")
        opened[name] = store
    return opened


def _people(stores: Mapping[str, Store]) -> set[str | None]:
    return {name for store in stores.values() for name in store.identities()}


def _mapped(
    stores: dict[str, Store], probes: Store | None, job: VerificationJob
) -> tuple[Mapping[str, Store | MappedStore], Store | MappedStore | None]:
    """The stores and the probes with one side's templates, or both sides', read through the map."""
    side = job.mapping_side
    if job.mapping is None:
        if side is not None:
            raise UsageError("--mapping-side says what --mapping maps: give both, or neither")
        return stores, probes
    if len(stores) > 1:
        raise UsageError("--mapping is of one recognizer: give one STORE with it")
    two_sides = job.pairs is not None or probes is not None  # of pairs, a single store has two sides
    if side in ("left", "right") and not two_sides:
        raise UsageError(f"--mapping-side {side}: all pairs of one store have no sides; use both")
    side = side or ("right" if two_sides else "both")
    ((name, store),) = stores.items()
    mapping = load_mapping(job.mapping)
    left = store if side == "right" else MappedStore(store, mapping)
    if side == "left":
        return {name: left}, probes or store
    if side == "both" and probes is None:
        return {name: left}, None
    return {name: left}, MappedStore(probes or store, mapping)


def _source(job: VerificationJob, probes: Store | MappedStore | None, known: Collection[str]) -> TrialSource:
    if job.pairs is not None:
        if job.people:
            raise UsageError("--pairs names its images itself: leave --people away")
        pairs = read_pairs(job.pairs)
        return PairsFile(pairs, job.pairs.name, job.ignore_missing, pairs.sha256, probes, known)
    if job.ignore_missing:
        raise UsageError("--ignore-missing is about images that --pairs names: give --pairs, or leave it away")
    return AllPairs(job.people, probes, known)
