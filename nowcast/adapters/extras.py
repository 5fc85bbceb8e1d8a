"""The packages that only the adapters need, which a plain installation leaves out."""

from importlib.util import find_spec

from nowcast.errors import InputError


def require(command: str, extra: str, *packages: str) -> None:
    """Refuse to go on without packages of an optional extra.

    Args:
        command: that needs them, for the message.
        extra: of this project that brings them.
        packages: by the names under which they are imported.

    Raises:
        InputError: if one is missing.
    """
    missing = [package for package in packages if find_spec(package) is None]
    if missing:
        raise InputError(
            f"{command}: found no {' and no '.join(missing)}; install with "
            f"pip install 'nowcast[{extra}]'"
        )
