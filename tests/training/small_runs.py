"""Settings of small trainings that finish in a second, and what they leave."""

from nowcast.models.checkpoint import read_checkpoint
from nowcast.models.encoder_forecaster import NetworkSettings
from nowcast.training.data import DataSettings
from nowcast.training.inhibition import HIDDEN_STATES
from nowcast.training.module import OptimizationSettings
from nowcast.training.run_settings import RunSettings

NETWORK = NetworkSettings(hidden=(4, 6, 6), features=(2, 6, 6), up_features=(2, 6, 6))
INHIBITION = {"at": HIDDEN_STATES, "late_start": 8}
STEPS = OptimizationSettings(steps=8, learning_rate=1e-3, decay_factor=0.5, decay_every=3)


def data(store, **changes):
    wanted = {"store": store.path, "input_frames": 5, "lead_times": 20, "workers": 0}
    return DataSettings(**(wanted | changes))


def run(out, **changes):
    wanted = {"out": out, "validate_every": 4, "valid_clips": 2, "checkpoint_every": 3,
              "log_every": 1, "accelerator": "cpu", "devices": 1,
              "precision": "32-true"}  # fmt: skip
    return RunSettings(**(wanted | changes))


def weights(path):
    return read_checkpoint(path)[1]["state_dict"]
