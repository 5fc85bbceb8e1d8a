"""Forecasts under bfloat16: close to float64's, nothing else touched, and told from float32's."""

import copy

import pytest
import torch

import nowcast
from nowcast.benchmarks.plain import plain_forward
from nowcast.device import choose_precision, fast_bf16
from nowcast.errors import InputError
from nowcast.models.build import build_network
from nowcast.models.checkpoint import KEY, PREFIX, Description, TrainedNetwork
from nowcast.models.settings import NetworkSettings
from nowcast.training.online import OnlineFinetuning

CPU = torch.device("cpu")
LEAD_TIMES = 8

BF16_TOLERANCE = 2**-7
"""Of pixel values up to 1: two steps of bfloat16, which rounds what is stored between the layers
to 8 significant bits."""


@pytest.fixture(params=["ConvGRU", "TrajGRU", "none"])
def network(request):
    torch.manual_seed(1)
    settings = NetworkSettings(
        recurrence=request.param,
        hidden=(8, 12, 12),
        features=(4, 12, 12),
        up_features=(4 if request.param != "none" else 8, 12, 12),
    )
    built = build_network(settings, input_frames=5, lead_times=LEAD_TIMES).eval()
    # Raised, so that the forecasts of an untrained network are not clipped.
    for module in reversed(list(built.modules())):
        if isinstance(module, torch.nn.Conv2d):
            module.bias.data.fill_(0.5)
            break
    return built


def some_frames(side=60):
    return torch.rand(2, 5, 1, side, side, generator=torch.Generator().manual_seed(2))


def in_float64(network, frames):
    double = copy.deepcopy(network).double()
    with torch.no_grad():
        if network.settings.recurrence == "ConvGRU":
            forecast = plain_forward(double, frames.double(), LEAD_TIMES, inputs_at_once=False)
        else:
            forecast = double(frames.double(), LEAD_TIMES)
    assert forecast.dtype == torch.float64
    assert forecast.std() > 0.02
    return forecast.clamp(0, 1)


def test_bf16_forecasts_are_close_to_float64s_and_float32s_closer(network):
    frames = some_frames()
    expected = in_float64(network, frames)
    single = network.forecast(frames, LEAD_TIMES)
    network.precision = "bf16"
    half = network.forecast(frames, LEAD_TIMES)
    assert half.dtype == torch.float32
    assert (single - expected).abs().max() < 2e-6
    assert 1e-4 < (half - expected).abs().max() < BF16_TOLERANCE
    assert abs(float((half - expected).mean())) < BF16_TOLERANCE / 32


def test_precision_is_that_of_forecast_alone(network):
    frames = some_frames()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with torch.no_grad():
        expected = network(frames, LEAD_TIMES)
    assert torch.equal(network.forecast(frames, LEAD_TIMES), expected.clamp(0, 1))
    network.precision = "bf16"
    network.forecast(frames, LEAD_TIMES)
    with torch.no_grad():
        assert torch.equal(network(frames, LEAD_TIMES), expected)
    assert network.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert copy.deepcopy(network).precision == "bf16"
    network.precision = "fp32"
    assert torch.equal(network.forecast(frames, LEAD_TIMES), expected.clamp(0, 1))


def test_online_learning_is_float32_whatever_the_precision(network):
    inputs, targets = some_frames(), torch.rand(2, LEAD_TIMES, 1, 60, 60)
    learners = {}
    for precision in ("fp32", "bf16"):
        learner = OnlineFinetuning(copy.deepcopy(network), learning_rate=1e-2)
        learner.network.precision = precision
        before = learner.forecast(inputs, LEAD_TIMES)
        learner(inputs, targets, torch.ones_like(targets, dtype=torch.bool))
        # What it has learned shows: no weights of before are kept in bfloat16.
        assert (learner.forecast(inputs, LEAD_TIMES) - before).abs().max() > 0.01
        learners[precision] = learner.network.state_dict()
    for name, value in learners["fp32"].items():
        assert torch.equal(value, learners["bf16"][name]), name


@pytest.fixture
def checkpoint(network, tmp_path):
    about = {"step_minutes": 6, "input_frames": 5, "lead_times": LEAD_TIMES}
    description = Description(
        network.settings, **about, frame_shape=(60, 60), inhibition=None, run={}
    )
    state = {f"{PREFIX}{name}": value for name, value in network.state_dict().items()}
    path = tmp_path / "network.ckpt"
    torch.save({KEY: description.as_entry(), "state_dict": state}, path)
    return path


def test_a_loaded_network_forecasts_in_the_precision_asked_for(network, checkpoint):
    frames = some_frames()
    forecasts = {"fp32": network.forecast(frames, LEAD_TIMES)}
    network.precision = "bf16"
    forecasts["bf16"] = network.forecast(frames, LEAD_TIMES)
    assert torch.equal(nowcast.load(checkpoint).forecast(frames, LEAD_TIMES), forecasts["fp32"])
    for precision, expected in forecasts.items():
        loaded = nowcast.load(checkpoint, device="cpu", precision=precision)
        assert isinstance(loaded, TrainedNetwork)
        assert loaded.network.precision == precision
        assert torch.equal(loaded.forecast(frames, LEAD_TIMES), expected)
    automatic = nowcast.load(checkpoint, precision="auto").network.precision
    assert automatic == ("bf16" if fast_bf16(CPU) else "fp32")


def test_another_device_or_precision_is_refused_in_one_line(checkpoint):
    for settings, message in (
        ({"precision": "fp16"}, "precision: found 'fp16', expected fp32, bf16 or auto"),
        ({"device": "abacus"}, "device: found 'abacus'"),
    ):
        with pytest.raises(InputError, match=message) as error:
            nowcast.load(checkpoint, **settings)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("capabilities", "fast"),
    [
        ({"avx512_bf16": True, "amx_bf16": False}, True),
        ({"avx512_bf16": False, "amx_bf16": True}, True),
        ({"avx512_bf16": False, "amx_bf16": False, "avx512_f": True}, False),
        ({"neon": True}, False),
    ],
)
def test_auto_is_bf16_where_the_cpu_has_instructions_for_it(monkeypatch, capabilities, fast):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert fast_bf16(CPU) is fast
    assert choose_precision("auto", CPU) == ("bf16" if fast else "fp32")
    assert choose_precision("bf16", CPU) == "bf16"


def test_auto_is_float32_where_torch_does_not_tell(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert choose_precision("auto", CPU) == "fp32"
    assert choose_precision("auto", torch.device("meta")) == "fp32"


def test_the_processor_says_the_same():
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            flags = next(line for line in lines if line.startswith("flags")).split()
    except (OSError, StopIteration):
        pytest.skip("the system does not list the processor's flags")
    if not hasattr(torch.cpu, "get_capabilities"):
        pytest.skip("this release of torch does not tell")
    assert fast_bf16(CPU) == bool({"avx512_bf16", "amx_bf16"} & set(flags))
