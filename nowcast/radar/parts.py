"""Part files: long work done in pieces by worker processes, so that no piece is done twice.

Each piece is a file of its own, complete or not there, named by a hash of what it is made from.
What was done before an interruption is found again by its name, and a piece whose source has
changed has another name. A part ends with a CRC-32 of all before it, four bytes that HDF5 passes
over, so that a damaged one is noticed. Only one process at a time uses a folder of parts. What the
pieces are is the business of `store_writing` and `event_tiles`. Work that leaves no file, as in
`archive_check`, takes the worker processes alone (`side_by_side`).
"""

import fcntl
import hashlib
import logging
import multiprocessing
import os
import signal
import threading
import zlib
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager, suppress
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import cv2

from nowcast.errors import InputError
from nowcast.files import one_line_failures, replacing
from nowcast.progress import progress

log = logging.getLogger("nowcast")

Result = TypeVar("Result")

ASSEMBLED = "assembled.h5"
"""Where a store is put together, among its parts."""

PATTERNS = ("block-*.h5", "event-*.h5", ".*.partial*", ASSEMBLED)
"""Globs of all that is ever made in a folder of parts."""

LOCK = ".lock"

CRC32_OF_WHOLE = 0x2144DF1C
"""CRC-32 of any bytes that are followed by their own CRC-32, little-endian."""

_claimed_here: ContextVar[frozenset[Path]] = ContextVar("_claimed_here", default=frozenset())


def parts_folder(out: Path) -> Path:
    """Where the parts of the store `out` lie until it is complete."""
    return out.with_name(out.name + ".parts")


@contextmanager
def claimed(out: Path) -> Iterator[Path]:
    """Keep other processes away from the parts of a store; the end of this process ends that, too.

    May be entered again inside itself. A folder that ends up empty is removed, unless it is a link
    to a folder elsewhere.

    Args:
        out: the store.

    Yields:
        The folder of its parts, which is made.

    Raises:
        InputError: another process has claimed it.
    """
    folder = parts_folder(out).absolute()
    if folder in _claimed_here.get():
        yield folder
        return
    folder.mkdir(parents=True, exist_ok=True)
    lock = folder / LOCK
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        _lock(descriptor, out)
        before = _claimed_here.set(_claimed_here.get() | {folder})
        try:
            yield folder
        finally:
            _claimed_here.reset(before)
            lock.unlink(missing_ok=True)
            with suppress(OSError):
                folder.rmdir()
    finally:
        os.close(descriptor)


def _lock(descriptor: int, out: Path) -> None:
    another = InputError(f"{out}: found that another preparation is writing it, expected none")
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise another from None
    except OSError as error:
        log.warning("%s: not kept from another preparation (%s)", out, error.strerror)
    # The other one, at its end, removed the file between its opening here and its locking.
    if not os.fstat(descriptor).st_nlink:
        raise another


def remove_parts(folder: Path) -> None:
    """Remove all that was made in a claimed folder of parts, and nothing else."""
    for pattern in PATTERNS:
        for path in folder.glob(pattern):
            if not path.is_dir():
                path.unlink()
    if others := sorted(path.name for path in folder.iterdir() if path.name != LOCK):
        log.warning("%s: left %s, not made by a preparation", folder, ", ".join(others))


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
        OSError: the system refuses (a full disk), or a worker was killed; they stay, too.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in parts:
        if (folder / name).exists():
            is_whole(folder / name)
    missing = [name for name in parts if not (folder / name).exists()]
    if len(missing) < len(parts):
        log.info(
            "%s: %d of %d parts are there already", folder, len(parts) - len(missing), len(parts)
        )
    calls = [partial(make_part, folder / name, parts[name]) for name in missing]
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
        InputError: there are to be fewer than one.
        ChildProcessError: a worker was killed.
    """
    if workers is not None and workers < 1:
        raise InputError(f"workers: found {workers}, expected at least 1")
    workers = min(workers or len(os.sched_getaffinity(0)), len(calls))
    if workers <= 1:
        for call in calls:
            yield call()
        return
    with ProcessPoolExecutor(
        workers, mp_context=multiprocessing.get_context("spawn"), initializer=_start_worker
    ) as pool:
        try:
            with _ctrl_c_waiting():
                futures = [pool.submit(call) for call in calls]
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool as error:
            raise ChildProcessError(
                "a worker process was killed (out of memory?), try fewer workers"
            ) from error
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


@contextmanager
def _ctrl_c_waiting() -> Iterator[None]:
    """Let Ctrl-C wait until the block is done; processes started in it never hear of it.

    Those leave it to the parent. Were it only ignored once they run, it would strike while they
    still load their modules.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start_worker() -> None:
    """Keep to one thread, and end when the parent is gone."""
    cv2.setNumThreads(1)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: Any) -> None:
    parent.join()
    os._exit(1)


def make_part(path: Path, write: Callable[[Path], None]) -> None:
    """Make one part file.

    Args:
        path: where it is to lie.
        write: writes the file it is given.

    Raises:
        InputError: an input is wrong.
        OSError: the system refuses.
    """
    with one_line_failures(path), replacing(path) as temporary:
        write(temporary)
        checksum = _crc32_of(temporary)
        with temporary.open("ab") as part:
            part.write(checksum.to_bytes(4, "little"))


def is_whole(path: Path) -> bool:
    """Whether a part file is as it was made; a damaged one is removed, with a warning."""
    with suppress(OSError):
        if _crc32_of(path) == CRC32_OF_WHOLE:
            return True
    log.warning("%s: found a damaged part, made anew", path)
    path.unlink(missing_ok=True)
    return False


def _crc32_of(path: Path) -> int:
    checksum = 0
    with path.open("rb") as file:
        while piece := file.read(2**20):
            checksum = zlib.crc32(piece, checksum)
    return checksum
