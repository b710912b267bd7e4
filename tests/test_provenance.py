"""What a report says that it was made from."""

from __future__ import annotations

from pathlib import Path

from facedecode.evaluation.jobs import EquivarianceJob, LeakageJob
from facedecode.files import sha256_file
from facedecode.provenance import describe_job


def test_a_job_says_its_options_and_no_paths(tmp_path: Path) -> None:
    people = tmp_path / "people.txt"
    people.write_text("A\n")
    job = LeakageJob({"emb": tmp_path}, people=people, exclude=("B",), decoder=str(tmp_path), weights=people, folds=3)
    described = describe_job(job)
    assert described["people"] == {"name": "people.txt", "sha256": sha256_file(people)}
    assert described["exclude"] == ["B"] and described["folds"] == 3 and described["attributes"] is None
    assert described["seed"] == 0 and described["level"] == 0.95
    assert not described.keys() & {"stores", "decoder", "weights", "images"}
    assert str(tmp_path) not in str(described)
    work = EquivarianceJob(tmp_path, ("rotate30",), work=tmp_path)
    assert describe_job(work)["transforms"] == ["rotate30"] and str(tmp_path) not in str(describe_job(work))
