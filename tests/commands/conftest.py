"""The whole chain, run once through the commands on tiny synthetic rain."""

from contextlib import chdir

import pytest
from as_user import CHAIN, nowcast, write_experiment


@pytest.fixture(scope="session")
def chain(tmp_path_factory):
    """Folder in which a user ran every command, and what each said."""
    folder = tmp_path_factory.mktemp("a user's folder")
    write_experiment(folder / "experiment.yaml")
    with chdir(folder):
        said = {
            command: nowcast(*command.split(), "--config", "experiment.yaml") for command in CHAIN
        }
    return folder, said


@pytest.fixture
def folder(chain, monkeypatch):
    """The user's folder after the chain, as working directory; not to be changed."""
    monkeypatch.chdir(chain[0])
    return chain[0]
