r"""How often templates, and what is expected of their people, are accepted as the person: real pairs, no pictures.

The prediction (`training.losses`) is fitted on a part of the people and judged on the others, at thresholds set on the
real non-mated pairs of these. Type I compares with the very template, type II with the person's other images.

python benchmarks/expected_templates.py emb --people ../shared/data/lfw/protocol/peopleDevTrain.txt \
    --exclude George_W_Bush -o docs/results/expected-templates.json
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

import numpy as np

from facedecode.annotations.protocols import held_out_people, select_people
from facedecode.files import write_json
from facedecode.provenance import describe_store, environment
from facedecode.statistics.bootstrap import mean_interval
from facedecode.statistics.scores import score_matrix
from facedecode.statistics.verification import thresholds_at_fmr
from facedecode.store import Store
from facedecode.training.losses import PersonPrediction

RATES = (1e-3, 1e-4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("--people", type=Path)
    parser.add_argument("--exclude", action="append", default=[])
    parser.add_argument("--judged", type=float, default=0.4, help="share of the people who judge")
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    store = Store.open(options.store)
    rows = store.rows().to_pylist()
    chosen = select_people([row["identity"] for row in rows], options.people, tuple(options.exclude))
    templates, score = store.templates()[chosen], store.score
    names = np.array([rows[i]["identity"] for i in chosen])
    judged = held_out_people(list(names), [rows[i]["path"] for i in chosen], options.judged)
    prediction = PersonPrediction.fit(templates[~judged], names[~judged], score)
    real, people = templates[judged], names[judged]
    same = people[:, None] == people[None]
    first, second = np.nonzero(same & ~np.eye(len(people), dtype=bool))
    non_mated = score_matrix(real, real, score)[np.triu(~same)]
    thresholds = dict(zip(RATES, thresholds_at_fmr(non_mated, RATES), strict=True))
    report = {"people": len(set(people)), "non_mated": len(non_mated), "mated": len(first)}
    command = shlex.join(["python", "benchmarks/expected_templates.py", *sys.argv[1:]])
    report["provenance"] = {"command": command, "store": describe_store(store), "environment": environment()}
    for name, probes in {"templates": real, "expected": prediction.apply(real)}.items():
        scores = score_matrix(probes, real, score)
        for rate, threshold in thresholds.items():
            accepted = (scores[first, second] >= threshold).astype(float)
            owners = people[first]
            of_person = {owner: accepted[owners == owner].mean() for owner in sorted(set(owners))}
            report[f"{name} at FMR {rate:.2%}"] = {
                "type I": float((np.diag(scores) >= threshold).mean()),
                "type II by pair": mean_interval(accepted, list(owners)).as_json(),
                "type II by person": mean_interval(np.array(list(of_person.values())), list(of_person)).as_json(),
                "false matches": float((scores[~same] >= threshold).mean()),
            }
    write_json(options.output, report)


if __name__ == "__main__":
    main()
