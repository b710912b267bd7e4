"""The processes of one run: which of them am I, how many are we, and what we tell one another.

A run in one process is `Ranks()`, which asks nobody and does nothing. The first process (rank 0) alone writes and
speaks. Bytes and JSON go through gloo on the CPU, tensors through gloo or NCCL, as their device wants. Nothing that is
received is unpickled.
"""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from facedecode.errors import FacedecodeError, PeerLost, UsageError

if TYPE_CHECKING:  # seconds to import
    from torch import Tensor

_TERMINATED = (130, 143)


@dataclass(frozen=True)
class Meeting:
    """Where the processes of a run find one another.

    address, port: of the store that rank 0 serves, or, where `served`, the launcher does.
    attempt: tells this start from an earlier one at the same store.
    timeout: s after which a process that says nothing counts as lost.
    patience: s that the survivors of a lost one wait for the others' last words.
    """

    address: str
    port: int
    served: bool = False
    attempt: str = "0"
    timeout: float = 600.0  # longer than machines of one kind are apart after what each does alone
    patience: float = 5.0


class Ranks:
    """One process among those of a run.

    rank, count: number of this process, from 0, and how many there are.
    local, local_count: the same on this machine.
    first: this is rank 0, who writes and speaks.
    """

    def __init__(
        self, rank: int = 0, count: int = 1, local: int = 0, local_count: int = 1, meeting: Meeting | None = None
    ) -> None:
        if not 0 <= rank < count or (count > 1 and meeting is None):
            raise ValueError(f"rank {rank} of {count} processes, meeting {meeting}")
        self.rank, self.count, self.local, self.local_count = rank, count, local, local_count
        self.first = rank == 0
        self._meeting = meeting
        self._store: Any = None

    @contextlib.contextmanager
    def joined(self) -> Iterator[Ranks]:
        """Meet the others; what needs them goes inside the block. Leaves when all have reached its end.

        Raises PeerLost: they did not come, here or in any method: one was killed or says nothing for too long.
        """
        if self.count == 1:
            yield self
            return
        import torch
        from torch import distributed

        where = self._meeting
        limit = timedelta(seconds=where.timeout)
        with _answering():
            server = self.first and not where.served
            store = distributed.TCPStore(where.address, where.port, self.count, server, limit, wait_for_workers=False)
            self._store = distributed.PrefixStore(f"facedecode/{where.attempt}", store)
            cuda = torch.cuda.is_available() and distributed.is_nccl_available()
            distributed.init_process_group(
                "cpu:gloo,cuda:nccl" if cuda else "gloo",
                store=self._store,
                rank=self.rank,
                world_size=self.count,
                timeout=limit,
            )
        yield self
        self.barrier()
        distributed.destroy_process_group()

    def part(self, number: int) -> slice:
        """This process's contiguous part of so many rows; parts differ by one row at most."""
        return slice(number * self.rank // self.count, number * (self.rank + 1) // self.count)

    def barrier(self) -> None:
        """Wait until all are here."""
        self.gather(b"")

    def gather(self, data: bytes) -> list[bytes]:
        """What each process gave, by rank; all get all of it."""
        if self.count == 1:
            return [data]
        import torch
        from torch import distributed

        with _answering():
            sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(self.count)]
            distributed.all_gather(sizes, torch.tensor([len(data)]))
            most = max(1, int(max(sizes)))
            own = torch.zeros(most, dtype=torch.uint8)
            own[: len(data)] = torch.frombuffer(bytearray(data or b"\0"), dtype=torch.uint8)[: len(data)]
            parts = [torch.empty_like(own) for _ in range(self.count)]
            distributed.all_gather(parts, own)
        return [part[: int(size)].numpy().tobytes() for part, size in zip(parts, sizes, strict=True)]

    def from_first(self, value: Any) -> Any:
        """Rank 0's JSON value, on all; the others' is ignored."""
        if self.count == 1:
            return value
        return json.loads(self.gather(json.dumps(value).encode() if self.first else b"")[0])

    def agree(self, about: Mapping[str, Any]) -> None:
        """Refuse to begin where processes were started for different work.

        about: JSON: all that decides the results, with the version.

        Raises UsageError: on all of them, naming one that differs, and in what.
        """
        from facedecode.records import difference

        if self.count == 1:
            return
        told = json.dumps({"host": socket.gethostname(), "about": about}, sort_keys=True).encode()
        own, *others = (json.loads(each) for each in self.gather(told))
        for rank, other in enumerate(others, 1):
            if differs := difference(own["about"], other["about"], ("in process 0", f"in process {rank}")):
                raise UsageError(
                    f"process {rank} of {self.count} (on {other['host']}) was started for other work than process 0 "
                    f"(on {own['host']}): {differs}; start all by the same command, version and data"
                )

    def sum(self, tensors: Sequence[Tensor]) -> None:
        """Put in each tensor's place the sum over all processes, the same on all; tensors of one device and dtype."""
        if self.count == 1 or not tensors:
            return
        import torch
        from torch import distributed

        flat = torch.cat([tensor.detach().reshape(-1) for tensor in tensors])
        with _answering():
            distributed.all_reduce(flat)
        for tensor, values in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.detach().copy_(values.view_as(tensor))

    def copy_from_first(self, tensors: Sequence[Tensor]) -> None:
        """Put rank 0's values in each tensor's place."""
        if self.count == 1:
            return
        from torch import distributed

        with _answering():
            for tensor in tensors:
                values = tensor.detach().contiguous()
                distributed.broadcast(values, 0)
                tensor.detach().copy_(values)

    def last_words(self, line: str, code: int, error: BaseException) -> tuple[str, int] | None:
        """Tell the others why this process ends, and find out what ended the run.

        Returns what this process is to say, the line and the exit code; None where another one speaks.
        """
        if self.count == 1:
            return line, code
        terminated = code in _TERMINATED and not isinstance(error, FacedecodeError)
        kind = "lost" if isinstance(error, PeerLost) else "terminated" if terminated else "cause"
        try:
            if self._store is None:  # never met: all of them stumbled over the same, or nobody else can tell
                if kind == "terminated":
                    line = "ended before all processes of the run had met; torchrun's report says which one was first"
                if self.first or kind == "lost":
                    return line, code
                # A launcher ends all as soon as one has ended; the first is to speak before.
                time.sleep(self._meeting.patience)
                return None
            self._store.set(self._key(self.rank), json.dumps([kind, line, code]))
            if kind == "terminated":
                # The others notice only when this process's connections close, and have words only then.
                _hang_up()
            if not self.first:
                # Rank 0 speaks for all, unless it is the one that is gone.
                spoken_for = kind == "cause" or 0 in self._heard_of([0])
                return None if spoken_for else (_gone([0], self.count), PeerLost.exit_code)
            if kind == "cause":
                return line, code
            others = list(range(1, self.count))
            heard = self._heard_of(others)
        except RuntimeError:  # the store is gone with who served it
            return line, code
        for rank, (why, theirs, their_code) in sorted(heard.items()):
            if why == "cause":
                return f"process {rank} of {self.count}: {theirs}", their_code
        if silent := [rank for rank in others if rank not in heard]:
            return _gone(silent, self.count), PeerLost.exit_code
        if kind == "lost":
            for rank, (why, theirs, their_code) in sorted(heard.items()):
                if why == "terminated":
                    return f"process {rank} of {self.count}: {theirs}", their_code
        return line, code

    def _heard_of(self, ranks: Sequence[int]) -> dict[int, list]:
        """The last words of these processes, as far as they come in time."""
        until = time.monotonic() + self._meeting.patience
        heard: dict[int, list] = {}
        while len(heard) < len(ranks):
            for rank in ranks:
                if rank not in heard and self._store.check([self._key(rank)]):
                    heard[rank] = json.loads(self._store.get(self._key(rank)))
            if time.monotonic() > until:
                break
            time.sleep(0.05)
        return heard

    @staticmethod
    def _key(rank: int) -> str:
        return f"end/{rank}"


def _hang_up() -> None:
    from torch import distributed

    with contextlib.suppress(RuntimeError):
        if distributed.is_initialized():
            distributed.destroy_process_group()


def _gone(ranks: Sequence[int], count: int) -> str:
    many = f"processes {', '.join(map(str, ranks))}" if len(ranks) > 1 else f"process {ranks[0]}"
    return (
        f"{many} of {count} no longer answer{'' if len(ranks) > 1 else 's'}: killed, out of memory, or the machine is "
        "gone; what was saved is kept, and the same command resumes"
    )


@contextlib.contextmanager
def _answering() -> Iterator[None]:
    """What torch raises where another process does not answer, as PeerLost."""
    try:
        yield
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise PeerLost(f"another process of the run does not answer ({reason}); the same command resumes") from error
