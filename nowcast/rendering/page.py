"""The page: scores, plots and animations in one HTML file that needs nothing beside itself.

Laid out by `page.html`, `page.css` and `page.js`, which are written into the file. The file may
load nothing from anywhere and run no script but its own: a Content-Security-Policy in it says so,
and every name and text is escaped. What the tables say is decided elsewhere, and so is what the
plots and the animations show.
"""

import base64
import hashlib
import os
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from nowcast.errors import InputError
from nowcast.files import replacing
from nowcast.rendering.canvas import plain
from nowcast.rendering.panels import Animation, Panel

FOLDER = Path(__file__).parent
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def write_page(
    path: str | os.PathLike[str],
    *,
    title: str,
    facts: Mapping[str, str],
    notes: Sequence[str] = (),
    tables: Sequence[Mapping[str, Any]] = (),
    event_tables: Sequence[Mapping[str, Any]] = (),
    plots: Mapping[str, bytes] | None = None,
    animations: Sequence[Animation] = (),
) -> None:
    """Write one HTML file with all that an evaluation gave, or with a forecast alone.

    It opens in any browser of the last years, from a disk too, without a network; without scripts
    the animations are still pictures of the first lead time. Pictures are written into it as they
    are, a third larger: widespread rain in 25 frames and four panels takes 0.25 MB at 120 × 120
    pixels (which are enlarged to 240 × 240) and 1.6 MB at 480 × 480.

    Args:
        path: the file to write.
        title: a headline.
        facts: what was scored and how, or, without tables, what is shown: names and values.
        notes: how the tables are to be read, a line each.
        tables: tables of scores, in order: each with `title`, `columns` (headings), `rows` (each
            with `name` and `cells`; a cell has `text`, `interval` and `p_value`, which stand below
            it, and `best`, whether it stands out) and `notes` (lines under the table).
        event_tables: tables of the same form that are folded up at first.
        plots: PNG files by the heading that is shown over each.
        animations: from `animate`.

    Raises:
        InputError: a plot is no PNG file, or an animation has no frames.
    """
    for animation in animations:
        if not animation.frame_labels or not animation.panels:
            raise InputError("page: found an animation without frames, expected at least one")
    style = (FOLDER / "page.css").read_text(encoding="utf-8")
    script = (FOLDER / "page.js").read_text(encoding="utf-8")
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=_shown,
    )
    text = environment.get_template("page.html").render(
        title=title,
        facts=facts,
        notes=notes,
        tables=tables,
        event_tables=event_tables,
        plots=[{"heading": name, **_picture(name, png)} for name, png in (plots or {}).items()],
        animations=[_animation(animation) for animation in animations],
        style=Markup(style),
        script=Markup(script),
        style_hash=_hash(style),
        script_hash=_hash(script),
    )
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def _shown(value: Any) -> Any:
    """Text without control characters; what is markup of ours stays as it is."""
    return value if isinstance(value, Markup) or not isinstance(value, str) else plain(value)


def _animation(animation: Animation) -> dict[str, Any]:
    frame = min(animation.issue_frame, len(animation.frame_labels) - 1)
    return {
        "title": animation.title,
        "credit": animation.source,
        "frame": frame,
        "frame_labels": animation.frame_labels,
        "durations_ms": animation.durations_ms,
        "legend": _picture("legend", animation.legend),
        "lines": None if animation.lines is None else _picture("lines", animation.lines),
        "panels": [
            {"name": panel.name, "pictures": _pictures(panel, frame)} for panel in animation.panels
        ],
    }


def _pictures(panel: Panel, frame: int) -> list[dict[str, Any]]:
    shown = max(first for first in panel.first_frames if first <= frame)
    return [
        {"first": first, "shown": first == shown, **_picture(panel.name, png)}
        for first, png in zip(panel.first_frames, panel.pictures, strict=True)
    ]


def _picture(name: str, png: bytes) -> dict[str, Any]:
    """A PNG file as an address that holds it, with its size in pixels."""
    if png[:8] != PNG_SIGNATURE or len(png) < 24:
        raise InputError(f"page: {name}: found {len(png)} bytes that are no PNG file")
    width, height = struct.unpack(">II", png[16:24])
    source = "data:image/png;base64," + base64.b64encode(png).decode("ascii")
    return {"source": Markup(source), "width": width, "height": height}


def _hash(text: str) -> str:
    """What a Content-Security-Policy calls a script or a style by."""
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return "sha256-" + base64.b64encode(digest).decode("ascii")
