"""Names of people and images, in the forms in which they are kept, and in which people are compared."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from itertools import product

# LFW's people under two names: the nearest templates of two people, by `dlib-resnet` and `edgeface-xxs`, whose pictures
# were looked at. Those of whom pictures leave a doubt (twins, brothers) are not here.
_SPELLED_TWICE = (
    ("Bill_Pryor", "William_Pryor_Jr"),
    ("Bison_Dele", "Brian_Williams"),
    ("Choi_Sung-hong", "Sung_Hong_Choi"),
    ("Chyung_Dai-chul", "Dai_Chul_Chyung"),
    ("Cristina_Fernandez", "Cristina_Kirchner"),
    ("Doc_Rivers", "Glenn_Rivers"),
    ("Felipe_De_Borbon", "Prince_Felipe"),
    ("Hasan_Wirayuda", "Hassan_Wirajuda"),
    ("John_Barnett", "John_Burnett"),
    ("John_Gruden", "Jon_Gruden"),
    ("Joseph_Blatter", "Sepp_Blatter"),
    ("Mireya_Elisa_Moscoso_Rodriguez", "Mireya_Moscoso"),
    ("Nan_Wang", "Wang_Nan"),
    ("Noer_Moeis", "Noer_Muis"),
    ("Odai_Hussein", "Uday_Hussein"),
    ("Ruano_Pascual", "Virgina_Ruano_Pascal"),
    ("Stephan_Eberharter", "Stephen_Ebberharter"),
    ("Talisa_Bratt", "Talisa_Soto"),
    ("Wang_Yingfan", "Yingfan_Wang"),
)
# LFW's people of whom one has a picture that shows the other: most are one photograph under two names.
_PICTURED_TWICE = (
    ("Abdullah_Gul", "Recep_Tayyip_Erdogan"),
    ("Andrew_Caldecott", "Andrew_Gilligan"),
    ("Anja_Paerson", "Janica_Kostelic"),
    ("Bart_Hendricks", "Ricky_Ray"),
    ("Carlos_Beltran", "Raul_Ibanez"),
    ("Carlos_Ruckauf", "Eduardo_Duhalde"),
    ("Emmy_Rossum", "Eva_Amurri"),
    ("Gabrielle_Rose", "Martha_Bowen"),
    ("Michael_Schumacher", "Rubens_Barrichello"),
    ("Shinya_Taniguchi", "Takahiro_Mori"),
)
LFW_TWICE = (*_SPELLED_TWICE, *_PICTURED_TWICE)

_APOSTROPHES = str.maketrans("", "", "'`\u2018\u2019\u02bc\u02b9")
_STROKES = str.maketrans({"ø": "o", "ł": "l", "đ": "d", "ħ": "h", "ı": "i", "æ": "ae", "œ": "oe"})
_BETWEEN = re.compile("[\\s_.,\u00b7\u30fb\u2010-\u2015-]+")  # the last ones are hyphens and dashes
_ACCENTS = 200  # the lowest combining class of them; in other scripts, marks of lower ones make another letter


def person_name(text: str | None) -> str | None:
    """The name of a person: composed Unicode (NFC) without white space at its ends; None where nothing is left.

    macOS writes the same letters decomposed, and a table from elsewhere composed: they are one person.
    """
    return unicodedata.normalize("NFC", text).strip() or None if text else None


def image_name(text: str) -> str:
    """The path of an image as tables name it: forward slashes, composed Unicode (NFC), no './' and no doubled slash."""
    text = unicodedata.normalize("NFC", text.strip()).replace("\\", "/")
    root = "/" if text.startswith("/") else ""
    return root + "/".join(part for part in text.split("/") if part not in ("", "."))


def comparable_name(name: str) -> str:
    """The form in which people are compared: names with the same one are taken for one person.

    It leaves out what people write otherwise for one name: case, accents, width of letters, apostrophes, the order of
    the parts, and what stands between them (white space, `_`, hyphens, dots, commas). Of LFW's 5,749 names, four pairs
    have one form, and are one person each. A name with a digit may be a number (`s1-12`, `s12-1`): its parts keep their
    order, and without a letter it is compared as it stands. Names that are merely alike (David_Kelly and David_Kelley,
    two men of LFW) stay two.
    """
    parts = _parts(name)
    return " ".join(parts if any(c.isdigit() for part in parts for c in part) else sorted(parts))


def _parts(name: str) -> list[str]:
    text = unicodedata.normalize("NFKC", name).translate(_APOSTROPHES).strip()
    if not any(c.isalpha() for c in text):
        return [text]
    text = text.casefold()
    if not text.isascii():
        letters = (c for c in unicodedata.normalize("NFKD", text) if unicodedata.combining(c) < _ACCENTS)
        text = unicodedata.normalize("NFKC", "".join(c for c in letters if unicodedata.category(c) != "Cf"))
        text = text.translate(_STROKES)
    return [part for part in _BETWEEN.split(text) if part]


def shared_people(people: Iterable[str], known: Iterable[str]) -> set[str]:
    """Who of the people, by their names as they are given, is among those known: however written, and as LFW knows."""
    people, known = list(people), list(known)
    forms = {comparable_name(name) for name in known}
    return {name for name in people if comparable_name(name) in forms} | known_otherwise_in_lfw(people, known)


def known_otherwise_in_lfw(people: Iterable[str], known: Iterable[str]) -> set[str]:
    """Who of the people, by their names as they are given, is known under LFW's other name only."""
    spellings = {_spelling(name) for name in known}
    return {
        name
        for name in people
        if (own := _spelling(name)) in _OTHERS and own not in spellings and not spellings.isdisjoint(_OTHERS[own])
    }


def twice_in_lfw(people: Iterable[str]) -> list[tuple[str, str]]:
    """Which of the people LFW has under two names: pairs of these, sorted, as they are given."""
    given: dict[str, list[str]] = {}
    for name in people:
        if (spelled := _spelling(name)) in _OTHERS:
            given.setdefault(spelled, []).append(name)
    pairs = (pair for one in given for two in _OTHERS[one] & given.keys() for pair in product(given[one], given[two]))
    return sorted({(min(pair), max(pair)) for pair in pairs})


def _spelling(name: str) -> str:
    return " ".join(_parts(name))


def _other_names() -> dict[str, set[str]]:
    """Of LFW's people under two names, the other ones by each, as `_spelling` has them."""
    others: dict[str, set[str]] = {}
    for one, two in LFW_TWICE:
        others.setdefault(_spelling(one), set()).add(_spelling(two))
        others.setdefault(_spelling(two), set()).add(_spelling(one))
    return others


_OTHERS = _other_names()
