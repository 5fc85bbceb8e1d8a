"""The MEmeL layer: statistics, selection and inhibition in one parameter-free module."""

import math
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from nowcast.memel.inhibition import deactivate, most_monosemantic
from nowcast.memel.scale import monosemantic_scale, update_statistics

Per = Literal["sample", "batch"]
Neurons = Literal["element", "channel", "last"]


class MEmeL(nn.Module):
    """Monosemanticity-based emergence learning (Algorithm 2 of the paper, D.2).

    In training, the activations with the largest monosemantic scale are set to their neuron's mean
    and their gradient is multiplied by −Δ; then the statistics take in the unmodified activations.
    In evaluation the layer is the identity. It has no parameters; its statistics are buffers that
    are saved, restored and moved with the model, in float32 or better.

    The paper prints the late-start branch of Algorithm 2 the wrong way round; the text of D.2 is
    followed: nothing is modified before `late_start`.

    Args:
        top: activations deactivated per selection (n_n). The paper's main results use 1.
        per: one selection per "sample" (E.3) or per "batch" (4.1.2).
        delta: 1 reverse deactivation, 0 naive (a), −1 naive (b), above 1 stronger (E.3).
        epsilon: variance compensation (D.2). The paper gives no value.
        forget_step: after that many calls older samples decay (n_f, D.1). The paper gives no value.
        late_start: calls that only collect statistics (l_s, D.2), counted from 0 in training mode.
            In a recurrent network a training step makes several calls. The paper gives no value.
        neurons: what a neuron is: every "element" of a sample (hidden state of a ConvGRU), a
            "channel" (second dimension; the others are samples), or the "last" dimension's entries
            (features of a transformer; batch and tokens are samples).
        in_evaluation: keep deactivating in evaluation mode too, statistics frozen (the paper's
            "-T" rows, F.1).

    Raises:
        ValueError: for a setting that is out of range.
    """

    mean: Tensor
    variance: Tensor
    calls: Tensor
    count: Tensor

    def __init__(
        self,
        top: int = 1,
        per: Per = "sample",
        delta: float = 1.0,
        epsilon: float = 1e-3,
        forget_step: int = 10_000,
        late_start: int = 1_000,
        neurons: Neurons = "element",
        in_evaluation: bool = False,
    ) -> None:
        super().__init__()
        for name, value, least in (
            ("top", top, 1),
            ("epsilon", epsilon, 0.0),
            ("forget_step", forget_step, 1),
            ("late_start", late_start, 0),
        ):
            if value < least:
                raise ValueError(f"MEmeL: {name} must be at least {least}, found {value}")
        if per not in get_args(Per):
            raise ValueError(f"MEmeL: per must be one of {get_args(Per)}, found {per!r}")
        if neurons not in get_args(Neurons):
            raise ValueError(
                f"MEmeL: neurons must be one of {get_args(Neurons)}, found {neurons!r}"
            )
        self.top = top
        self.per: Per = per
        self.delta = delta
        self.epsilon = epsilon
        self.forget_step = forget_step
        self.late_start = late_start
        self.neurons: Neurons = neurons
        self.in_evaluation = in_evaluation
        # The shape is that of the first activations seen, or of a loaded checkpoint.
        self.register_buffer("mean", torch.empty(0))
        self.register_buffer("variance", torch.empty(0))
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    def forward(self, z: Tensor) -> Tensor:
        """Activations `z`, first dimension the sample, to activations of the same shape.

        Raises:
            ValueError: if the statistics are those of other neurons than `z` has, or if a selection
                asks for more activations than there are.
        """
        if not (self.training or (self.in_evaluation and self.mean.numel())):
            return z
        self._fit_statistics(z)
        inhibited = self._inhibit(z)
        if self.training:
            self._collect(z.detach())
        return inhibited

    @torch.no_grad()
    def scale(self, z: Tensor) -> Tensor:
        """Monosemantic scale φ of `z` by the statistics as they stand, in their precision."""
        mean, variance = self._aligned(z, self.mean), self._aligned(z, self.variance)
        return monosemantic_scale(z, mean, variance, self.epsilon)

    def reset(self) -> None:
        """Forget all statistics, as if no call had been made."""
        self.mean, self.variance = self.mean.new_empty(0), self.variance.new_empty(0)
        self.calls.zero_()
        self.count.zero_()

    def extra_repr(self) -> str:
        """Settings, for `print(model)`."""
        return (
            f"top={self.top}, per={self.per!r}, delta={self.delta}, epsilon={self.epsilon}, "
            f"forget_step={self.forget_step}, late_start={self.late_start}, "
            f"neurons={self.neurons!r}, in_evaluation={self.in_evaluation}"
        )

    def _inhibit(self, z: Tensor) -> Tensor:
        order = _memory_order(z)
        phi = self._rows(self.scale(z.detach()), order)
        if self.top > phi.shape[1]:
            raise ValueError(f"MEmeL: top={self.top} of {phi.shape[1]} activations per {self.per}")
        rows = self._rows(z, order)
        selected = most_monosemantic(phi, self.top)
        # Late start without a branch on a tensor's value: z itself and −1 leave all as it is.
        started = (self.calls >= self.late_start) & (self.count >= 2)
        mean = self._mean_at(selected, z, order).to(z.dtype)
        mean = torch.where(started, mean, rows.detach().gather(1, selected))
        inhibited = deactivate(rows, selected, mean, torch.where(started, self.delta, -1.0))
        in_order = inhibited.reshape(z.shape[0], *(z.shape[d] for d in order))
        return in_order.permute(0, *(order.index(d) + 1 for d in range(1, z.ndim)))

    @torch.no_grad()
    def _collect(self, z: Tensor) -> None:
        batch = z.numel() // self.mean.numel()
        # From forget_step on, the past weighs as much as batch · forget_step samples (D.1).
        known = torch.where(self.calls < self.forget_step, self.count, batch * self.forget_step)
        z = z.to(self.mean.dtype)
        mean, variance = self.mean, self.variance
        if self.neurons == "element":
            # As flat as they lie in memory: several times faster than over strided dimensions.
            order = [d + 1 for d in _memory_order(self.mean, 0)]
            z = z.permute(0, *order).reshape(z.shape[0], -1)
            mean, variance = (s.permute([d - 1 for d in order]).view(-1) for s in (mean, variance))
        samples = self._sample_dimensions(z)
        batch_mean = z.mean(samples, keepdim=True)
        batch_variance = (z - batch_mean).square_().mean(samples)
        batch_mean = batch_mean.view_as(batch_variance)
        update_statistics(mean, variance, known, batch_mean, batch_variance, batch)
        self.count.copy_(known + batch)
        self.calls.add_(1)

    def _fit_statistics(self, z: Tensor) -> None:
        neurons = z.detach()[0] if self.neurons == "element" else z.new_empty(self._neuron_shape(z))
        if not self.mean.numel():
            dtype = torch.promote_types(z.dtype, torch.float32)
            self.mean = torch.zeros_like(neurons, dtype=dtype)
            self.variance = torch.zeros_like(neurons, dtype=dtype)
        elif self.mean.shape != neurons.shape:
            raise ValueError(
                f"MEmeL: statistics are of neurons {tuple(self.mean.shape)}, activations have "
                f"{tuple(neurons.shape)}; call reset() to start them anew"
            )
        elif self.neurons == "element" and _memory_order(neurons, 0) != _memory_order(self.mean, 0):
            for name in ("mean", "variance"):
                statistic = getattr(self, name)
                setattr(
                    self, name, torch.empty_like(neurons, dtype=statistic.dtype).copy_(statistic)
                )

    def _neuron_shape(self, z: Tensor) -> torch.Size:
        return z.shape[1:2] if self.neurons == "channel" else z.shape[-1:]

    def _sample_dimensions(self, z: Tensor) -> list[int]:
        match self.neurons:
            case "element":
                return [0]
            case "channel":
                return [0, *range(2, z.ndim)]
            case "last":
                return list(range(z.ndim - 1))

    def _aligned(self, z: Tensor, statistic: Tensor) -> Tensor:
        """A statistic of the neurons in a shape that broadcasts to the activations."""
        if self.neurons == "channel":
            return statistic.view(-1, *[1] * (z.ndim - 2))
        return statistic

    def _rows(self, z: Tensor, order: list[int]) -> Tensor:
        """A row for each selection, in the order in which `z` lies in memory."""
        rows = z.shape[0] if self.per == "sample" else 1
        return z.permute(0, *order).reshape(rows, -1)

    def _mean_at(self, selected: Tensor, z: Tensor, order: list[int]) -> Tensor:
        """Means of the neurons at columns of the rows."""
        if self.neurons == "element":
            flat = self.mean.permute([d - 1 for d in order]).reshape(-1)
            return flat[selected % flat.numel()]
        dimension = 1 if self.neurons == "channel" else z.ndim - 1
        inner = math.prod(z.shape[d] for d in order[order.index(dimension) + 1 :])
        return self.mean[selected // inner % self.mean.numel()]

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        # A fresh layer takes the shape of the saved statistics; one in use keeps its own, and
        # nn.Module then refuses statistics of another shape.
        fresh = not self.mean.numel()
        for name in ("mean", "variance"):
            saved = state_dict.get(prefix + name)
            if fresh and saved is not None:
                setattr(self, name, getattr(self, name).new_empty(saved.shape, dtype=saved.dtype))
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def _apply(self, fn: Any, recurse: bool = True) -> "MEmeL":
        # A model cast to half precision keeps its statistics in float32 or better.
        mean, variance = self.mean, self.variance
        super()._apply(fn, recurse)
        if torch.finfo(self.mean.dtype).bits < torch.finfo(torch.float32).bits:
            self.mean, self.variance = mean.to(self.mean.device), variance.to(self.mean.device)
        return self


def _memory_order(z: Tensor, first: int = 1) -> list[int]:
    """Dimensions from `first` on, those that lie furthest apart in memory first."""
    return sorted(range(first, z.ndim), key=lambda d: -z.stride()[d])
