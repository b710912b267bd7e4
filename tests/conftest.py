"""Fixtures that several test files use."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder `shared` beside the repository, with data and weights that are too large for it."""
    if not SHARED.is_dir():
        pytest.skip(f"needs the folder {SHARED}, which is not there")
    return SHARED


@pytest.fixture(scope="session")
def lfw(shared: Path) -> Path:
    """LFW: `images/`, `protocol/`, `faces.csv`."""
    if not (shared / "data" / "lfw" / "images").is_dir():
        pytest.skip(f"needs the LFW images in {shared / 'data' / 'lfw'}, which are not there")
    return shared / "data" / "lfw"
