"""A small frame store to train on."""

import pytest
from moving_square import write_moving_square


@pytest.fixture(scope="session")
def store(tmp_path_factory):
    return write_moving_square(tmp_path_factory.mktemp("store") / "square.h5")
