"""NetCDF-4 files and Zarr stores on disk: told apart by content and opened as raw datasets.

Whatever a file holds, `InputError` is all that comes out. Only what lies in the file or folder
itself is read: no links to other files, no addresses, nothing that is pickled; sizes are bounded
before anything is decoded. What the variables mean is in `event_fields`.
"""

import math
import os
import stat
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import xarray as xr

from nowcast.errors import InputError

MOST_ALONG_AN_AXIS = 2**24
"""Entries of a coordinate: 31 years of minutes."""

MOST_CHUNK_BYTES = 2**31
"""Size of a chunk once it is decompressed; chunks are decompressed whole."""

_HIDES_ZERO = "a fill value of the store is 0, and no missing value is stated"
"""Key in a variable's encoding, where xarray keeps what its store says."""

_ZARR_ROOTS = ("zarr.json", ".zgroup", ".zmetadata", ".zarray")


def is_zarr(path: Path) -> bool:
    """Whether a folder is a Zarr store, or a file a zip archive and so perhaps one."""
    if path.is_dir():
        return any((path / name).is_file() for name in _ZARR_ROOTS)
    with path.open("rb") as file:
        return file.read(4) == b"PK\3\4"


def content_stamp(path: Path) -> tuple[str | int, ...]:
    """What tells whether a file or a Zarr folder has changed.

    Returns:
        Its name, the number of files in it, their size in bytes, and the time (ns) of the latest
        modification.

    Raises:
        InputError: a link or a special file lies in the folder.
    """
    count = size = latest = 0
    for file in _files_in(path) if path.is_dir() else [path]:
        status = file.stat()
        count, size, latest = count + 1, size + status.st_size, max(latest, status.st_mtime_ns)
    return path.name, count, size, latest


def _files_in(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        for name in (*folders, *names):
            mode = (path := Path(parent, name)).lstat().st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                raise InputError(
                    f"{folder}: found {path.relative_to(folder)} as a link or special file, "
                    "expected a store whose files all lie in it"
                )
            if stat.S_ISREG(mode):
                yield path


@contextmanager
def opened(path: Path, only: str | None = None) -> Iterator[xr.Dataset]:
    """The file or store as a dataset of raw, undecoded variables that are read when indexed.

    In Zarr 2 a fill value that stands for 0 is taken for what zarr itself puts where nothing else
    is asked for, and not for "not observed": it would be no rain. Files in a store that belong to
    none of its arrays are passed over.

    Args:
        path: a NetCDF-4 file, a Zarr store (version 2 or 3, consolidated or not), or a zip of one.
        only: name of a variable to open alone; None opens all.

    Raises:
        InputError: whatever is wrong with it, before or after it is opened, with its path.
    """
    if not path.exists():
        raise InputError(f"{path}: no such file, expected a NetCDF-4 file or a Zarr store")
    kind = "NetCDF-4"
    try:
        if is_zarr(path):
            kind = "Zarr"
            open_dataset = _opened_zarr
        elif path.is_file():
            open_dataset = _opened_netcdf
        else:
            raise InputError("found neither a file nor a Zarr store")
        with open_dataset(path, only) as dataset:
            yield dataset
    except InputError as error:
        # What it names comes from the file, line breaks and all.
        raise InputError(f"{path}: {' '.join(str(error).split())}") from None
    # A damaged file makes the libraries raise whatever comes; to the reader it is all the same.
    except Exception as error:
        reason = " ".join(f"{error}".split()) or type(error).__name__
        raise InputError(f"{path}: cannot be read as a {kind} event ({reason})") from error


def hides_zero(variable: xr.Variable) -> bool:
    """Whether 0 is not observed because it is the fill value of a Zarr 2 array, and only so.

    It is what zarr itself puts where nothing else is asked for, and may be a value all the same.

    Args:
        variable: raw, of a dataset that `opened` gave.
    """
    return _HIDES_ZERO in variable.encoding


@contextmanager
def _opened_netcdf(path: Path, only: str | None) -> Iterator[xr.Dataset]:
    with path.open("rb") as start:
        if start.read(3) == b"CDF":
            raise InputError(
                "cannot be read: found classic NetCDF, expected NetCDF-4 "
                "(nccopy -k netCDF-4 converts it)"
            )
    with h5py.File(path, "r") as file:
        for name in file:
            _check_hdf5_member(file, name)
        others = [name for name in file if only not in (None, name)]
    with xr.open_dataset(
        path, engine="h5netcdf", cache=False, decode_cf=False, drop_variables=others
    ) as dataset:
        yield dataset


def _check_hdf5_member(file: h5py.File, name: str) -> None:
    """Refuse what would make the file read others that its giver has chosen, and absurd sizes."""
    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        raise InputError(f"found {name} as a link, expected variables in the file itself")
    member = file[name]
    if isinstance(member, h5py.Dataset):
        if member.external or member.is_virtual:
            raise InputError(f"found {name} in another file, expected it in the file itself")
        _check_sizes(name, member.shape, member.chunks, member.dtype.itemsize)


@contextmanager
def _opened_zarr(path: Path, only: str | None) -> Iterator[xr.Dataset]:
    try:
        import zarr
    except ImportError:
        raise InputError(
            "found a Zarr store, expected the package that reads it: pip install 'nowcast[zarr]'"
        ) from None
    store: Any
    if path.is_dir():
        store = zarr.storage.LocalStore(path, read_only=True)
    else:
        _check_zip(path)
        store = zarr.storage.ZipStore(path, mode="r")
    with ExitStack() as stack:
        stack.callback(store.close)
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", ".* not recognized as a component of a Zarr hierarchy"
            )
            try:
                # Consolidated metadata is a second copy, which may be stale and name other places.
                group = zarr.open_group(store, mode="r", use_consolidated=False)
            except Exception:
                if not _is_zarr_array(store):
                    raise
                raise InputError(
                    "found an array of a Zarr store, expected the store, the folder around it"
                ) from None
            arrays = dict(group.arrays())
            for name, array in arrays.items():
                _check_zarr_array(name, array)
            dataset = stack.enter_context(
                xr.open_dataset(
                    store,
                    engine="zarr",
                    chunks=None,
                    consolidated=False,
                    cache=False,
                    decode_cf=False,
                    drop_variables=[name for name in arrays if only not in (None, name)],
                )
            )
        if group.metadata.zarr_format == 2:
            for key, variable in dataset.variables.items():
                if _fill_stands_for_zero(variable.attrs):
                    del variable.attrs["_FillValue"]
                elif variable.attrs.get("_FillValue") == 0:
                    stated = arrays[str(key)].attrs.get("_FillValue")
                    if stated != 0:
                        variable.encoding[_HIDES_ZERO] = True
        yield dataset


