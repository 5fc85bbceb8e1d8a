"""Our networks where mlcast expects one, and MEmeL in mlcast's own network; with mlcast itself."""

import copy

import numpy as np
import pytest
import torch
import xarray as xr

import nowcast
from nowcast import memel
from nowcast.errors import InputError
from nowcast.models.build import build_network
from nowcast.models.checkpoint import Description, TrainedNetwork
from nowcast.models.settings import NetworkSettings
from nowcast.plugins.mlcast_network import MlcastNetwork
from nowcast.radar.units import pixel_to_rain_rate, rain_rate_to_pixel

REASON = "mlcast is not installed; docs/pysteps.md says how"
normalization = pytest.importorskip("mlcast.data.normalization", reason=REASON)
from mlcast.models import ConvGruModel  # noqa: E402
from mlcast.nowcasting_module import NowcastLightningModule  # noqa: E402
from pytorch_lightning import Trainer  # noqa: E402

SCALING = normalization.DEFAULT_SCALING
SMALL = NetworkSettings(
    hidden=(4, 6, 6), features=(2, 6, 6), up_features=(2, 6, 6), coordinates=False
)


def trained(**changes):
    """A small network with a description, raised so that it does not forecast no rain at all."""
    torch.manual_seed(1)
    settings = NetworkSettings(**{**vars(SMALL), **changes})
    network = build_network(settings, 5, 20)
    network.forecaster.head[-1].bias.data.fill_(0.4)
    about = {"step_minutes": 5, "input_frames": 5, "lead_times": 20, "frame_shape": (30, 30)}
    return TrainedNetwork(network, Description(settings, **about, inhibition=None, run={}))


def fresh():
    torch.manual_seed(1)
    return build_network(SMALL, 5, 20)


def rates(batch=2, frames=8, side=60):
    """Showers that move, in mm/h, between nothing and 30: (batch, frames, 1, y, x)."""
    y, x = np.mgrid[:side, :side]
    fields = [
        30 * np.exp(-((x - 10 - 3 * t - 15 * b) ** 2 + (y - 30 + 2 * t) ** 2) / 72)
        for b in range(batch)
        for t in range(frames)
    ]
    rate = np.stack(fields).reshape(batch, frames, 1, side, side)
    return np.where(rate < 0.05, 0.0, rate).astype(np.float32)


def normalised(rate):
    return torch.from_numpy(SCALING.rainfall_rate_to_normalized(rate))


