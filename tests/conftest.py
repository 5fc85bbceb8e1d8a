"""What tests of all rooms share."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder with the oracles, HKO-7 facts and real radar; tests that need it skip without it."""
    default = Path(__file__).resolve().parents[2] / "shared"
    folder = Path(os.environ.get("NOWCAST_SHARED", default))
    if not (folder / "oracles").is_dir():
        pytest.skip(
            f"no reference data at {folder}; set NOWCAST_SHARED to the folder that holds it"
        )
    return folder
