from __future__ import annotations

import pytest

from facedecode import memory
from facedecode.errors import WouldNotFit


def test_refuses_only_what_does_not_fit(monkeypatch) -> None:
    monkeypatch.setattr(memory, "available_bytes", lambda: 2**30)
    memory.require_memory(2**30, "a table", "use fewer rows")
    with pytest.raises(
        WouldNotFit, match=r"a table would take 2\.0 GiB .* 1\.0 GiB are free; use fewer rows"
    ) as caught:
        memory.require_memory(2**31, "a table", "use fewer rows")
    assert caught.value.exit_code == 7


def test_a_system_that_does_not_tell_refuses_nothing(monkeypatch) -> None:
    monkeypatch.setattr(memory, "available_bytes", lambda: None)
    memory.require_memory(2**60, "a table", "use fewer rows")


def test_available_bytes_is_plausible() -> None:
    available = memory.available_bytes()
    assert available is None or 2**20 < available < 2**50