def fit(module, steps=1, validate=False):
    """Train with mlcast's own module for some steps on a batch of made-up rain, as mlcast does."""
    data = normalised(rates())
    item = {"input": data[0, :5], "target": data[0, 5:]}
    other = {"input": data[1, :5], "target": data[1, 5:]}
    loader = torch.utils.data.DataLoader([item, other], batch_size=2)
    trainer = Trainer(
        max_steps=steps,
        max_epochs=steps,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(module, loader, loader if validate else None)
    assert trainer.global_step == steps
    return {name: value.item() for name, value in trainer.callback_metrics.items()}


def test_values_pass_through_mm_per_hour_as_mlcast_has_it():
    network = MlcastNetwork(fresh())
    values = np.linspace(-1, 1, 2001, dtype=np.float64)
    rate = SCALING.normalized_to_rainfall_rate(values)
    assert rate[0] == 0
    with np.errstate(divide="ignore"):
        expected = rain_rate_to_pixel(rate).clip(0, 1)
    found = network.to_pixels(torch.from_numpy(values))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
    assert found[0] == 0
    assert found[1] > 0.07  # 0 dBZ of Marshall and Palmer, 0.037 mm/h.
    assert network.to_pixels(torch.tensor([torch.nan])) == 0

    pixels = np.linspace(-0.5, 1.5, 2001)
    expected = SCALING.rainfall_rate_to_normalized(pixel_to_rain_rate(pixels))
    found = network.eval().to_normalised(torch.from_numpy(pixels))
    np.testing.assert_allclose(found, expected.clip(-1, 1), rtol=0, atol=1e-12)
    assert found.min() == -1
    assert found.max() == 1
    single = network.to_normalised(torch.from_numpy(pixels).float())
    assert single.dtype == torch.float32
    np.testing.assert_allclose(single, expected.clip(-1, 1), rtol=0, atol=2e-6)


def test_another_scale_of_mlcast_is_taken():
    scaling = normalization.ReflectivityScaling(
        a=316.0, b=1.5, dbz_floor=-10, dbz_ceiling=70, norm_min=0.0, norm_max=1.0
    )
    network = MlcastNetwork(fresh(), scaling)
    rate = np.geomspace(0.05, 100, 50)
    values = torch.from_numpy(scaling.rainfall_rate_to_normalized(rate))
    pixels = network.to_pixels(values)
    np.testing.assert_allclose(pixels, rain_rate_to_pixel(rate), rtol=0, atol=1e-12)
    np.testing.assert_allclose(network.to_normalised(pixels), values, rtol=0, atol=1e-12)


def test_conversions_are_differentiable():
    network = MlcastNetwork(fresh())
    pixels = torch.linspace(0.1, 0.9, 9, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(network.to_normalised, pixels)
    values = torch.linspace(-0.95, 0.95, 9, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(network.to_pixels, values)


@pytest.mark.parametrize("along_flow", [False, True])
def test_what_mlcast_predicts_is_our_forecast(along_flow):
    model = trained(along_flow=along_flow)
    past = rates(batch=1)[0, :6, 0]
    module = NowcastLightningModule(MlcastNetwork(model))
    found = module.predict(torch.from_numpy(past), forecast_steps=7)
    frames = xr.DataArray(
        past,
        dims=("time", "y", "x"),
        coords={"time": np.datetime64("2020-01-01", "ns") + np.timedelta64(5, "m") * np.arange(6)},
        attrs={"units": "mm/h"},
    )
    expected = nowcast.forecast(model, frames, 7, coverage="stays")["rain_rate"].to_numpy()
    # 0 dBZ is no rain in mlcast, 60 dBZ the most that there is.
    lowest, highest = 200 ** (-1 / 1.6), (1e6 / 200) ** (1 / 1.6)
    expected = np.where(expected > lowest, expected.clip(max=highest), 0)
    assert found.shape == (1, 7, 60, 60)
    np.testing.assert_allclose(found[0], expected, rtol=2e-4, atol=2e-4)
    assert 1 < expected.mean() < highest


def test_the_network_of_the_package_on_real_rain(shared):
    observed = nowcast.read_frames(shared / "real-radar/events/fmi_20160928.nc", last=26)
    observed = observed[:6, 740:860, 300:420]
    past = observed.where(observed > 0.05, 0.0)
    module = NowcastLightningModule(MlcastNetwork())
    found = module.predict(torch.from_numpy(past.to_numpy()), forecast_steps=3)[0]
    # mlcast has no word for what is missing: its forecasts are those of all pixels.
    ours = nowcast.forecast(nowcast.load("convgru-5min"), past, 3, coverage="stays")
    expected = ours["rain_rate"].to_numpy()
    difference = np.abs(found - expected)
    # Where two pixels come out nearly equal, the values of the last frame go to them in another
    # order; what is below 0 dBZ is no rain.
    assert np.quantile(difference, 0.99) < 0.04
    np.testing.assert_allclose(
        np.sort(found, axis=None), np.sort(expected, axis=None), rtol=1e-3, atol=0.04
    )


def test_mlcast_trains_a_network_that_has_learnt_nothing_yet():
    """Which forecasts no rain: if it cut its values as mlcast does, no gradient would be left."""
    network = MlcastNetwork(fresh())
    module = NowcastLightningModule(network, loss_class="mse")
    before = {name: value.clone() for name, value in network.state_dict().items()}
    inputs = normalised(rates())
    with torch.no_grad():
        forecast = network(inputs[:, :5], steps=3)
    np.testing.assert_allclose(forecast, -1, rtol=0, atol=1e-7)
    assert (forecast > -1).all()
    assert torch.equal(network.eval()(inputs[:, :5], steps=3), torch.full((2, 3, 1, 60, 60), -1.0))
    network.train()
    first = fit(module, steps=1)["train_loss"]
    after = network.state_dict()
    assert all(torch.isfinite(value).all() for value in after.values())
    unchanged = [name for name in before if torch.equal(before[name], after[name])]
    assert unchanged == []
    assert fit(module, steps=30)["train_loss"] < 0.8 * first


def test_mlcast_finetunes_the_network_of_the_package_and_validates_it():
    network = MlcastNetwork()
    module = NowcastLightningModule(
        network, loss_class="crps", optimizer=lambda weights: torch.optim.Adam(weights, lr=1e-4)
    )
    before = copy.deepcopy(network.state_dict())
    # Validation asks for ten members and gets the one that there is.
    metrics = fit(module, steps=1, validate=True)
    assert np.isfinite([metrics["train_loss"], metrics["val_loss"]]).all()
    changed = [
        name for name, value in network.state_dict().items() if (value != before[name]).any()
    ]
    assert len(changed) > 0.9 * len(before)


def test_half_precision_outside_does_not_coarsen_the_scale():
    network = MlcastNetwork(fresh()).eval()
    pixels = torch.linspace(0.2, 0.7, 50)
    coarse = network.to_normalised(pixels.bfloat16())
    assert coarse.dtype == torch.float32
    assert torch.equal(coarse, network.to_normalised(pixels.bfloat16().float()))


def test_there_is_one_forecast_whatever_the_size_of_the_ensemble():
    network = MlcastNetwork(trained()).eval()
    x = normalised(rates(batch=2, frames=6, side=45))
    alone = network(x, steps=4)
    assert alone.shape == (2, 4, 1, 45, 45)
    assert torch.equal(network(x, steps=4, ensemble_size=10), alone)
    assert torch.equal(network(x[:, 1:], steps=4, ensemble_size=1), alone)  # It sees five frames.


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 5, 2, 30, 30), r"found x of shape \(1, 5, 2, 30, 30\), expected \(batch, time, 1"),
        ((5, 1, 30, 30), r"found x of shape \(5, 1, 30, 30\)"),
        ((1, 4, 1, 30, 30), "found 4 frames, the network needs at least 5"),
    ],
)
def test_other_inputs_are_refused(shape, message):
    with pytest.raises(InputError, match=message):
        MlcastNetwork(trained())(torch.zeros(shape), steps=3)


