"""Writing files so that they are either complete or not there."""

import errno
import json
import math
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from nowcast.errors import InputError


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` if the block ends well.

    If the block raises (or is interrupted), the temporary file is removed and whatever stood at
    `path` before stays as it was. Parent folders are made. The suffix of `path` is kept, for
    writers that choose the format by it.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.stem}.{secrets.token_hex(4)}.partial{target.suffix}")
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(target)
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


@contextmanager
def replacing_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path for a folder; rename it to `path` if the block ends well.

    As `replacing`, but what stood there before is away for the moment between two renames. A
    link is followed.
    """
    target = Path(os.path.realpath(path))
    target.parent.mkdir(parents=True, exist_ok=True)
    token = secrets.token_hex(4)
    temporary = target.with_name(f".{target.stem}.{token}.partial{target.suffix}")
    before = target.with_name(f".{target.stem}.{token}.before{target.suffix}")
    try:
        yield temporary
        with suppress(FileNotFoundError):
            target.replace(before)
        temporary.replace(target)
    finally:
        if not target.exists() and before.exists():  # Interrupted between the two.
            before.replace(target)
        for leftover in (temporary, before):
            shutil.rmtree(leftover, ignore_errors=True)


def write_json(path: str | os.PathLike[str], value: Any, indent: int = 2) -> None:
    """Write a value as JSON in UTF-8, complete or untouched.

    Args:
        path: where to.
        value: dicts, lists and tuples of plain values. Numbers that are infinite or none at all,
            which JSON does not know, become null; what else it does not know becomes text.
        indent: blanks for each level.
    """
    text = json.dumps(
        _finite(value), indent=indent, ensure_ascii=False, allow_nan=False, default=str
    )
    with replacing(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def _finite(value: Any) -> Any:
    """With None for the numbers that JSON does not know."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@contextmanager
def one_line_failures(path: str | os.PathLike[str]) -> Iterator[None]:
    """Say in one line, naming `path`, what the system refuses while it is written.

    h5py, through which it is written, says it in many lines of HDF5's own.

    Raises:
        OSError: with number and name of the error, in place of one that names no file.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        number = getattr(error, "errno", None)
        said_by_hdf5 = re.match("(Can't|Unable to) ", str(error)) is not None
        if getattr(error, "filename", None) is not None or not (number or said_by_hdf5):
            raise
        if number is None:
            found = re.search(r"errno = (\d+)", str(error))
            number = int(found[1]) if found else errno.EIO
        if number == errno.EIO and shutil.disk_usage(Path(path).parent).free == 0:
            number = errno.ENOSPC
        raise OSError(number, os.strerror(number), str(path)) from error


def move(source: Path, target: Path) -> None:
    """Rename a file, or copy it where the two lie on different disks; `target` is replaced."""
    try:
        source.replace(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        with one_line_failures(target), replacing(target) as temporary:
            shutil.copyfile(source, temporary)


def check_place(path: str | os.PathLike[str], *, folder: bool = False) -> None:
    """Refuse a place where nothing can be written, before any work is done for it.

    Args:
        path: a file to write or replace, or a folder to write into; parents need not exist yet.
        folder: whether it is a folder.

    Raises:
        InputError: a folder stands where the file is to be, a file where a folder is to be, or the
            folder that would receive it is not writable.
    """
    target = Path(path)
    if not folder and target.is_dir():
        raise InputError(f"{target}: found a folder, expected the name of a file to write")
    place = target if folder else target.parent
    nearest = next(there for there in (place, *place.absolute().parents) if there.exists())
    if not nearest.is_dir():
        where = "" if nearest == target else f" at {nearest}"
        raise InputError(f"{target}: found a file{where}, expected a folder to write into")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise InputError(f"{target}: found {nearest} read-only, expected a writable folder")
