"""A store's people, divided into those to train on and those to test on."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

from facedecode.annotations.protocols import held_out_people
from facedecode.errors import BadInput
from facedecode.files import csv_text
from facedecode.names import comparable_name
from facedecode.output_folder import call_fingerprint, output_folder, require_free
from facedecode.store import Store
from facedecode.templates.jobs import SplitJob

FILES = ("train.csv", "test.csv")


@dataclass(frozen=True)
class Split:
    """People with their numbers of images, by name, and how many images are of nobody."""

    train: dict[str, int]
    test: dict[str, int]
    unnamed: int

    @property
    def mated(self) -> int:
        """How many people to test on have two images or more, as mated pairs need."""
        return sum(count > 1 for count in self.test.values())


def split_people(job: SplitJob) -> Split:
    """Divide a store's people, and write `train.csv` and `test.csv`, columns identity and images.

    A person's side follows from the name alone, as `held_out_people` has it: it stays when more people come, and is the
    same however the name is written.

    Raises BadInput: no image has a person, or nobody falls to one of the sides. OutputError, OutputInUse: as
    `output_folder`; the folder has files, and `overwrite` is off.
    """
    call = call_fingerprint("split", replace(job, overwrite=False))
    require_free(job.output, call, job.overwrite)
    identities = Store.open(job.store).identities()
    images = Counter(name for name in identities if name is not None)
    if not images:
        raise BadInput(
            f"{job.store}: no image has a person; extract a folder with a subfolder for each, or with --identities"
        )
    names = sorted(images)
    tested = held_out_people([comparable_name(name) for name in names], names, job.test_share, even_all=True)
    train, test = (
        {name: images[name] for name, held in zip(names, tested, strict=True) if held == side} for side in (False, True)
    )
    if not train or not test:
        raise BadInput(
            f"{job.store}: of its {len(names)} people all fall to one side; give another --test-share, or more people"
        )
    tables = [csv_text(["identity", "images"], side.items()) for side in (train, test)]
    with output_folder(job.output, call) as folder:
        folder.replace(FILES, ((name, table.encode()) for name, table in zip(FILES, tables, strict=True)))
    return Split(train, test, unnamed=len(identities) - images.total())
