"""How often templates are told that a recognizer cannot have made: of real ones, and of made-up ones.

    python examples/template_plausibility.py emb emb emb-rotate180 \\
        --people ../shared/data/lfw/protocol/peopleDevTrain.txt --exclude George_W_Bush \\
        --unseen-people ../shared/data/lfw/protocol/peopleDevTest.txt

The first store's templates of the people are described (`TemplateStatistics`). Those of the other stores, of the unseen
people, are judged by that: as they are, and made up of the second store's. A CSV on stdout has a line for each kind.
`--decoder D -o D2` also writes a copy of a decoder whose record has the statistics; the one that is shipped has them.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from arguments import run

from facedecode.annotations.protocols import select_people
from facedecode.decoders import load_decoder, save_decoder
from facedecode.decoders.plausibility import DIRECTION, LENGTH, TemplateStatistics
from facedecode.errors import BadInput, OutputError, UsageError
from facedecode.store import Store


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("store", type=Path, help="whose templates are described")
    parser.add_argument("unseen", type=Path, nargs="+", help="stores whose templates are judged")
    parser.add_argument("--people", type=Path, help="who is described; everybody if absent")
    parser.add_argument("--exclude", action="append", default=[], help="not this person")
    parser.add_argument("--unseen-people", type=Path, help="who is judged; everybody who is not described if absent")
    parser.add_argument("--decoder", help="to be copied with the statistics in its record")
    parser.add_argument("--half", action="store_true", help="save the copy as float16")
    parser.add_argument("-o", "--output", type=Path, help="folder of the copy")
    arguments = parser.parse_args(argv)
    if (arguments.decoder is None) != (arguments.output is None):
        raise UsageError("--decoder and -o go together")
    store = Store.open(arguments.store)
    names = store.identities()
    rows = select_people(names, arguments.people, tuple(arguments.exclude))
    statistics = TemplateStatistics.of(store.templates()[rows])
    if statistics is None:
        raise BadInput(f"{store.folder}: too few templates to describe; give more people")
    described = {names[i] for i in rows} - {None}
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["store", "templates", "count", "told", "by length", "by direction"])
    for number, folder in enumerate(arguments.unseen):
        other = Store.open(folder)
        chosen = [
            i
            for i in select_people(other.identities(), arguments.unseen_people)
            if other.identities()[i] not in described
        ]
        if not chosen:
            raise BadInput(f"{folder}: has nobody who was not described; give --unseen-people")
        templates = other.templates()[chosen].astype(np.float64)
        kinds = made_up(templates) if number == 0 else iter([("as they are", templates, False)])
        for kind, values, means in kinds:
            verdicts = statistics.judge(values, shorter=means)
            shares = [float((verdicts == verdict).mean()) for verdict in (LENGTH, DIRECTION)]
            writer.writerow([folder.name, kind, len(values), *(f"{share:.5f}" for share in (sum(shares), *shares))])
    if arguments.output is not None:
        _copy(arguments, store, statistics)


def made_up(templates: np.ndarray) -> Iterator[tuple[str, np.ndarray, bool]]:
    """(kind, templates (n, dim), whether they are told to be means) of real templates and what is made of them."""
    rng = np.random.default_rng(0)
    lengths = np.linalg.norm(templates, axis=1, keepdims=True)
    dim = templates.shape[1]
    noise = rng.standard_normal(templates.shape) * lengths / dim**0.5
    pairs = templates[: len(templates) // 2 * 2].reshape(-1, 2, dim).mean(1)
    largest = np.abs(templates).max()
    yield "as they are", templates, False
    yield "float16", templates.astype(np.float16).astype(np.float64), False
    yield "rounded to 8 bits", np.rint(templates * 127 / largest) * largest / 127, False
    yield "with noise, a tenth of their length", templates + 0.1 * noise, False
    yield "means of two", pairs, True
    yield "normalized", templates / lengths, False
    yield "means of two, normalized", pairs / np.linalg.norm(pairs, axis=1, keepdims=True), True
    yield "times 100", templates * 100, False
    yield "divided by 100", templates / 100, False
    yield "less their mean", templates - templates.mean(0), False
    yield "negated", -templates, False
    yield "columns shuffled", templates[:, rng.permutation(dim)], False
    yield "turned at random", templates @ np.linalg.qr(rng.standard_normal((dim, dim)))[0], False
    yield "random numbers of their lengths", noise, False
    yield "uniform from 0 to 1", rng.random(templates.shape), False


def _copy(arguments: argparse.Namespace, store: Store, statistics: TemplateStatistics) -> None:
    if (arguments.output / "decoder.json").exists():
        raise OutputError(f"{arguments.output}: holds a decoder; give another folder")
    decoder = load_decoder(arguments.decoder)
    decoder.require_recognizer(store.recognizer, f"the decoder {arguments.decoder}")
    record = replace(decoder.provenance.training, templates=statistics)
    made = replace(decoder.provenance, training=record)
    save_decoder(arguments.output, decoder.kind, decoder.net, made, arguments.half, decoder.known.pictures)


if __name__ == "__main__":
    run(main)
