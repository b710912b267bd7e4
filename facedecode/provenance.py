"""What a figure was made with: versions and hardware, for the results that are kept."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path

from facedecode import __version__

_PACKAGES = ("torch", "numpy", "pillow")


def environment() -> dict:
    """JSON: tool version, versions of what computes, and the machine's processor and cores in use.

    It holds neither paths nor host names, so that it can be published.
    """
    versions = {name: metadata.version(name) for name in _PACKAGES}
    affinity = getattr(os, "sched_getaffinity", None)
    return {
        "facedecode": __version__,
        "python": platform.python_version(),
        **versions,
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": _processor(),
        "cores": len(affinity(0)) if affinity else os.cpu_count(),
    }


def _processor() -> str:
    """The processor's name; the architecture where the system does not tell."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
