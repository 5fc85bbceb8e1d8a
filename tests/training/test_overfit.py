"""A small network can learn one wet clip of real radar by heart."""

import pytest
import torch

from nowcast.models.encoder_forecaster import EncoderForecaster, NetworkSettings
from nowcast.models.persistence import Persistence
from nowcast.radar.event_preparation import prepare_events
from nowcast.radar.store import FrameStore
from nowcast.training.data import SequentialClips, split_clip
from nowcast.training.loss import balanced_loss


@pytest.mark.slow
def test_300_steps_on_one_real_clip_bring_the_loss_below_half_of_persistences(shared, tmp_path):
    event = shared / "real-radar" / "events" / "fmi_20160928.nc"
    prepare_events(tmp_path / "event.h5", train=[event], tile_size=60, workers=1)
    clips = SequentialClips(FrameStore(tmp_path / "event.h5"), "train", length=25)
    frames, mask = max((clips[i] for i in range(len(clips))), key=lambda c: float(c[0].sum()))
    inputs, targets, counts = split_clip((frames[None], mask[None]), input_frames=5)

    def loss_of(prediction):
        return sum(balanced_loss(prediction, targets, counts))

    torch.manual_seed(0)
    network = EncoderForecaster(
        NetworkSettings(hidden=(16, 32, 32), features=(8, 32, 32), up_features=(8, 32, 32))
    )
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 300)
    for _ in range(300):
        loss = loss_of(network(inputs, 20)) * 1e-5
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 50)
        optimizer.step()
        schedule.step()
    learnt, persistence = loss_of(network(inputs, 20)), loss_of(Persistence().forecast(inputs, 20))
    assert learnt.item() < 0.5 * persistence.item()
    assert persistence.item() > 100  # a wet clip
