"""Whether this process is one of several that torchrun started: the one place that reads its environment."""

from __future__ import annotations

from collections.abc import Mapping

from facedecode.errors import UsageError
from facedecode.ranks import Meeting, Ranks

_NEEDED = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


def speaks(environment: Mapping[str, str]) -> bool:
    """Whether this process has a voice: alone, or the first."""
    return "LOCAL_RANK" not in environment or environment.get("RANK", "0") == "0"


def launched(environment: Mapping[str, str]) -> Ranks:
    """The processes of this run; alone, unless torchrun (or what sets the same variables) started more.

    Raises:
        UsageError: variables that are missing or no numbers.
    """
    # Clusters set some of them for whatever they start; this one only launchers of one process a device do.
    if "LOCAL_RANK" not in environment or environment.get("WORLD_SIZE", "1") == "1":
        return Ranks()
    if missing := [name for name in _NEEDED if name not in environment]:
        raise UsageError(f"WORLD_SIZE is set and {', '.join(missing)} not; start several processes by torchrun")
    names = {name: environment.get(name, "1") for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")}
    try:
        rank, count, local, local_count = map(int, names.values())
        meeting = Meeting(
            environment["MASTER_ADDR"],
            int(environment["MASTER_PORT"]),
            served=environment.get("TORCHELASTIC_USE_AGENT_STORE") == "True",
            attempt=environment.get("TORCHELASTIC_RESTART_COUNT", "0"),
        )
        return Ranks(rank, count, local, local_count, meeting)
    except ValueError as error:
        raise UsageError(f"the variables that torchrun sets are malformed ({error}); start by torchrun") from None
