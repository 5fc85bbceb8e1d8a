"""The trajectory gated recurrent unit of the HKO-7 benchmark.

Shi et al., "Deep Learning for Precipitation Nowcasting: A Benchmark and A New Model", NeurIPS 2017,
Eq. 3–5. The gates and the way through a sequence are the ConvGRU's.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from nowcast.models.convgru import RecurrentLayer, convolved, leaky, next_state

FLOW_CHANNELS = 32
"""Of the hidden layer of the network that generates the flows."""


def warp(state: Tensor, flows: Tensor) -> Tensor:
    """A state as seen along flows: at (y, x), what it is at (y − v, x − u).

    Between pixels the state is bilinear, outside the grid it is zero, as in the authors' code.

    Args:
        state: (batch, channel, y, x).
        flows: (batch, 2 links, y, x) in pixels; of each link u, to the east, before v, to the
            south.

    Returns:
        The state along each link, (batch, channel, link, y, x), in the state's precision.
    """
    height, width = state.shape[-2:]
    # In bfloat16 a position would be off by a good part of a pixel.
    precise = torch.promote_types(flows.dtype, torch.float32)
    u, v = flows.to(precise).unflatten(1, (-1, 2)).unbind(2)
    x = torch.arange(width, dtype=precise, device=state.device) - u
    y = torch.arange(height, dtype=precise, device=state.device)[:, None] - v
    # Sampling knows positions in [−1, 1], the middles of the outermost pixels.
    x, y = 2 * x / max(width - 1, 1) - 1, 2 * y / max(height - 1, 1) - 1
    # The links stand one below another in one tall picture, so that none needs a copy of the state.
    tall = functional.grid_sample(
        state.to(precise),
        torch.stack([x, y], dim=-1).flatten(1, 2),
        "bilinear",
        "zeros",
        align_corners=True,
    )
    return tall.to(state).unflatten(2, (-1, height))


class TrajGRUCell(nn.Module):
    """One time step of a TrajGRU, given the input's shares.

    The next state of a pixel depends on the state at `links` places, which a small network finds
    from input and state: the flows of Eq. 3, with Eq. 4 in `warp`.

    Args:
        hidden: channels of the state.
        links: places that each pixel is linked to.
        bounded: keep states within ±1, by tanh in place of leaky.
    """

    def __init__(self, hidden: int, links: int, bounded: bool = False) -> None:
        super().__init__()
        self.bounded = bounded
        self.h2f = nn.Conv2d(hidden, FLOW_CHANNELS, 5, padding=2)
        self.flows = nn.Conv2d(FLOW_CHANNELS, 2 * links, 5, padding=2)
        # Its input channels: all links of the first state channel, then of the second, …
        self.ret = nn.Conv2d(hidden * links, 3 * hidden, 1)

    def forward(self, shares: tuple[Tensor, Tensor] | None, h: Tensor) -> Tensor:
        """The next state.

        Args:
            shares: the input's share of the gates (batch, 3 hidden, y, x) and of what the flows are
                made from (batch, 32, y, x); None without input.
            h: the state (batch, hidden, y, x).
        """
        i2h, i2f = shares if shares is not None else (None, None)
        h2f = self.h2f(h)
        flows = self.flows(leaky(h2f if i2f is None else h2f + i2f))
        return next_state(i2h, self.ret(warp(h, flows).flatten(1, 2)), h, self.bounded)


class TrajGRU(RecurrentLayer):
    """A TrajGRU over a sequence.

    Args:
        inputs: channels of the input; 0 for a network that runs without input.
        hidden: channels of the state.
        links: places that each pixel is linked to (L).
        bounded: keep states within ±1, by tanh in place of leaky.
    """

    cell: TrajGRUCell

    def __init__(self, inputs: int, hidden: int, links: int, bounded: bool = False) -> None:
        super().__init__(hidden)
        self.i2h = nn.Conv2d(inputs, 3 * hidden, 3, padding=1) if inputs else None
        self.i2f = nn.Conv2d(inputs, FLOW_CHANNELS, 5, padding=2) if inputs else None
        self.cell = TrajGRUCell(hidden, links, bounded)

    @property
    def gates(self) -> nn.Conv2d:
        """See `RecurrentLayer.gates`."""
        return self.cell.ret

    def shares(self, x: Tensor) -> Sequence[tuple[Tensor, Tensor]]:
        """The input's shares in each time step, as `TrajGRUCell` takes them."""
        return list(zip(convolved(self.i2h, x), convolved(self.i2f, x), strict=True))
