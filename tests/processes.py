"""Runs a function in several processes that meet over gloo, as torchrun's do: for tests.

They are forks of a server that imports torch once for the session.
"""

from __future__ import annotations

import multiprocessing
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from facedecode.cli.app import _explain
from facedecode.ranks import Meeting, Ranks

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    ["facedecode.cli", "facedecode.extraction.run", "facedecode.pictures.mtcnn", "facedecode.training.decoder_run"]
)


@dataclass
class Ended:
    """How a process ended: with a result, with what it says to the user, or by a signal (then all are None).

    error: the name of the class of what ended it. said: line and exit code; None where it leaves that to another one.
    """

    result: Any = None
    error: str | None = None
    said: tuple[str, int] | None = None
    signal: int | None = None
    detail: str = ""


def in_processes(work: Callable[..., Any], *arguments: Any, count: int = 2, timeout: float = 60) -> list[Ended]:
    """`work(ranks, *arguments)` in each process; a function of a module's top level."""
    from torch.distributed import TCPStore

    store = TCPStore("127.0.0.1", 0, None, True, wait_for_workers=False)  # as torchrun's agent does
    started = []
    for rank in range(count):
        ours, theirs = CONTEXT.Pipe(duplex=False)
        ranks = (rank, count, rank, count, Meeting("127.0.0.1", store.port, served=True, timeout=timeout, patience=1))
        process = CONTEXT.Process(target=_process, args=(theirs, ranks, work, arguments))
        process.start()
        theirs.close()
        started.append((process, ours))
    ended = []
    for process, pipe in started:
        try:
            result = pipe.recv() if pipe.poll(2 * timeout) else Ended(error="no answer")
        except EOFError:
            result = Ended()
        process.join(timeout)
        if process.is_alive():
            process.kill()
            raise TimeoutError(f"a process did not end; it had told {result}")
        if process.exitcode < 0:
            result.signal = -process.exitcode
        ended.append(result)
    return ended


def results(ended: list[Ended]) -> list[Any]:
    """What the processes returned; fails the test where one did not."""
    assert all(each.error is None and each.signal is None for each in ended), [each.detail or each for each in ended]
    return [each.result for each in ended]


def _process(pipe: Any, where: tuple, work: Callable[..., Any], arguments: tuple) -> None:
    import torch
    from conftest import load_tiny, tiny_specs

    from facedecode.recognizers import REGISTRY, networks

    torch.set_num_threads(1)
    REGISTRY.update(tiny_specs())
    networks.BUILDERS["tiny"] = load_tiny
    ranks = Ranks(*where)
    try:
        with ranks.joined():
            result = work(ranks, *arguments)
        pipe.send(Ended(result))
    except BaseException as error:
        said = ranks.last_words(*_explain(error), error)
        pipe.send(Ended(error=type(error).__name__, said=said, detail=traceback.format_exc()))
