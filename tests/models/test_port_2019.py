"""Checkpoints of the 2019 PyTorch port: state dicts written by hand, its forward pass restated.

Names and shapes are the port's own; nothing here is saved or named by our code.
"""

import re

import pytest
import torch
from torch.nn import functional

import nowcast
from nowcast.errors import InputError
from nowcast.models.checkpoint import load, read_checkpoint
from nowcast.models.settings import PORT_2019_TRAJGRU


def recurrent(inputs, hidden, links):
    """Weights of one TrajGRU layer of the port."""
    return {
        "i2h": (3 * hidden, inputs, 3, 3),
        "i2f_conv1": (32, inputs, 5, 5),
        "h2f_conv1": (32, hidden, 5, 5),
        "flows_conv": (2 * links, 32, 5, 5),
        "ret": (3 * hidden, hidden * links, 1, 1),
    }


FULL = {
    "encoder.stage1.conv1_leaky_1": (8, 1, 7, 7),
    "encoder.rnn1": recurrent(8, 64, 13),
    "encoder.stage2.conv2_leaky_1": (192, 64, 5, 5),
    "encoder.rnn2": recurrent(192, 192, 13),
    "encoder.stage3.conv3_leaky_1": (192, 192, 3, 3),
    "encoder.rnn3": recurrent(192, 192, 9),
    "forecaster.rnn3": recurrent(192, 192, 13),
    "forecaster.stage3.deconv1_leaky_1": (192, 192, 4, 4),
    "forecaster.rnn2": recurrent(192, 192, 13),
    "forecaster.stage2.deconv2_leaky_1": (192, 64, 5, 5),
    "forecaster.rnn1": recurrent(64, 64, 9),
    "forecaster.stage1.deconv3_leaky_1": (64, 8, 7, 7),
    "forecaster.stage1.conv3_leaky_2": (8, 8, 3, 3),
    "forecaster.stage1.conv3_3": (1, 8, 1, 1),
}
SMALL = {
    "encoder.stage1.conv1_leaky_1": (3, 1, 7, 7),
    "encoder.rnn1": recurrent(3, 6, 4),
    "encoder.stage2.conv2_leaky_1": (5, 6, 5, 5),
    "encoder.rnn2": recurrent(5, 4, 3),
    "encoder.stage3.conv3_leaky_1": (7, 4, 3, 3),
    "encoder.rnn3": recurrent(7, 5, 2),
    "forecaster.rnn3": recurrent(9, 5, 5),
    "forecaster.stage3.deconv1_leaky_1": (5, 8, 4, 4),
    "forecaster.rnn2": recurrent(8, 4, 2),
    "forecaster.stage2.deconv2_leaky_1": (4, 3, 5, 5),
    "forecaster.rnn1": recurrent(3, 6, 1),
    "forecaster.stage1.deconv3_leaky_1": (6, 2, 7, 7),
    "forecaster.stage1.conv3_leaky_2": (2, 2, 3, 3),
    "forecaster.stage1.conv3_3": (1, 2, 1, 1),
}


def state_dict(shapes):
    """Random weights; those of the flows are large enough for some to leave the grid."""
    torch.manual_seed(0)
    state = {}
    for name, entry in shapes.items():
        layers = entry if isinstance(entry, dict) else {"": entry}
        for layer, shape in layers.items():
            module = f"{name}.{layer}".removesuffix(".")
            outputs = shape[1] if "deconv" in name else shape[0]
            fan_in = torch.Size(shape).numel() / outputs
            larger = 2 if layer == "flows_conv" else 10 if name.endswith("conv3_3") else 1
            state[f"{module}.weight"] = torch.randn(shape) * (larger / fan_in**0.5)
            state[f"{module}.bias"] = torch.randn(outputs) * 0.3
    return state


def bilinear(picture, x, y):
    """(batch, channel, y, x) at positions (batch, y, x) in pixels, zero outside; by the formula."""
    height, width = picture.shape[-2:]
    total = 0
    for row in (y.floor(), y.floor() + 1):
        for column in (x.floor(), x.floor() + 1):
            weight = (1 - (x - column).abs()) * (1 - (y - row).abs())
            inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            flat = row.clamp(0, height - 1) * width + column.clamp(0, width - 1)
            index = flat.long().flatten(1)[:, None].expand(-1, picture.shape[1], -1)
            values = picture.flatten(2).gather(2, index).view_as(picture)
            total = total + torch.where(inside, weight, 0.0)[:, None] * values
    return total


