"""How much memory a forecast of pysteps needs, and how much there is: refused before it starts.

The numbers were measured with pysteps 1.21.5 as peak resident memory on real composites of
0.25 to 5.8 million pixels; the estimate is 0 to 50 % above them.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from nowcast.errors import InputError


class _Need(NamedTuple):
    """Bytes per pixel: at least, and for each lead time and member."""

    fixed: int
    per_lead_time: int = 0
    per_member: int = 0


_NEEDS = {
    "extrapolation": _Need(fixed=50, per_lead_time=16),
    "S-PROG": _Need(fixed=560, per_lead_time=24),
    "S-PROG mean": _Need(fixed=560, per_lead_time=24),
    "ANVIL": _Need(fixed=850, per_lead_time=24),
    # Its members are taken from it lead time by lead time; two states of 6 cascade levels stay.
    "STEPS": _Need(fixed=310, per_member=245),
}
_MOTION = _Need(fixed=420)
_PER_FRAME = 20
_MARGIN = 1.1
_CGROUP_FILES = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


def needed_bytes(
    method: str,
    shape: tuple[int, int],
    *,
    frames: int,
    lead_times: int,
    members: int = 1,
    forecasts: int = 1,
) -> int:
    """Memory that a forecast takes at its peak, in bytes, beside what the process has already.

    k pixels (max(motion, fixed + a lead times + b members) + 20 frames) + 4 pixels lead times
    forecasts, with k = 1.1 and the bytes per pixel of the table above.

    Args:
        method: "extrapolation", "S-PROG", "S-PROG mean", "ANVIL" or "STEPS".
        shape: (y, x).
        frames: observed frames.
        lead_times: how many are forecast.
        members: of the ensemble.
        forecasts: how many forecasts are kept, clips times members.
    """
    need, pixels = _NEEDS[method], shape[0] * shape[1]
    own = need.fixed + need.per_lead_time * lead_times + need.per_member * members
    working = max(own, _MOTION.fixed) + _PER_FRAME * frames
    return round(_MARGIN * pixels * working) + 4 * pixels * lead_times * forecasts


def available_bytes(root: Path = Path("/")) -> int | None:
    """Memory that the process may still take, in bytes: the system's or its control groups'.

    Args:
        root: where `proc` and `sys` are.

    Returns:
        None where the system does not say.
    """
    limits = list(_left_in_control_groups(root))
    with suppress(OSError, KeyError, ValueError):
        lines = (root / "proc/meminfo").read_text().splitlines()
        entries = dict(line.split(":", 1) for line in lines if ":" in line)
        limits.append(1024 * int(entries["MemAvailable"].split()[0]))
    if not limits:
        with suppress(AttributeError, ValueError, OSError):
            limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return min(limits, default=None)


def _left_in_control_groups(root: Path) -> Iterator[int]:
    """What each limit of the process's groups and of those around them leaves, in bytes."""
    try:
        groups = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in groups:
        _, controllers, path = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        mount = root / "sys/fs/cgroup" / controllers
        group = mount / path.lstrip("/")
        # Within a container the path may be one of outside, where only the mount itself is seen.
        for folder in (group, *group.parents):
            for limit, usage, reclaimable in _CGROUP_FILES:
                with suppress(OSError, KeyError, ValueError):
                    most = int((folder / limit).read_text())
                    statistics = dict(
                        entry.split() for entry in (folder / "memory.stat").read_text().splitlines()
                    )
                    used = int((folder / usage).read_text()) - int(statistics[reclaimable])
                    yield max(0, most - used)
            if folder == mount:
                break


def check_memory(needed: int, what: str) -> None:
    """Refuse what needs more memory than there is.

    Args:
        needed: bytes.
        what: the forecast, in a few words.

    Raises:
        InputError: with both numbers.
    """
    available = available_bytes()
    if available is not None and needed > available:
        raise InputError(
            f"{what}: needs about {needed / 1e9:.1f} GB of memory, found {available / 1e9:.1f} GB "
            "available; fewer pixels, members or lead times need less"
        )
