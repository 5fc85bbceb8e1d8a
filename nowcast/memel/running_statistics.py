"""What a MEmeL layer knows of earlier calls, in buffers that are saved and restored with the model.

How many calls and samples there were, mean and variance of every neuron, and the moving threshold
where there is one.
"""

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from nowcast.memel.arrangement import Arrangement
from nowcast.memel.samples import mean_of_samples
from nowcast.memel.threshold import normal_quantile


class RunningStatistics(nn.Module):
    """The statistics of one layer; in float32 or better, whatever the model is cast to.

    Their shape is that of the first activations seen, or of a loaded checkpoint.

    Args:
        share: where the threshold starts, as the share of normally distributed activations above
            it; None for no threshold.
    """

    mean: Tensor
    variance: Tensor
    calls: Tensor
    count: Tensor
    threshold: Tensor | None

    def __init__(self, share: float | None) -> None:
        super().__init__()
        self.share = share
        self.register_buffer("mean", torch.empty(0))
        self.register_buffer("variance", torch.empty(0))
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        self.register_buffer("threshold", None if share is None else normal_quantile(share))

    def reset(self) -> None:
        """Forget all statistics, as if no call had been made."""
        self.mean, self.variance = self.mean.new_empty(0), self.variance.new_empty(0)
        self.calls.zero_()
        self.count.zero_()
        if self.share is not None and self.threshold is not None:
            self.threshold.copy_(normal_quantile(self.share))

    def _fit(
        self, z: Tensor, arrangement: Arrangement, mask: Tensor | None, together: bool
    ) -> None:
        """Start statistics for the neurons of `z`, or lay those at hand as these lie in memory.

        They start with the mean of the first samples, those of all processes if `together`.
        """
        shape = arrangement.neuron_shape
        if not z.is_floating_point():
            raise ValueError(
                f"MEmeL: activations are of {z.dtype}, expected floating-point numbers"
            )
        if not self.mean.numel():
            dtype = torch.promote_types(z.dtype, torch.float32)
            self.mean = arrangement.statistic(z.new_zeros(shape, dtype=dtype))
            self.variance = arrangement.statistic(z.new_zeros(shape, dtype=dtype))
            # About the mean, because squares of what is large would lose digits.
            first = mean_of_samples(z, dtype, arrangement, mask, together)
            arrangement.flat(self.mean).copy_(first)
        elif self.mean.shape != shape:
            raise ValueError(
                f"MEmeL: statistics are of neurons {tuple(self.mean.shape)}, activations have "
                f"{shape}; call reset() to start them anew"
            )
        else:
            # Kept beyond the present call, which may be one that knows no training.
            compiling = torch.compiler.is_compiling()  # Which knows nothing of inference mode.
            inference = not compiling and torch.is_inference_mode_enabled()
            with torch.inference_mode(False) if inference else nullcontext():
                self.mean = arrangement.statistic(self.mean)
                self.variance = arrangement.statistic(self.variance)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        own = [prefix + name for name in self._buffers]
        if not any(name in state_dict for name in own):
            return  # Of a model without the layer: nothing is known, and nothing is missing.
        # The same statistics serve with a threshold and without.
        saved_threshold = prefix + "threshold"
        if self.threshold is None:
            state_dict = {n: value for n, value in state_dict.items() if n != saved_threshold}
        elif saved_threshold not in state_dict:
            state_dict = {**state_dict, saved_threshold: self.threshold}
        # A fresh layer takes the shape of the saved statistics; one in use keeps its own, and
        # nn.Module then refuses statistics of another shape.
        saved_mean = state_dict.get(prefix + "mean")
        if saved_mean is not None and not saved_mean.numel():
            self.reset()  # Saved before the first call.
        fresh = not self.mean.numel()
        for name in ("mean", "variance"):
            saved = state_dict.get(prefix + name)
            if fresh and saved is not None:
                # Laid as they were saved, as the activations lie: nothing has to be laid anew.
                setattr(self, name, torch.empty_like(saved, device=getattr(self, name).device))
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def _apply(self, fn: Any, recurse: bool = True) -> "RunningStatistics":
        # A model cast to half precision keeps its statistics in float32 or better.
        kept = {name: buffer for name, buffer in self._buffers.items() if buffer is not None}
        super()._apply(fn, recurse)
        for name, before in kept.items():
            after = self._buffers[name]
            assert after is not None
            if after.is_floating_point() and after.element_size() < 4:
                self._buffers[name] = before.to(after.device)
        return self
