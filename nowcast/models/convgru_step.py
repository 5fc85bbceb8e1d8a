"""One ConvGRU step as one differentiable function, weight gradients once for a whole sequence.

It computes what the convolution and `next_state` of `convgru` compute, in fewer passes over memory.
A convolution of one time step is small: its weight gradient costs more than its arithmetic, the sum
of those of all steps more again. So a step's backward pass keeps what the weight gradient is made
from, and `WeightGradient` makes it of many steps at once.

There is no second derivative, and asking for one is an error; a hook on the convolution brings the
plain operations back (see `ConvGRUCell.can_share`), which have one.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.grad import conv2d_input, conv2d_weight

NEGATIVE_SLOPE = 0.2
"""Of every leaky ReLU of the benchmark's networks, the candidate state's too."""

PIXELS_AT_ONCE = 8192
"""Pixels of gradients that are kept until a weight gradient is made of them. By measurement on
CPUs: with fewer the convolution does not reach its speed, with more it gains little and memory
grows."""


class WeightGradient:
    """The weight and bias gradient of a convolution, summed over the steps of a sequence.

    Args:
        padding: of the convolution.
        shape: of its weight.
    """

    def __init__(self, padding: int, shape: tuple[int, ...]) -> None:
        self.padding, self.shape = padding, shape
        self._backward = -1
        self._weight: Tensor | None = None
        self._bias: Tensor | None = None
        self._steps: list[tuple[Tensor, Tensor]] = []
        self._pixels = 0

    def add(self, x: Tensor | None, gradient: Tensor) -> None:
        """Take in a step.

        Args:
            x: input of the convolution (batch, channel, y, x), None for zeros.
            gradient: of its output.
        """
        backward = torch._C._current_graph_task_id()
        if backward != self._backward:
            # An earlier backward pass need not have come as far as to `take`.
            self._forget()
            self._backward = backward
        precise = torch.promote_types(gradient.dtype, torch.float32)
        self._bias = _sum(self._bias, gradient.sum((0, 2, 3), dtype=precise))
        if x is None:
            return
        self._steps.append((x, gradient))
        self._pixels += gradient[:, 0].numel()
        if self._pixels >= PIXELS_AT_ONCE:
            self._sum_up()

    def take(self) -> tuple[Tensor | None, Tensor | None]:
        """Gradients of weight and bias; None of what no step had a share in."""
        self._sum_up()
        gradients = self._weight, self._bias
        self._forget()
        return gradients

    def _sum_up(self) -> None:
        if not self._steps:
            return
        x, gradient = (
            parts[0] if len(parts) == 1 else torch.cat(parts)
            for parts in zip(*self._steps, strict=True)
        )
        self._steps, self._pixels = [], 0
        weight = conv2d_weight(x, self.shape, gradient, padding=self.padding)
        precise = torch.promote_types(weight.dtype, torch.float32)
        self._weight = _sum(self._weight, weight.to(precise))

    def _forget(self) -> None:
        self._weight = self._bias = None
        self._steps, self._pixels = [], 0


def _sum(total: Tensor | None, part: Tensor) -> Tensor:
    return part if total is None else total.add_(part)


@dataclass(frozen=True)
class SequenceWeights:
    """Weights of a state-to-state convolution, for the steps of one sequence.

    Args:
        weight: (3 hidden, hidden, kernel, kernel), in the precision in which it is computed.
        bias: (3 hidden).
        gradient: where the steps' backward passes leave what its gradient is made from.
    """

    weight: Tensor
    bias: Tensor
    gradient: WeightGradient

    @classmethod
    def of(cls, convolution: nn.Conv2d) -> "SequenceWeights":
        """For one run over a sequence; under autocast cast once."""
        padding = convolution.kernel_size[0] // 2
        gradient = WeightGradient(padding, tuple(convolution.weight.shape))
        weight, bias = _Share.apply(convolution.weight, convolution.bias, gradient)
        return cls(weight, bias, gradient)


def step(
    i2h: Tensor | None, h: Tensor | None, weights: SequenceWeights, bounded: bool = False
) -> Tensor:
    """The next state, see `convgru.next_state`.

    Args:
        i2h: the input's share of the gates (batch, 3 hidden, y, x), None without input.
        h: the state (batch, hidden, y, x), None for zeros.
        weights: of the sequence that this is a step of.
        bounded: tanh in place of leaky.
    """
    after: Tensor = _Step.apply(i2h, h, weights.weight, weights.bias, weights.gradient, bounded)
    return after


class _Share(torch.autograd.Function):
    """Hands weights to the steps of a sequence; its backward pass comes after all of theirs."""

    @staticmethod
    def forward(
        ctx: Any, weight: Tensor, bias: Tensor, gradient: WeightGradient
    ) -> tuple[Tensor, Tensor]:
        ctx.gradient = gradient
        ctx.set_materialize_grads(False)
        kind = weight.device.type
        if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
            dtype = torch.get_autocast_dtype(kind)
            return weight.to(dtype), bias.to(dtype)
        return weight.view_as(weight), bias.view_as(bias)

    @staticmethod
    def backward(ctx: Any, *_: None) -> tuple[Tensor | None, Tensor | None, None]:
        _check_first_derivative()
        return *ctx.gradient.take(), None


class _Step(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        i2h: Tensor | None,
        h: Tensor | None,
        weight: Tensor,
        bias: Tensor,
        gradient: WeightGradient,
        bounded: bool,
    ) -> Tensor:
        if h is not None:
            h = h.to(weight.dtype)
            gates = functional.conv2d(h, weight, bias, padding=gradient.padding)
        else:
            assert i2h is not None
            gates = torch.empty_like(i2h).copy_(bias[:, None, None])
        hidden = gates.shape[1] // 3
        both = gates[:, : 2 * hidden]
        if i2h is not None:
            both.add_(i2h[:, : 2 * hidden])
        both.sigmoid_()
        reset, update, candidate = gates.chunk(3, dim=1)
        if i2h is None:
            new = reset * candidate
        else:
            new = torch.addcmul(i2h[:, 2 * hidden :], reset, candidate)
        if bounded:
            new.tanh_()
        else:
            functional.leaky_relu_(new, NEGATIVE_SLOPE)
        ctx.save_for_backward(h, weight, gates, new)
        ctx.gradient, ctx.has_input, ctx.bounded = gradient, i2h is not None, bounded
        if h is None:
            return torch.addcmul(new, new, update, value=-1)
        return torch.lerp(new, h, update)

    @staticmethod
    def backward(ctx: Any, after: Tensor) -> tuple[Tensor | None, ...]:
        _check_first_derivative()
        h, weight, gates, new = ctx.saved_tensors
        hidden = new.shape[1]
        reset, update, candidate = gates.chunk(3, dim=1)
        d_gates = torch.empty_like(gates)
        d_reset, d_update, d_candidate = d_gates.chunk(3, dim=1)
        d_h = after * update
        d_new = after - d_h
        if ctx.bounded:
            d_new = torch.ops.aten.tanh_backward(d_new, new)
        else:
            d_new = torch.ops.aten.leaky_relu_backward(d_new, new, NEGATIVE_SLOPE, True)
        difference = new.neg() if h is None else h - new
        sigmoid_backward = torch.ops.aten.sigmoid_backward.grad_input
        sigmoid_backward(difference.mul_(after), update, grad_input=d_update)
        sigmoid_backward(d_new * candidate, reset, grad_input=d_reset)
        torch.mul(d_new, reset, out=d_candidate)
        if any(ctx.needs_input_grad[2:4]):
            ctx.gradient.add(h, d_gates)
        if h is None or not ctx.needs_input_grad[1]:
            d_h = None
        else:
            padding = ctx.gradient.padding
            d_h += conv2d_input(h.shape, weight, d_gates, padding=padding)
        d_i2h = None
        if ctx.has_input:
            d_i2h = torch.cat([d_gates[:, : 2 * hidden], d_new], dim=1)
        return d_i2h, d_h, None, None, None, None


def _check_first_derivative() -> None:
    if torch.is_grad_enabled():
        raise RuntimeError(
            "ConvGRU: found a backward pass with create_graph, expected one without: its fused "
            "step has no second derivative"
        )
