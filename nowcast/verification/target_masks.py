"""Which pixels of its targets a step of the online protocol learns from.

With which mask a forecast is scored is not decided here: that is the store's.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass

import torch

from nowcast.radar.static_mask import HKO7_SOURCE
from nowcast.radar.store import FrameStore

log = logging.getLogger("nowcast")

NOISE_BELOW = 0.28
"""Pixel values in (0, 0.28) are left out as noise. The rule for stored values, which made the
archive's masks, keeps 71 (0.278); for pixel values the authors compare with 0.28 itself."""

TargetMask = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Mask of the targets of a step, from the targets (1, lead_times, 1, y, x) and the mask with which
they are scored."""


@dataclass(frozen=True, eq=False)
class NoiseRule:
    """The authors' target mask: noise and what never counts are out, missing frames are dry.

    Args:
        exclude: pixels bool (y, x) that never count, True = leave out; None leaves out none.
    """

    exclude: torch.Tensor | None = None

    def __call__(self, targets: torch.Tensor, observed: torch.Tensor) -> torch.Tensor:
        """See `TargetMask`; what the targets are scored with is not looked at."""
        mask = (targets <= 0) | (targets >= NOISE_BELOW)
        return mask if self.exclude is None else mask & ~self.exclude


def as_scored(targets: torch.Tensor, observed: torch.Tensor) -> torch.Tensor:
    """A `TargetMask`: targets are learned from where they are scored."""
    return observed


def target_mask_of(store: FrameStore) -> TargetMask:
    """What is left out of the targets of a step: what is noise, or was not observed, in a store.

    To a store from an archive in the layout of HKO-7 belongs the authors' rule, with the store's
    own `exclude_mask`. No noise rule belongs to stores of events, whose weak echoes are kept: of
    them, what was not observed is left out, a missing frame altogether.
    """
    if store.preparation.get("source") != HKO7_SOURCE:
        return as_scored
    if "exclude_mask" not in store.preparation:
        log.warning(
            "%s: prepared before static masks were kept, so the online protocol's noise rule "
            "excludes no pixels; prepare it again with --overwrite true",
            store.path,
        )
    exclude = store.exclude_mask
    return NoiseRule(None if exclude is None else torch.from_numpy(exclude))
