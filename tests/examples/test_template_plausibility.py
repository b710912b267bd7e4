"""The script that counts which templates are told."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch

from facedecode.decoders import Provenance, load_decoder, save_decoder
from facedecode.decoders.closed_form import Ridge
from facedecode.decoders.plausibility import TemplateStatistics
from facedecode.errors import BadInput, UsageError
from facedecode.store import Store


def test_shares_and_a_decoder_with_the_statistics(
    script: Callable[[str], ModuleType], tiny_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    main, store = script("template_plausibility").main, Store.open(tiny_store)
    people = tmp_path / "people.txt"
    people.write_text("".join(f"P{i}\n" for i in range(6)))
    net = Ridge(16, 64).fit(torch.from_numpy(store.templates()), torch.zeros(30, 3, 64, 64, dtype=torch.uint8))
    save_decoder(tmp_path / "old", "ridge", net, Provenance(store.recognizer))
    given = [str(tiny_store), str(tiny_store), "--people", str(people)]
    main([*given, "--decoder", str(tmp_path / "old"), "-o", str(tmp_path / "new")])
    told = {row["templates"]: row for row in csv.DictReader(capsys.readouterr().out.splitlines())}
    assert told["as they are"]["count"] == "12" and told["means of two"]["count"] == "6"
    assert float(told["as they are"]["told"]) == 0 and float(told["times 100"]["told"]) == 1
    made = load_decoder(tmp_path / "new").provenance.training.templates
    rows = [i for i, name in enumerate(store.identities()) if name in {f"P{i}" for i in range(6)}]
    assert made == TemplateStatistics.of(store.templates()[rows])
    with pytest.raises(UsageError, match="go together"):
        main([*given, "-o", str(tmp_path / "other")])
    with pytest.raises(BadInput, match="nobody who was not described"):
        main([str(tiny_store), str(tiny_store)])