class Port:
    """The port's EF network from its weights, stage by stage as its code goes through them."""

    def __init__(self, state):
        self.state = {name: value.double() for name, value in state.items()}
        self.seen_outside = False

    def layer(self, name):
        return self.state[f"{name}.weight"], self.state[f"{name}.bias"]

    def convolve(self, name, x, **how):
        return functional.conv2d(x, *self.layer(name), **how)

    def trajgru(self, name, inputs, state, seq_len):
        weight, _ = self.layer(f"{name}.flows_conv")
        links, n = weight.shape[0] // 2, self.state[f"{name}.ret.bias"].shape[0] // 3
        if state is None:
            state = torch.zeros(inputs.shape[1], n, *inputs.shape[3:], dtype=torch.float64)
        rows, columns = (torch.arange(side, dtype=torch.float64) for side in state.shape[-2:])
        outputs = []
        for i in range(seq_len):
            features = self.convolve(f"{name}.h2f_conv1", state, padding=2)
            if inputs is not None:
                features = features + self.convolve(f"{name}.i2f_conv1", inputs[i], padding=2)
            features = functional.leaky_relu(features, 0.2)
            flows = self.convolve(f"{name}.flows_conv", features, padding=2)
            warped = []
            for j in range(links):
                flow = flows[:, 2 * j : 2 * j + 2]
                x, y = columns - flow[:, 0], rows[:, None] - flow[:, 1]
                self.seen_outside |= bool((x < -1).any() or (y > state.shape[-2]).any())
                warped.append(bilinear(state, x, y))
            h2h = self.convolve(f"{name}.ret", torch.cat(warped, dim=1))
            i2h = torch.zeros_like(h2h)
            if inputs is not None:
                i2h = self.convolve(f"{name}.i2h", inputs[i], padding=1)
            reset = torch.sigmoid(i2h[:, :n] + h2h[:, :n])
            update = torch.sigmoid(i2h[:, n : 2 * n] + h2h[:, n : 2 * n])
            memory = functional.leaky_relu(i2h[:, 2 * n :] + reset * h2h[:, 2 * n :], 0.2)
            state = update * state + (1 - update) * memory
            outputs.append(state)
        return torch.stack(outputs), state

    def stage(self, function, sequence):
        merged = function(sequence.reshape(-1, *sequence.shape[2:]))
        return merged.reshape(*sequence.shape[:2], *merged.shape[1:])

    def down(self, name, stride):
        return lambda x: functional.leaky_relu(
            self.convolve(name, x, stride=stride, padding=1), 0.2
        )

    def up(self, name, stride):
        return lambda x: functional.leaky_relu(
            functional.conv_transpose2d(x, *self.layer(name), stride=stride, padding=1), 0.2
        )

    def __call__(self, frames, lead_times):
        """(time, batch, 1, y, x) to (lead time, batch, 1, y, x)."""
        x, states = frames.double(), []
        for n, stride in ((1, 5), (2, 3), (3, 2)):
            x = self.stage(self.down(f"encoder.stage{n}.conv{n}_leaky_1", stride), x)
            x, state = self.trajgru(f"encoder.rnn{n}", x, None, len(x))
            states.append(state)
        x, _ = self.trajgru("forecaster.rnn3", None, states[2], lead_times)
        x = self.stage(self.up("forecaster.stage3.deconv1_leaky_1", 2), x)
        x, _ = self.trajgru("forecaster.rnn2", x, states[1], lead_times)
        x = self.stage(self.up("forecaster.stage2.deconv2_leaky_1", 3), x)
        x, _ = self.trajgru("forecaster.rnn1", x, states[0], lead_times)
        x = self.stage(self.up("forecaster.stage1.deconv3_leaky_1", 5), x)
        name = "forecaster.stage1.conv3_leaky_2"
        x = self.stage(lambda y: functional.leaky_relu(self.convolve(name, y, padding=1), 0.2), x)
        return self.stage(lambda y: self.convolve("forecaster.stage1.conv3_3", y), x)


def saved(tmp_path, content, **how):
    path = tmp_path / "encoder_forecaster_77000.pth"
    torch.save(content, path, **how)
    return path


@pytest.mark.parametrize(
    ("shapes", "side", "lead_times"), [(SMALL, (60, 90), 5), (FULL, (60, 60), 2)]
)
def test_its_forecast_is_the_ports(tmp_path, shapes, side, lead_times):
    state = state_dict(shapes)
    frames = torch.rand(2, 3, 1, *side, dtype=torch.float64)
    # So that a good part of the forecast lies in [0, 1].
    median = Port(state)(frames.transpose(0, 1), lead_times).median()
    state["forecaster.stage1.conv3_3.bias"] += 0.3 - median.float()
    port = Port(state)
    expected = port(frames.transpose(0, 1), lead_times).transpose(0, 1)
    trained = load(saved(tmp_path, state))
    found = trained.network.double()(frames, lead_times)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    assert expected.std() > 0.05
    assert port.seen_outside
    forecast = trained.forecast(frames, lead_times)
    torch.testing.assert_close(forecast, expected.clamp(0, 1), rtol=1e-9, atol=1e-9)
    assert ((forecast > 0) & (forecast < 1)).any()


