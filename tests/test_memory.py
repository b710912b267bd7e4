from __future__ import annotations

import threading
import time
from pathlib import Path

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


def test_threads_share_a_budget_in_their_order() -> None:
    budget, lock, held, most, order = memory.Budget(10), threading.Lock(), [0], [0], []

    def work(name: int, needed: int) -> None:
        with budget.taken(needed):
            with lock:
                held[0] += min(needed, 10)
                most[0] = max(most[0], held[0])
                order.append(name)
            time.sleep(0.01)
            with lock:
                held[0] -= min(needed, 10)

    threads = []
    for name, needed in enumerate([6, 4, 10**9, 3, 3, 3]):
        threads.append(threading.Thread(target=work, args=(name, needed)))
        threads[-1].start()
        time.sleep(0.002)
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    assert most[0] <= 10 and order.index(2) == 2  # nobody passes one who waits for much


def test_what_was_taken_comes_back_after_an_error() -> None:
    budget = memory.Budget(10)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), budget.taken(10):
            raise ZeroDivisionError


def test_a_container_s_limit_is_what_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_CONTAINER", tmp_path)
    unlimited = memory.available_bytes()
    for name, text in {"current": "900", "max": "1000", "stat": "anon 500\nactive_file 60\ninactive_file 40"}.items():
        (tmp_path / f"memory.{name}").write_text(f"{text}\n")
    assert memory.available_bytes() == 200
    (tmp_path / "memory.max").write_text("max\n")
    assert unlimited is not None and (memory.available_bytes() or 0) > 1 << 20
