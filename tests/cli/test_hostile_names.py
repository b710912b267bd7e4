"""People and files called as nobody should be called, through the real commands, from images to reports."""

from __future__ import annotations

import csv
import html.parser
import json
import re
import shutil
import xml.etree.ElementTree
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from facedecode.cli import app
from facedecode.escaping import from_csv_cell
from facedecode.known_pictures import FILE, KnownPictures
from facedecode.store import Store

PEOPLE = [
    "<img src=x onerror=alert(1)>",
    "=cmd|' C calc'!A0",
    "\x1b[2J\x1b]0;title\x07",
    "$\\frac{a",
    "a\u202egpj",
    "|",
    "`rm -rf ~`",
    "line\nerror: forged",
    "[x](javascript:alert(1))",
    "-0.5",
    "{{ 7*7 }} :smile: [red]",
    "x" * 250,
]
# What a terminal or a reader of text obeys.
OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u2028\u2029]")


def call(*arguments: object) -> Result:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output
    for line in (done.stdout + done.stderr).splitlines():
        assert not OBEYED.search(line), line
        assert not line.startswith("error:")
    return done


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> Path:
    """Two images each of people of these names, their store `emb`, and a decoder of two of them."""
    place = tmp_path_factory.mktemp("hostile")
    shots = sorted(photos.rglob("*.png"))
    for number, person in enumerate(PEOPLE):
        folder = place / "in" / person
        folder.mkdir(parents=True)
        for k in range(2):
            # Equal files would be one picture.
            data = shots[(number + 3 * k) % len(shots)].read_bytes() + bytes([number, k])
            (folder / f"{person[:40]}_{k}.png").write_bytes(data)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        call("extract", "in", "-o", "emb")
        (place / "two.txt").write_text("|\n-0.5\n")
        train = ("train", "emb", "-o", "ridge", "--architecture", "ridge", "--image-size", 64, "--people", "two.txt")
        call(*train)
    # All have the same few photographs, and the decoder would know them.
    nothing = {"known_pictures": KnownPictures().write(place / "ridge" / FILE)}
    card = place / "ridge" / "decoder.json"
    card.write_text(json.dumps(json.loads(card.read_text()) | nothing))
    return place