def test_the_published_form_is_known_by_its_names_and_shapes(tmp_path):
    path = saved(tmp_path, state_dict(FULL))
    description, content = read_checkpoint(path)
    assert description.network == PORT_2019_TRAJGRU
    assert description.network.forecaster_links == (9, 13, 13)
    assert (description.step_minutes, description.frame_shape) == (6, (480, 480))
    assert (description.input_frames, description.lead_times) == (5, 20)
    assert description.inhibition is None
    assert "Hzzone" in description.run["source"]
    state = content["state_dict"]
    assert state["network.encoder.stages.0.rnn.cell.ret.weight"].shape == (192, 832, 1, 1)
    assert "network.forecaster.stages.2.rnn.i2h.weight" not in state
    assert not nowcast.load(path).network.training


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda state: {"state_dict": state, "iteration": 77_000},
        lambda state: {f"module.{name}": value for name, value in state.items()},
        lambda state: {"model": {f"module.{name}": value for name, value in state.items()}},
        # Weights that the port never uses.
        lambda state: {k: v for k, v in state.items() if "forecaster.rnn3.i2" not in k},
    ],
)
def test_it_may_be_wrapped_and_is_the_same_network(tmp_path, wrapped):
    state = state_dict(SMALL)
    plain = load(saved(tmp_path, state)).network.state_dict()
    other = load(saved(tmp_path, wrapped(state))).network.state_dict()
    assert plain.keys() == other.keys()
    assert all(torch.equal(plain[name], other[name]) for name in plain)


def test_a_file_in_the_format_of_pytorch_1_0_is_read(tmp_path):
    state = state_dict(SMALL)
    path = saved(tmp_path, state, _use_new_zipfile_serialization=False)
    assert path.read_bytes()[:2] != b"PK"
    weight = load(path).network.encoder.stages[0].down.weight
    assert torch.equal(weight, state["encoder.stage1.conv1_leaky_1.weight"])


def changed(**changes):
    def change(state):
        for name, value in changes.items():
            full = next(entry for entry in state if entry.endswith(name.replace("__", ".")))
            if value is None:
                del state[full]
            else:
                state[full] = value
        return state

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (changed(rnn2__ret__bias=None), "found no encoder.rnn2.ret.bias, expected the 2019 port's"),
        (
            changed(stage1__conv3_3__weight=torch.zeros(16, 2, 1, 1)),
            "found forecaster.stage1.conv3_3.weight (16, 2, 1, 1), expected (1, 2, 1, 1)",
        ),
        (
            changed(rnn1__ret__weight=torch.zeros(18, 23, 1, 1)),
            "found encoder.rnn1.ret.weight (18, 23, 1, 1), expected (18, 24, 1, 1)",
        ),
        (
            changed(conv1_leaky_1__weight=torch.zeros(3, 4, 7, 7)),
            "found encoder.stage1.conv1_leaky_1.weight (3, 4, 7, 7), expected (3, 1, 7, 7)",
        ),
        (
            changed(rnn3__flows_conv__weight=torch.zeros(4)),
            "found encoder.rnn3.flows_conv.weight (4,), expected 4 dimensions",
        ),
        (
            changed(deconv2_leaky_1__weight=torch.zeros(4, 3, 4, 4)),
            "stride 2 has kernels 5 down and 4 up",
        ),
        (
            changed(deconv2_leaky_1__weight=torch.zeros(4, 3, 5, 4)),
            "found forecaster.stage2.deconv2_leaky_1.weight (4, 3, 5, 4), expected (4, 3, 5, 5)",
        ),
        (
            changed(rnn1__i2h__bias=torch.zeros(18, dtype=torch.int64)),
            "found no numbers as encoder.rnn1.i2h.bias",
        ),
        (
            lambda state: state | {"encoder.rnn4.ret.bias": torch.zeros(3)},
            "found encoder.rnn4.ret.bias, which the 2019 port's TrajGRU has not",
        ),
        (
            lambda _: {
                "encoder.stage1.conv1_leaky_1.weight": torch.zeros(8, 1, 7, 7),
                "encoder.rnn1._conv.weight": torch.zeros(256, 72, 3, 3),
            },
            "found a ConvLSTM of the 2019 port, expected its TrajGRU",
        ),
    ],
)
def test_what_does_not_fit_is_named_in_one_line_with_the_file(tmp_path, change, said):
    path = saved(tmp_path, change(state_dict(SMALL)))
    named = rf"encoder_forecaster_77000\.pth: .*{re.escape(said)}"
    with pytest.raises(InputError, match=named) as error:
        load(path)
    assert "\n" not in str(error.value)


def test_other_files_are_still_no_checkpoints(tmp_path):
    for content in ({"encoder.weight": torch.zeros(2)}, [torch.zeros(2)], {1: {2: 3}}):
        with pytest.raises(InputError, match="found a file without 'nowcast' entry"):
            load(saved(tmp_path, content))
