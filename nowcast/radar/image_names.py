"""Which files of a folder are frames, and of what time: patterns of names."""

import logging
import os
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from nowcast.errors import InputError

log = logging.getLogger("nowcast")

_DIGITS = {"Y": 4, "y": 2, "m": 2, "d": 2, "j": 3, "H": 2, "M": 2, "S": 2}
"""Fields of a pattern as `strptime` names them, each of so many digits."""


class DatedImage(NamedTuple):
    """A frame's file.

    Attributes:
        second: valid time, seconds since 1970-01-01 UTC.
        name: path below the folder, `/` between its parts.
        size: bytes.
        modified: time of the last modification (ns).
    """

    second: int
    name: str
    size: int
    modified: int


def image_files(folder: Path, pattern: str) -> tuple[DatedImage, ...]:
    """The files whose names match, in order of time; the others are counted in the log.

    Folders that are links are not followed, since they may lead round in a circle, but counted.

    Args:
        folder: where they lie, at any depth.
        pattern: of the path below the folder if it has a `/`, otherwise of the name alone; with
            the fields %Y %y %m %d %j %H %M %S, each as often as it takes.

    Raises:
        InputError: the pattern tells no time, no file matches, a file's fields contradict each
            other or are no time, or two files are of one time.
    """
    expression = _expression(pattern)
    found: dict[int, DatedImage] = {}
    others: list[str] = []
    linked: list[str] = []
    for parent, folders, names in os.walk(folder):
        below_folder = (Path(parent, name) for name in folders)
        linked += [
            path.relative_to(folder).as_posix() for path in below_folder if path.is_symlink()
        ]
        for name in names:
            path = Path(parent, name)
            below = path.relative_to(folder).as_posix()
            match = expression.fullmatch(below if "/" in pattern else name)
            if match is None or not path.is_file():
                others.append(below)
                continue
            second, status = _second(path, match), path.stat()
            if second in found:
                raise InputError(
                    f"{path}: found the same time as in {found[second].name}, "
                    "expected one image per time"
                )
            found[second] = DatedImage(second, below, status.st_size, status.st_mtime_ns)
    if not found:
        example = f"{min(others)!r} and {len(others) - 1} others" if others else "no file"
        if linked:
            example += f", and {len(linked)} linked folders that are not followed"
        raise InputError(f"{folder}: found {example}, expected names like {pattern!r}")
    if others:
        log.info(
            "%s: passed over %d files not named like %r, such as %s",
            *(folder, len(others), pattern, min(others)),
        )
    if linked:
        log.info(
            "%s: passed over %d linked folders, such as %s", *(folder, len(linked), min(linked))
        )
    return tuple(found[second] for second in sorted(found))


def _expression(pattern: str) -> re.Pattern[str]:
    """A regular expression with one group, called by its field and a number, for each field."""
    parts, fields = [], []
    for part in re.findall(r"%.?|[^%]+", pattern, re.DOTALL):
        if part == "%%" or not part.startswith("%"):
            parts.append(re.escape(part.replace("%%", "%")))
        elif part[1:] in _DIGITS:
            fields.append(part[1:])
            parts.append(f"(?P<{part[1:]}{len(fields)}>[0-9]{{{_DIGITS[part[1:]]}}})")
        else:
            known = " ".join(f"%{field}" for field in _DIGITS)
            raise InputError(f"pattern {pattern!r}: found {part!r}, expected fields of {known}")
    if not (
        {"Y", "y"} & {*fields} and "H" in fields and ({"m", "d"} <= {*fields} or "j" in fields)
    ):
        raise InputError(
            f"pattern {pattern!r}: found no full time, expected a year, a day and an hour, such "
            "as %Y%m%d%H%M"
        )
    return re.compile("".join(parts))


def _second(path: Path, match: re.Match[str]) -> int:
    """Seconds since 1970 of the time that the fields of a name tell."""
    fields: dict[str, str] = {}
    for group, text in match.groupdict().items():
        if fields.setdefault(group[0], text) != text:
            raise InputError(
                f"{path}: found %{group[0]} as {fields[group[0]]} and as {text}, expected one time"
            )
    try:
        time = datetime.strptime(" ".join(fields.values()), " ".join(f"%{f}" for f in fields))
    except ValueError as error:
        raise InputError(f"{path}: found no time in the name ({error})") from None
    for field, text in fields.items():
        if time.strftime(f"%{field}").zfill(len(text)) != text:
            raise InputError(
                f"{path}: found %{field} as {text}, expected the one of {time:%Y-%m-%d}"
            )
    return int(time.replace(tzinfo=UTC).timestamp())
