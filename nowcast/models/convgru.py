"""The convolutional gated recurrent unit of the HKO-7 benchmark.

What it shares with the TrajGRU, the gates and the way through a sequence, stands here too.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from nowcast.models.convgru_step import NEGATIVE_SLOPE, SequenceWeights, step


def leaky(x: Tensor) -> Tensor:
    """The benchmark's activation function."""
    return functional.leaky_relu(x, NEGATIVE_SLOPE)


def observed(module: nn.Module) -> bool:
    """Whether somebody looks at the calls of a module, or changes what comes out of them."""
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
        or "forward" in vars(module)
    )


def next_state(i2h: Tensor | None, h2h: Tensor, h: Tensor | None, bounded: bool = False) -> Tensor:
    """The gates of a ConvGRU or TrajGRU.

    h' = u ∘ h + (1 − u) ∘ n with u = σ(i2h_u + h2h_u), r = σ(i2h_r + h2h_r) and
    n = leaky(i2h_n + r ∘ h2h_n), channels in the order reset, update, candidate (Shi et al.,
    NeurIPS 2017, Eq. 1 and 3 with the activation of their code).

    Args:
        i2h: the input's share of the gates (batch, 3 hidden, y, x), None without input.
        h2h: the state's share, of the same shape, or one that broadcasts to it.
        h: the state (batch, hidden, y, x), None for zeros.
        bounded: tanh in place of leaky.
    """
    reset, update, candidate = h2h.chunk(3, dim=1)
    if i2h is not None:
        i2h_reset, i2h_update, i2h_candidate = i2h.chunk(3, dim=1)
        reset, update = reset + i2h_reset, update + i2h_update
    candidate = torch.sigmoid(reset) * candidate
    if i2h is not None:
        candidate = candidate + i2h_candidate
    candidate = torch.tanh(candidate) if bounded else leaky(candidate)
    change = -candidate if h is None else h - candidate
    return candidate + torch.sigmoid(update) * change


