"""The MEmeL layer: statistics, selection and inhibition in one parameter-free module."""

import math
from collections.abc import Callable, Iterator
from typing import Any, get_args

import torch
from torch import Tensor
from torch.compiler import is_compiling

from nowcast.memel.arrangement import Arrangement, Neurons, Per, arrange, check_mask
from nowcast.memel.decision import Decision, Decisions, in_backward, watcher
from nowcast.memel.inhibition import most_monosemantic
from nowcast.memel.running_statistics import RunningStatistics
from nowcast.memel.samples import over_processes, several_processes
from nowcast.memel.scalars import choose, number
from nowcast.memel.scale import compensated, monosemantic_scale, update_statistics
from nowcast.memel.threshold import move_threshold

Observer = Callable[[Tensor, Decision], None]
"""Is handed the activations of each call, and what the layer decided."""


class MEmeL(RunningStatistics):
    """Monosemanticity-based emergence learning (Algorithm 2 of the paper, D.2).

    In training, the activations with the largest monosemantic scale are set to their neuron's mean
    and their gradient is multiplied by −Δ; then the statistics take in the unmodified activations.
    In evaluation the layer is the identity. It has no parameters; its statistics are buffers that
    are saved, restored and moved with the model, in float32 or better.

    The paper prints the late-start branch of Algorithm 2 the wrong way round; the text of D.2 is
    followed: nothing is modified before `late_start`.

    The layer is traced by torch.compile without graph breaks, and activation checkpointing
    (`use_reentrant=False`) repeats its calls without counting them. Both together do not work: a
    compiled checkpoint in which a layer is called several times selects anew from statistics that
    have moved on, and its gradients are wrong; a part that is compiled for itself inside of a
    checkpoint cannot know that it is repeated, and counts twice.

    Args:
        top: activations deactivated per selection (n_n). Default 1, that of the paper's main
            results (4.1.2). Not used with `share`.
        per: one selection per "sample" (E.3, the default: what is selected does not depend on what
            else is in the batch) or per "batch" (4.1.2).
        delta: 1, the default, is reverse deactivation (Eq. 12), 0 naive (a) (Eq. 10), −1 naive (b)
            (Eq. 11), above 1 stronger (E.3).
        epsilon: variance compensation (D.2). The paper gives no value; at 0.001 it matters only for
            neurons that vary a thousand times less than the average.
        forget_step: after that many calls older samples decay (n_f, D.1). The paper gives no value;
            10,000 calls are 500 to 2,000 training steps of the recurrent network.
        late_start: calls that only collect statistics (l_s, D.2), counted from 0 in training mode.
            In a recurrent network a training step makes several calls. The paper gives no value;
            with 1,000 calls the statistics rest on thousands of samples before they are used.
        neurons: what a neuron is: every "element" of a sample (hidden state of a ConvGRU), a
            "channel" (second dimension; the others are samples), or the "last" dimension's entries
            (features of a transformer; batch and tokens are samples).
        in_evaluation: keep deactivating in evaluation mode too, statistics frozen (the paper's
            "-T" rows, F.1).
        share: select by a moving threshold instead of the `top`: every activation whose φ exceeds
            it, the threshold moving in each call so that this share of the activations is selected
            in the long run. The authors' follow-up (arXiv 2503.23298) found a threshold for 1–2 %
            of the neurons to be needed at scale; how the threshold moves here is our own: by at
            most 5 % a call, from where the share of normally distributed neurons would lie.
        synchronize: in training by several processes, take the samples of all of them into the
            statistics, as SyncBatchNorm does: the default, so that they together learn what one
            with all samples would. Without, each process keeps its own and nothing is sent; tell
            DistributedDataParallel `broadcast_buffers=False` then, or it hands round the first's.

    Raises:
        ValueError: for a setting that is out of range.
    """

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
        share: float | None = None,
        synchronize: bool = True,
    ) -> None:
        for name, value, least in (
            ("top", top, 1),
            ("epsilon", epsilon, 0.0),
            ("forget_step", forget_step, 1),
            ("late_start", late_start, 0),
        ):
            if not value >= least:
                raise ValueError(f"MEmeL: {name} must be at least {least}, found {value}")
        if not isinstance(top, int):
            raise ValueError(f"MEmeL: top must be a whole number, found {top}")
        if not math.isfinite(delta):
            raise ValueError(f"MEmeL: delta must be finite, found {delta}")
        if per not in get_args(Per):
            raise ValueError(f"MEmeL: per must be one of {get_args(Per)}, found {per!r}")
        if neurons not in get_args(Neurons):
            raise ValueError(
                f"MEmeL: neurons must be one of {get_args(Neurons)}, found {neurons!r}"
            )
        if share is not None and not 0 < share < 1:
            raise ValueError(f"MEmeL: share must be between 0 and 1, found {share}")
        super().__init__(share)
        self.top = top
        self.per: Per = per
        self.delta = delta
        self.epsilon = epsilon
        self.forget_step = forget_step
        self.late_start = late_start
        self.neurons: Neurons = neurons
        self.in_evaluation = in_evaluation
        self.synchronize = synchronize
        self.mask: Tensor | None = None
        """Padding mask of the present call, where `forward` is given none."""
        self.batch: int | None = None
        """Samples that the present call of the model brings, where rows are put together."""
        self.observer: Observer | None = None
        self.script: Iterator[Decision] | None = None
        """Decisions to carry out instead of own ones, statistics frozen."""
        self._decisions = Decisions()

    def forward(self, z: Tensor, mask: Tensor | None = None) -> Tensor:
        """Activations to activations of the same shape.

        Args:
            z: activations, the first dimension the sample.
            mask: bool, True = counts, in the shape of leading dimensions of `z` that are samples:
                (batch, token) where neurons are the last dimension, else (batch,). What does not
                count is neither selected nor taken into the statistics.

        Raises:
            ValueError: if the statistics are those of other neurons than `z` has, if a selection
                asks for more activations than there are, or if the mask does not fit.
        """
        keep = None
        eager = not is_compiling()
        if self.script is not None:
            decision = self._next_of_script(z)
        elif self.rests() or not z.numel():
            return z
        elif eager and self.training and in_backward():
            keep = self._decisions.of(z)
            decision = keep.decision
        else:
            watching = watcher() if eager else None
            seen = watching is not None or self.observer is not None
            decided = self._decide(z.detach(), self.mask if mask is None else mask, eager, seen)
            if decided is None:
                return z
            decision = decided
            if watching is not None:
                keep = self._decisions.keep(decision, z, watching)
        if self.observer is not None:
            self.observer(z.detach(), decision)
        return decision.apply(z, keep)

    def rests(self) -> bool:
        """Whether the layer leaves all activations as they are."""
        deciding = self.training or (self.in_evaluation and self.mean.numel() > 0)
        return self.script is None and not deciding

    def shape_of_repeated(self, z: Tensor) -> tuple[int, ...]:
        """Shape in which the layer had `z` in the call that activation checkpointing repeats.

        Raises:
            RuntimeError: if there was no such call.
        """
        return self._decisions.shape_of(z)

    def _next_of_script(self, z: Tensor) -> Decision:
        assert self.script is not None
        decision = next(self.script, None)
        if decision is None or decision.arrangement.shape != tuple(z.shape):
            raise ValueError(
                f"MEmeL: called once more with activations {tuple(z.shape)}, expected the calls "
                "of the first forward pass"
            )
        return decision

    @torch.no_grad()
    def scale(self, z: Tensor) -> Tensor:
        """Monosemantic scale φ of `z` by the statistics as they stand, in their precision."""
        mean, variance = self.mean, self.variance
        if self.neurons == "channel":
            mean, variance = (s.view(-1, *[1] * (z.ndim - 2)) for s in (mean, variance))
        return monosemantic_scale(z, mean, variance, self.epsilon)

    def extra_repr(self) -> str:
        """Settings, for `print(model)`."""
        return (
            f"top={self.top}, per={self.per!r}, delta={self.delta}, epsilon={self.epsilon}, "
            f"forget_step={self.forget_step}, late_start={self.late_start}, "
            f"neurons={self.neurons!r}, in_evaluation={self.in_evaluation}, share={self.share}, "
            f"synchronize={self.synchronize}"
        )

    def _decide(self, z: Tensor, mask: Tensor | None, eager: bool, seen: bool) -> Decision | None:
        """Select by the statistics as they stand; in training, take `z` into them afterwards.

        Before late start nothing is selected where that is known and not `seen` by anybody.
        """
        # One pass, few calls: in a recurrent network this runs many times a step, on a cold cache.
        if mask is not None:
            check_mask(mask, z, self.neurons)
        arrangement = arrange(z, self.neurons, self.per if self.share is None else None, eager)
        if self.share is None and self.top > (columns := arrangement.row_layout[0][1]):
            raise ValueError(f"MEmeL: top={self.top} of {columns} activations per {self.per}")
        buffers: dict[str, Any] = self._buffers
        if buffers["mean"].stride() != arrangement.neuron_strides or (
            buffers["mean"].shape != arrangement.neuron_shape
        ):
            self._fit(z, arrangement, mask, self.synchronize and several_processes())
        mean = buffers["mean"].as_strided(*arrangement.flat_layout)
        variance = buffers["variance"].as_strided(*arrangement.flat_layout)
        calls, count = number(buffers["calls"], eager), number(buffers["count"], eager)
        training, threshold = self.training, buffers["threshold"]
        values = arrangement.in_grid(z)
        same = values.dtype == mean.dtype
        deviations = values - mean if same else values.to(mean.dtype).sub_(mean)
        if mask is not None:
            padding = ~arrangement.mask_beside_grid(mask)
            deviations.masked_fill_(padding, 0.0)
        if training:
            sums = deviations.sum(arrangement.sample_dimensions)
        squares = deviations.mul_(deviations)
        if training:
            sums_of_squares = squares.sum(arrangement.sample_dimensions)
        decision = None
        started = (calls >= self.late_start) & (count >= 2)
        if threshold is not None or seen or started is not False:
            phi = squares.div_(compensated(variance, self.epsilon))
            if mask is not None:
                phi.sub_(padding.to(phi.dtype))  # From 0 to −1; filling takes ten times as long.
            if phi.shape != arrangement.row_layout[0]:
                phi = phi.view(arrangement.row_layout[0])
            if threshold is None:
                decision = self._select_top(z, phi, mean, arrangement, started, mask is not None)
            else:
                decision = self._select_above(z, phi, mean, arrangement, started)
        if training:
            batch: int | Tensor = arrangement.samples
            if mask is not None:
                batch = number(mask.sum(), eager) * (batch // mask.numel())
            above = None if threshold is None else (phi > threshold).sum()
            if self.synchronize and several_processes():
                sums, sums_of_squares, batch, above = over_processes(
                    sums, sums_of_squares, batch, above
                )
            if above is not None:
                assert self.share is not None
                activations = batch * arrangement.neurons
                move_threshold(threshold, above, activations, self.share, count >= 2)
            # From forget_step on, the past weighs as much as batch · forget_step samples (D.1).
            known = choose(calls < self.forget_step, count, batch * self.forget_step)
            if mask is not None:
                known = choose(batch > 0, known, count)
            if arrangement.inner > 1:
                mean, variance = mean.view(-1), variance.view(-1)
            update_statistics(mean, variance, known, sums, sums_of_squares, batch)
            buffers["count"].fill_(known + batch)
            buffers["calls"].add_(1)
        return decision

    def _select_top(
        self,
        z: Tensor,
        phi: Tensor,
        mean: Tensor,
        arrangement: Arrangement,
        started: bool | Tensor,
        masked: bool,
    ) -> Decision:
        selected = most_monosemantic(phi, self.top)
        counts = None
        if masked:  # A sample may have fewer than `top` activations that count.
            counts = phi.gather(1, selected) >= 0
            started = counts & started
        means = mean.take(arrangement.neuron_at(selected)).to(z.dtype)
        return Decision(arrangement, selected, means, self.delta, started, counts)

    def _select_above(
        self,
        z: Tensor,
        phi: Tensor,
        mean: Tensor,
        arrangement: Arrangement,
        started: bool | Tensor,
    ) -> Decision:
        assert self.threshold is not None
        selected = (phi > self.threshold).logical_and_(torch.as_tensor(started, device=z.device))
        # A copy: the statistics move on before it is used.
        means = mean.view(-1, 1).expand(-1, arrangement.inner).reshape(1, -1).to(z.dtype, copy=True)
        return Decision(arrangement, selected, means, self.delta)
