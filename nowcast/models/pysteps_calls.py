"""Calling pysteps: imported only when it is used, quiet, its errors in one line."""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any

import numpy as np

from nowcast.errors import InputError


def interfaces() -> tuple[Any, Any]:
    """The interfaces of pysteps to motion and to nowcasts.

    Raises:
        InputError: pysteps is not installed, or cannot be imported.
    """
    try:
        with _quiet():
            from pysteps import motion, nowcasts
    except ModuleNotFoundError as error:
        if error.name != "pysteps":
            raise InputError(f"pysteps cannot be imported: {one_line(error)}") from error
        raise InputError("pysteps is not installed: pip install 'nowcast[pysteps]'") from None
    # It reads a configuration file of the user's, and imports what others plug into it.
    except Exception as error:
        raise InputError(f"pysteps cannot be imported: {one_line(error)}") from error
    return motion, nowcasts


@contextmanager
def called(method: str) -> Iterator[None]:
    """Run pysteps without output, and say in one line what it raises.

    Args:
        method: what is run, for the message.

    Raises:
        InputError: in place of any error of pysteps.
    """
    try:
        with _quiet():
            yield
    except Exception as error:
        raise InputError(f"{method}: {one_line(error)}") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Nothing on the terminal: pysteps prints what it does, and warns of pixels without value."""
    with redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def global_generator_kept() -> Iterator[None]:
    """Leave NumPy's global random generator as it was: STEPS seeds it, and it is others' too."""
    state = np.random.get_state()  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(state)  # noqa: NPY002


def one_line(error: BaseException) -> str:
    """Kind and message of an error."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