class RecurrentLayer(nn.Module):
    """A recurrent cell over a sequence; the input is convolved once for all time steps.

    Args:
        hidden: channels of the state.
    """

    cell: nn.Module
    """Makes the next state of the input's share in it and the state."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.hidden = hidden

    def remember(self, bias: float) -> None:
        """Add to the biases of the update gates: an untrained layer forgets less."""
        found = self.gates.bias
        assert found is not None
        with torch.no_grad():
            found[self.hidden : 2 * self.hidden] += bias

    @property
    def gates(self) -> nn.Conv2d:
        """What makes the state's share of the gates."""
        raise NotImplementedError

    def shares(self, x: Tensor) -> Sequence[Any]:
        """The input's share in each time step, for the cell, of (time, batch, channel, y, x)."""
        raise NotImplementedError

    def initial_state(self, x: Tensor) -> Tensor | None:
        """Zeros for an input (time, batch, channel, y, x), or None where the cell knows them so."""
        return x.new_zeros(x.shape[1], self.hidden, *x.shape[-2:])

    def cell_for_sequence(self) -> Callable[..., Tensor]:
        """The cell, with what all steps of a sequence share."""
        return self.cell

    def forward(
        self, x: Tensor | None, state: Tensor | None = None, steps: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """Run over a sequence.

        Args:
            x: input (time, batch, channel, y, x), or None to run without input.
            state: state to start from (batch, hidden, y, x); zeros where None.
            steps: time steps to run where there is no input.

        Returns:
            States (time, batch, hidden, y, x) and the last of them.
        """
        name = type(self).__name__
        shares: Sequence[Any]
        if x is not None:
            shares = self.shares(x)
        elif steps is not None:
            shares = [None] * steps
        else:
            raise ValueError(f"{name}: without input the number of steps is needed")
        if state is None:
            if x is None:
                raise ValueError(f"{name}: without input a state is needed")
            state = self.initial_state(x)
        cell, states = self.cell_for_sequence(), []
        for share in shares:
            state = cell(share, state)
            states.append(state)
        return torch.stack(states), states[-1]


def convolved(convolution: nn.Conv2d | None, x: Tensor) -> Sequence[Tensor]:
    """A convolution of each time step of (time, batch, channel, y, x), all at once.

    Raises:
        ValueError: if there is no convolution, as in a layer that was built without input.
    """
    if convolution is None:
        raise ValueError("recurrent layer: built without input, called with one")
    return convolution(x.flatten(0, 1)).unflatten(0, x.shape[:2]).unbind(0)


class ConvGRUCell(nn.Module):
    """One time step of a ConvGRU, given the input's share of the gates; see `next_state`.

    Args:
        hidden: channels of the state.
        state_kernel: side of the state-to-state (h2h) kernel, odd.
        bounded: keep states within ±1, by tanh in place of leaky.
    """

    def __init__(self, hidden: int, state_kernel: int, bounded: bool = False) -> None:
        super().__init__()
        self.bounded = bounded
        self.h2h = nn.Conv2d(hidden, 3 * hidden, state_kernel, padding=state_kernel // 2)

    def forward(
        self, i2h: Tensor | None, h: Tensor | None, weights: SequenceWeights | None = None
    ) -> Tensor:
        """The next state.

        Args:
            i2h: the input's share of the gates (batch, 3 hidden, y, x), None without input.
            h: the state (batch, hidden, y, x), None for zeros.
            weights: those of this cell, shared by the steps of a sequence, which is faster.
        """
        if weights is not None:
            return step(i2h, h, weights, self.bounded)
        if h is not None:
            return next_state(i2h, self.h2h(h), h, self.bounded)
        bias = self.h2h.bias
        assert bias is not None
        assert i2h is not None
        return next_state(i2h, bias.view(1, -1, 1, 1).to(i2h.dtype), None, self.bounded)

    def can_share(self) -> bool:
        """Whether the steps of a sequence may share weights.

        Not where each call is looked at, nor with a convolution of another kind than ours.
        """
        convolution = self.h2h
        ours = (
            type(convolution) is nn.Conv2d
            and convolution.padding == tuple(side // 2 for side in convolution.kernel_size)
            and convolution.padding_mode == "zeros"
            and convolution.stride == convolution.dilation == (1, 1)
            and convolution.groups == 1
            and convolution.bias is not None
        )
        return ours and not observed(convolution) and not torch.compiler.is_compiling()


class ConvGRU(RecurrentLayer):
    """A ConvGRU over a sequence.

    Args:
        inputs: channels of the input; 0 for a network that runs without input.
        hidden: channels of the state.
        state_kernel: side of the state-to-state (h2h) kernel, odd.
        input_kernel: side of the input-to-state (i2h) kernel, odd.
        bounded: keep states within ±1, by tanh in place of leaky.
    """

    cell: ConvGRUCell

    def __init__(
        self,
        inputs: int,
        hidden: int,
        state_kernel: int,
        input_kernel: int = 3,
        bounded: bool = False,
    ) -> None:
        super().__init__(hidden)
        self.i2h = (
            nn.Conv2d(inputs, 3 * hidden, input_kernel, padding=input_kernel // 2)
            if inputs
            else None
        )
        self.cell = ConvGRUCell(hidden, state_kernel, bounded)

    @property
    def gates(self) -> nn.Conv2d:
        """See `RecurrentLayer.gates`."""
        return self.cell.h2h

    def shares(self, x: Tensor) -> Sequence[Tensor]:
        """The input's share of the gates (batch, 3 hidden, y, x) in each time step."""
        return convolved(self.i2h, x)

    def initial_state(self, x: Tensor) -> None:
        """None: convolving zeros is left out."""

    def cell_for_sequence(self) -> Callable[..., Tensor]:
        """The cell with shared weights, where it can."""
        if not self.cell.can_share():
            return self.cell
        return partial(self.cell, weights=SequenceWeights.of(self.cell.h2h))
