"""The rows of Table 3: estimates with confidence intervals, and as a table in text."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

RESAMPLES = 2_000
"""Bootstrap samples behind a confidence interval."""


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % confidence interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class UpdateRow:
    """A row of the table. All ratios are fractions, not percent.

    Args:
        neurons: how many selected activations it rests on.
        decrease_mean: mean of 1 − φ(z*)/φ(z), z* being z after the step (4.3).
        decrease_median: its median.
        update_mean: mean of |z*/z − 1| (4.3); it explodes where z is near 0.
        update_median: its median.
        loss_change: mean change of the loss by the step, relative to the loss before it; with the
            selected neurons held at their means in both, except in the row that holds none.
        decrease_beyond_original: `decrease_mean` less that of "Original", batch by batch.
        decrease_beyond_naive_a: `decrease_mean` less that of "Naive (a)", batch by batch: its
            forward pass is the same, so that what remains is what the gradient −Δ does.
    """

    neurons: int
    decrease_mean: Interval
    decrease_median: Interval
    update_mean: Interval
    update_median: Interval
    loss_change: Interval
    decrease_beyond_original: Interval
    decrease_beyond_naive_a: Interval


@dataclass(frozen=True)
class Step:
    """One step of one row.

    Args:
        decrease: decrease ratio of every selected activation (4.3).
        update: total update ratio of the same.
        loss: of the batch before the step, the selected neurons held at their means where the row
            holds them.
        loss_change: by the step, relative to the loss before it.
    """

    decrease: np.ndarray
    update: np.ndarray
    loss: float
    loss_change: float


def summarize_updates(steps: Mapping[str, Sequence[Step]]) -> dict[str, UpdateRow]:
    """The rows of steps, among them "Original" and "Naive (a)", on the same batches in all."""
    return {row: summary(own, steps["Original"], steps["Naive (a)"]) for row, own in steps.items()}


def summary(steps: Sequence[Step], original: Sequence[Step], naive_a: Sequence[Step]) -> UpdateRow:
    """The row of steps, beside the steps of two others on the same batches."""
    decrease = [step.decrease for step in steps]
    update = [step.update for step in steps]

    def beyond(others: Sequence[Step]) -> list[np.ndarray]:
        pairs = zip(steps, others, strict=True)
        return [np.array([own.decrease.mean() - other.decrease.mean()]) for own, other in pairs]

    return UpdateRow(
        neurons=sum(map(len, decrease)),
        decrease_mean=_bootstrap(decrease, np.mean),
        decrease_median=_bootstrap(decrease, np.median),
        update_mean=_bootstrap(update, np.mean),
        update_median=_bootstrap(update, np.median),
        loss_change=_bootstrap([np.array([step.loss_change]) for step in steps], np.mean),
        decrease_beyond_original=_bootstrap(beyond(original), np.mean),
        decrease_beyond_naive_a=_bootstrap(beyond(naive_a), np.mean),
    )


def _bootstrap(batches: Sequence[np.ndarray], statistic: Callable[..., Any]) -> Interval:
    """A statistic of all values, with percentiles of it over resampled batches."""
    random = np.random.default_rng(0)
    resampled = [
        float(statistic(np.concatenate([batches[i] for i in chosen])))
        for chosen in random.integers(len(batches), size=(RESAMPLES, len(batches)))
    ]
    low, high = np.percentile(resampled, [2.5, 97.5])
    return Interval(float(statistic(np.concatenate(batches))), float(low), float(high))


def format_update_effects(rows: Mapping[str, UpdateRow]) -> str:
    """The rows as aligned text, in percent, each value with its interval."""
    columns: dict[str, Callable[[UpdateRow], Interval]] = {
        "decrease ratio": lambda row: row.decrease_mean,
        "beyond Original": lambda row: row.decrease_beyond_original,
        "beyond Naive (a)": lambda row: row.decrease_beyond_naive_a,
        "total update ratio": lambda row: row.update_mean,
        "its median": lambda row: row.update_median,
        "loss": lambda row: row.loss_change,
    }
    cells = [["in percent", *columns]]
    for name, row in rows.items():
        cells.append([name, *(_percent(column(row)) for column in columns.values())])
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    ]
    first = next(iter(rows.values()))
    lines.append(
        f"\n{first.neurons:,} selected neurons a row, the same batches in all; in brackets the "
        "95 % interval over batches.\ndecrease ratio: mean of 1 − φ(z*)/φ(z); total update ratio: "
        "mean of |z*/z − 1|; loss: change by the step, the neurons held at their means but in "
        "Original."
    )
    return "\n".join(lines)


def _percent(interval: Interval) -> str:
    if interval.low == interval.high == 0:
        return "–"
    value, low, high = (f"{100 * x:.3g}" for x in (interval.value, interval.low, interval.high))
    return f"{value} ({low} to {high})"
