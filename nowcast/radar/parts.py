"""Part files: long work done in pieces by worker processes, so that no piece is done twice.

Each piece is a file of its own, complete or not there, named by a hash of what it is made from.
What was done before an interruption is found again by its name, and a piece whose source has
changed has another name. What the pieces are is the business of `store_writing` and `event_tiles`.
Work that leaves no file, as in `archive_check`, takes the worker processes alone (`side_by_side`).
"""

import hashlib
import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import cv2

from nowcast.files import replacing
from nowcast.progress import progress

log = logging.getLogger("nowcast")

Result = TypeVar("Result")


def parts_folder(out: Path) -> Path:
    """Where the parts of the store `out` lie until it is complete."""
    return out.with_name(out.name + ".parts")


def content_hash(*described: object) -> str:
    """A name for what is made from `described`: plain values whose `repr` says all."""
    return hashlib.sha256(repr(described).encode()).hexdigest()[:24]


def discard_other_parts(folder: Path, pattern: str, parts: Mapping[str, object]) -> None:
    """Remove parts of a preparation from other frames or with other settings.

    Args:
        folder: where the parts lie.
        pattern: glob of the parts' names.
        parts: names of those to keep.
    """
    others = [path for path in folder.glob(pattern) if path.name not in parts]
    for path in others:
        path.unlink()
    if others:
        log.info(
            "%s: discarded %d parts made from other frames or with other settings",
            folder,
            len(others),
        )


def make_parts(
    folder: Path,
    parts: Mapping[str, Callable[[Path], None]],
    description: str,
    workers: int | None = None,
) -> list[Path]:
    """Make those part files that are not there yet; each is complete or not there.

    Args:
        folder: where they lie.
        parts: file name → picklable function that writes the file it is given.
        description: the work, in a few words, for the progress bar.
        workers: processes that work side by side; 1 works in this process, None takes as many as
            there are CPU cores for it.

    Returns:
        The paths of all parts, in the order given.

    Raises:
        InputError: an input is wrong; the parts already made stay for the next attempt.
        ChildProcessError: a worker was killed; they stay, too.
    """
    folder.mkdir(parents=True, exist_ok=True)
    missing = [name for name in parts if not (folder / name).exists()]
    if len(missing) < len(parts):
        log.info(
            "%s: %d of %d parts are there already", folder, len(parts) - len(missing), len(parts)
        )
    calls = [partial(_make_part, folder / name, parts[name]) for name in missing]
    try:
        with closing(side_by_side(calls, workers)) as made:
            for _ in progress(made, description, total=len(calls), unit="parts"):
                pass
    except ChildProcessError as error:
        raise ChildProcessError(
            f"{folder}: {error}; the parts already made stay, run again to continue"
        ) from error
    return [folder / name for name in parts]


def side_by_side(
    calls: Sequence[Callable[[], Result]], workers: int | None = None
) -> Generator[Result, None, None]:
    """Results of calls made by worker processes, each as soon as it is there.

    Closing the iterator drops the calls that have not begun and waits for those that have.

    Args:
        calls: picklable functions.
        workers: processes that work side by side; 1 works in this process, in order; None takes as
            many as there are CPU cores for it.

    Raises:
        ChildProcessError: a worker was killed.
    """
    workers = min(workers or len(os.sched_getaffinity(0)), len(calls))
    if workers <= 1:
        for call in calls:
            yield call()
        return
    with ProcessPoolExecutor(
        workers, mp_context=multiprocessing.get_context("spawn"), initializer=_start_worker
    ) as pool:
        try:
            for future in as_completed([pool.submit(call) for call in calls]):
                yield future.result()
        except BrokenProcessPool as error:
            raise ChildProcessError(
                "a worker process was killed (out of memory?), try fewer workers"
            ) from error
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _start_worker() -> None:
    """Leave Ctrl-C to the parent, keep to one thread, and end when the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(1)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: Any) -> None:
    parent.join()
    os._exit(1)


def _make_part(path: Path, write: Callable[[Path], None]) -> None:
    with replacing(path) as temporary:
        write(temporary)
