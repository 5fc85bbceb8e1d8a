"""No test of this folder asks the network: a stray request fails instead of being answered."""

import gc
import os

import pytest
import torch

# Read when huggingface_hub is imported, thus set before any test module of this folder is.
os.environ["HF_HUB_OFFLINE"] = "1"


@pytest.fixture(autouse=True, scope="session")
def offline():
    constants = pytest.importorskip("huggingface_hub.constants")
    assert constants.HF_HUB_OFFLINE


@pytest.fixture(scope="module")
def quick():
    """Many tiny trainings: one thread each, and no look through all that pytest has imported.

    Trainer collects garbage before every training, which takes longer than the training here.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()
    torch.set_num_threads(threads)
