"""What the user should know of the data that are compared: images without a template, people who are not there."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

from facedecode.annotations.protocols import Pairs, people_names
from facedecode.evaluation.comparison import Templates
from facedecode.evaluation.words import be, counted


def unknown_people(people: Path | None, there: set[str], where: str) -> list[str]:
    """A warning where a people file names people whom the stores do not have."""
    if people is None:
        return []
    wanted = people_names(people)
    unknown = [name for name in wanted if name not in there]
    if not unknown:
        return []
    said = f"{len(unknown)} of the {len(wanted)} people of {people.name} {be(len(unknown))} not in {where}"
    return [f"{said} ({listed(unknown)})"]


def failed_images(images: Iterable[tuple[str, str]], templates: Templates) -> list[tuple[str, str, str]]:
    """(path, person, why) of images, (path, person) each, that gave no template."""
    reasons = {failure["path"]: f"{failure['stage']}: {failure['reason']}" for failure in templates.failures()}
    return [(path, person, reasons.get(path, "no template")) for path, person in images]


def repeated_pairs(pairs: Pairs, digests: dict[str, str | None]) -> list[str]:
    """Warnings of pairs that are there twice, either way round, and of pairs of one picture with itself."""
    both = list(zip(pairs.left, pairs.right, strict=True))
    said = []
    if again := len(both) - len({frozenset(pair) for pair in both}):
        said.append(f"{counted(again, 'pair')} {be(again)} listed again (a with b, or b with a): each line counts")
    if same := sum(a == b or (digests.get(a) is not None and digests[a] == digests.get(b)) for a, b in both):
        said.append(f"{counted(same, 'pair')} {be(same)} of one picture twice (equal files): such a score says nothing")
    return said


def listed(names: Collection[str | None]) -> str:
    """The first three."""
    return ", ".join(str(name) for name in list(names)[:3]) + (", …" if len(names) > 3 else "")
