"""How much memory a command, or the present process, takes at most."""

import ctypes
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from nowcast.errors import InputError

PROCESSES = Path("/proc")
SECONDS_BETWEEN_LOOKS = 0.02

M_MMAP_THRESHOLD = -3
LARGE_BYTES = 2**17
"""Blocks of this size have pages of their own: where glibc begins, before it adapts."""


def peak_memory(arguments: Sequence[str]) -> int | None:
    """Run a command of `nowcast` in processes of its own and watch their memory.

    Args:
        arguments: of the command line, the command's name first.

    Returns:
        Largest sum of the processes' resident memory in bytes, pages that they share counted once
        (proportional set size); None where the system does not tell.

    Raises:
        InputError: the command failed.
    """
    code = "import sys; from nowcast.commands import main; sys.exit(main())"
    own = PROCESSES / "self"
    if not (own / "smaps_rollup").exists() or not list(own.glob("task/*/children")):
        return None
    largest = 0
    with tempfile.TemporaryFile("w+") as said:
        process = [sys.executable, "-c", code, *arguments]
        with subprocess.Popen(process, stdout=subprocess.DEVNULL, stderr=said) as running:
            while running.poll() is None:
                largest = max(largest, sum(map(_resident, _with_children(running.pid))))
                time.sleep(SECONDS_BETWEEN_LOOKS)
        if running.returncode:
            said.seek(0)
            raise InputError(f"{' '.join(arguments[:2])}: failed ({said.read().strip()})")
    return largest


def own_peak_memory() -> int | None:
    """Largest resident memory of this process so far in bytes; None where Linux does not tell."""
    try:
        lines = (PROCESSES / "self" / "status").read_text().splitlines()
    except OSError:
        return None
    (peak,) = (int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
    return peak * 1024


def hand_back_freed_memory() -> None:
    """Let the C library return freed blocks at once, so that the peak is what was needed at once.

    By default glibc keeps some, more or fewer from run to run. Elsewhere this does nothing.
    """
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, LARGE_BYTES)


def _with_children(process: int) -> Iterator[int]:
    yield process
    try:
        tasks = os.listdir(PROCESSES / str(process) / "task")
    except OSError:  # It has ended in between.
        return
    for task in tasks:
        try:
            children = (PROCESSES / str(process) / "task" / task / "children").read_text()
        except OSError:
            continue
        for child in children.split():
            yield from _with_children(int(child))


def _resident(process: int) -> int:
    try:
        lines = (PROCESSES / str(process) / "smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