def _is_zarr_array(store: Any) -> bool:
    import zarr

    try:
        zarr.open_array(store, mode="r")
    # Whatever is wrong with it has been said already, when it was opened as a group.
    except Exception:
        return False
    return True


def _check_zip(path: Path) -> None:
    """Refuse a zip archive whose members grow beyond what a chunk may be."""
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    if not any(member.filename in _ZARR_ROOTS for member in members):
        raise InputError(
            "found a zip archive without a Zarr group at its root, expected zip made inside the "
            "store's folder"
        )
    largest = max(members, key=lambda member: member.file_size)
    if largest.file_size > MOST_CHUNK_BYTES:
        raise InputError(
            f"found {largest.filename} of {largest.file_size / 2**30:.1f} GiB, "
            f"expected at most {MOST_CHUNK_BYTES / 2**30:g} GiB"
        )


def _check_zarr_array(name: str, array: Any) -> None:
    metadata = array.metadata
    if metadata.zarr_format == 2:
        codecs = [*(metadata.filters or ()), metadata.compressor]
        # Some versions of numcodecs unpickle what such a chunk holds, which can run any code.
        if any(getattr(codec, "codec_id", None) == "pickle" for codec in codecs):
            raise InputError(f"found {name} pickled, expected numbers")
    _check_sizes(name, array.shape, array.chunks, array.dtype.itemsize)


def _check_sizes(
    name: str, shape: tuple[int, ...], chunks: tuple[int, ...] | None, item_bytes: int
) -> None:
    if len(shape or ()) == 1 and shape[0] > MOST_ALONG_AN_AXIS:
        raise InputError(
            f"found {name} with {shape[0]:,} entries, expected at most {MOST_ALONG_AN_AXIS:,}"
        )
    chunk_bytes = math.prod(chunks or ()) * item_bytes
    if chunk_bytes > MOST_CHUNK_BYTES:
        raise InputError(
            f"found {name} in chunks of {chunk_bytes / 2**30:.1f} GiB, "
            f"expected at most {MOST_CHUNK_BYTES / 2**30:g} GiB"
        )


def _fill_stands_for_zero(attributes: dict[str, Any]) -> bool:
    try:
        scale, offset = attributes.get("scale_factor", 1), attributes.get("add_offset", 0)
        return bool(np.all(float(attributes["_FillValue"]) * float(scale) + float(offset) == 0))
    except (KeyError, TypeError, ValueError):
        return False