def convgru_of_mlcast():
    torch.manual_seed(2)
    return NowcastLightningModule(ConvGruModel(input_channels=1, num_blocks=3), loss_class="mse")


def test_memel_in_the_network_of_mlcast_trains_and_leaves_no_trace():
    module = convgru_of_mlcast()
    layers = memel.insert(module, at=["network.*.convgru.cell"], top=1, late_start=3)
    assert set(layers) == {
        f"network.{part}.blocks.{block}.convgru.cell"
        for part in ("encoder", "decoder")
        for block in range(3)
    }
    assert np.isfinite(fit(module, steps=3)["train_loss"])
    # Every call of every cell: five frames seen, three forecast, in three steps.
    calls = {name: int(layer.calls) for name, layer in layers.items()}
    assert {n for name, n in calls.items() if "encoder" in name} == {15}
    assert {n for name, n in calls.items() if "decoder" in name} == {9}

    plain = convgru_of_mlcast()
    plain.load_state_dict(memel.without_statistics(module.state_dict()))
    x = normalised(rates())[:, :5]
    with torch.no_grad():
        inhibited = module.train()(x, forecast_steps=3)
        memel.remove(module)
        found, expected = (one.train()(x, forecast_steps=3) for one in (module, plain))
    assert not torch.equal(inhibited, found)
    assert torch.equal(found, expected)
    assert module.state_dict().keys() == plain.state_dict().keys()


def test_memel_before_any_training_is_as_if_it_had_never_been():
    module = convgru_of_mlcast()
    x = normalised(rates())[:, :5]
    before = module(x, forecast_steps=3)
    memel.insert(module, at=["network.*.convgru.cell"], top=1, late_start=0)
    module(x, forecast_steps=3)
    memel.remove(module)
    assert torch.equal(module(x, forecast_steps=3), before)
