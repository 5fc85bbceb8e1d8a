"""When the benchmark's online protocol learns, and from which clips: the rule without the frames.

Source: Shi et al., NeurIPS 2017, and the code that its authors publish. Each clip of an episode
brings the frames since the last one. When the inputs of five clips (5 frames each) are stored, and
before the next clip is taken, there is one step with the oldest clip's frames as input and those of
the other four as the 20 target frames; then the oldest is dropped. A new episode empties the store;
a step that is due at that moment still happens. No frame of the future is ever learned from. The
protocol itself is `online`.
"""

from collections.abc import Iterable
from typing import Generic, TypeVar

from nowcast.errors import InputError

Item = TypeVar("Item")


class OnlineStore(Generic[Item]):
    """The last clips of an episode, and when they are learned from. It knows no frames.

    Args:
        capacity: clips of which a step is made.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.items: list[Item] = []

    def due(self) -> list[Item] | None:
        """The clips to learn from now, oldest first, which is dropped; None if no step is due.

        To be asked before every clip that is taken, one that begins an episode too.
        """
        if len(self.items) < self.capacity:
            return None
        due, self.items = self.items, self.items[1:]
        return due

    def add(self, item: Item, new_episode: bool) -> None:
        """Store what a clip brings; the first of an episode empties the store before."""
        self.items = [item] if new_episode else [*self.items, item]


def clips_of_a_step(input_frames: int, lead_times: int) -> int:
    """How many clips a step is made of: 5 of the benchmark's.

    Raises:
        InputError: the lead times are no multiple of the input frames.
    """
    if lead_times % input_frames:
        raise InputError(
            f"online protocol: found {lead_times} lead times and {input_frames} input frames, "
            "expected a multiple of them"
        )
    return 1 + lead_times // input_frames


def online_steps(new_episode: Iterable[bool], input_frames: int = 5, lead_times: int = 20) -> int:
    """How many steps the online protocol makes.

    Args:
        new_episode: of each clip in order, whether it is the first of an episode, as
            `radar.clips.sequential` gives it.
        input_frames: frames that each clip brings.
        lead_times: frames of the targets of a step.
    """
    store, steps = OnlineStore[None](clips_of_a_step(input_frames, lead_times)), 0
    for is_first in new_episode:
        steps += store.due() is not None
        store.add(None, is_first)
    return steps