@pytest.fixture
def work(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(here)
    return here


class Page(html.parser.HTMLParser):
    """Tags and attributes of a page, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.links: set[str] = set()
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.links |= {value or "" for name, value in attrs if name in ("href", "src")}

    def handle_data(self, data: str) -> None:
        self.text += data


def check_report(folder: Path, shown: str | None = None) -> None:
    """Nothing in a report is obeyed, and `shown` stands there."""
    text = (folder / "report.html").read_text("utf-8")
    page = Page(text)
    assert "script" not in page.tags and not any(name.startswith("on") for name in page.attributes)
    assert all(link.startswith(("#", "data:", "report.")) or link.endswith(".csv") for link in page.links)
    for written in (text, (folder / "report.md").read_text("utf-8")):
        assert not OBEYED.search(written.replace("\n", " "))
    markdown = (folder / "report.md").read_text("utf-8")
    assert not re.search(r"(?<!\\)<|(?<!\\)\]\(javascript", markdown)
    for figure in (folder / "figures").glob("*.svg"):
        xml.etree.ElementTree.parse(figure)
    for table in folder.glob("*.csv"):
        check_csv(table)
    assert shown is None or shown in page.text


def check_csv(path: Path) -> list[list[str]]:
    """No cell is a formula; the cells as they were."""
    rows = list(csv.reader(path.open(encoding="utf-8", newline="")))
    for cell in (cell for row in rows for cell in row):
        if cell[:1] in tuple("=+-@\t\r\n"):
            float(cell)
    return [[from_csv_cell(cell) for cell in row] for row in rows]


def test_a_store_keeps_the_names(work: Path) -> None:
    store = Store.open("emb")
    assert sorted(set(store.identities())) == sorted(PEOPLE)
    assert all("\x1b" not in line for line in Path("emb/manifest.json").read_text().splitlines())


def test_pictures_get_names_of_files_and_a_table(work: Path) -> None:
    call("invert", "emb", "-o", "out")
    rows = check_csv(work / "out/scores.csv")
    files = [row[0] for row in rows[1:]]
    assert sorted(files) == sorted(path.name for path in (work / "out").glob("*.png"))
    assert len(set(map(str.casefold, files))) == 2 * len(PEOPLE)
    for name in files:
        assert len(name.encode()) <= 255 and not re.search(r'[\x00-\x1f<>:"/\\|?*]|\u202e', name)


def test_groups_keep_the_names_in_tables(work: Path) -> None:
    call("aggregate", "emb", "-o", "templates")
    rows = check_csv(work / "templates/groups.csv")
    assert sorted(row[1] for row in rows[1:]) == sorted(PEOPLE)
    members = check_csv(work / "templates/members.csv")
    assert sorted({row[3] for row in members[1:]}) == sorted(PEOPLE)
    # The tables are read again as they were written.
    from facedecode.annotations.tables import read_text_file

    again = [cells for _, cells in read_text_file(work / "templates/groups.csv").table().rows]
    assert [row[1] for row in again] == [row[1].replace("\n", " ") for row in rows]  # a name there has one line
    call("cluster", "emb", "-o", "clusters", "-k", 3)
    check_csv(work / "clusters/groups.csv")


def test_reports_show_the_names(work: Path) -> None:
    labels = "".join(f'"{person}",{"ab"[i % 2]}<b>\n' for i, person in enumerate(PEOPLE) if "\n" not in person)
    (work / "kinds.csv").write_text(f"identity,=kind\n{labels}", encoding="utf-8")
    label, groups = "+1+\x1b `$x_1$| & *b* :smile:", ("--labels", "kinds.csv", "--label", "=kind")
    call("evaluate", "verification", f"{label}=emb", "-o", "verification", *groups, *others(work))
    check_report(work / "verification", shown=label.replace("\x1b", "\\x1b"))
    call("evaluate", "reconstruction", "emb", "--decoder", "`$x_1$|\\=ridge", "-o", "reconstruction", *others(work))
    check_report(work / "reconstruction", shown="`$x_1$|\\")


def others(work: Path) -> tuple[str, str]:
    """`--people` of whom the decoder has not seen: a file has a name a line, so not the one with two."""
    names = [person for person in PEOPLE if person not in ("|", "-0.5") and "\n" not in person]
    (work / "others.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    return ("--people", "others.txt")


def test_an_attack_keeps_the_names(work: Path, tiny: Path) -> None:
    shutil.copytree(work / "in" / PEOPLE[2], work / "some" / PEOPLE[2], dirs_exist_ok=True)
    shutil.copytree(work / "in" / PEOPLE[1], work / "some" / PEOPLE[1], dirs_exist_ok=True)
    options = ("--model", "tiny", "--weights", tiny, "--away", "--threshold", -0.1, "--steps", 2)
    first = call("attack", "some", "-o", "adv", *options)
    rows = check_csv(work / "adv/attacks.csv")
    assert {row[2] for row in rows[1:]} == {PEOPLE[1], PEOPLE[2]}
    for row in rows[1:]:
        assert "\x1b" not in row[1] and (work / "adv/pictures" / row[1]).is_file()
    again = call("attack", "some", "-o", "adv", *options)  # reads its own table
    assert "4 inputs were done before" in again.stderr and first.exit_code == 0
    assert np.load("adv/emb/00000.npy").shape == (4, 16)


def test_a_traceback_is_not_obeyed(work: Path) -> None:
    done = CliRunner().invoke(app, ["invert", f"no/{PEOPLE[2]}", "-o", "x.png", "--debug"])
    assert done.exit_code == 4 and "Traceback" in done.stderr and not OBEYED.search(done.stderr.replace("\n", ""))


def test_answers_in_json_are_plain_ascii(work: Path) -> None:
    done = CliRunner().invoke(app, ["invert", f"no/{PEOPLE[2]}", "-o", "x.png", "--json"])
    assert done.exit_code == 4 and done.stdout.isascii() and not OBEYED.search(done.stdout.rstrip("\n"))
    assert PEOPLE[2] in json.loads(done.stdout)["error"]
    assert done.stderr.count("\n") == 1 and "\\x1b[2J" in done.stderr and not OBEYED.search(done.stderr.rstrip("\n"))
