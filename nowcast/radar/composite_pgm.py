"""FMI's composites in PGM, with the georeference in comments, through pysteps' importer."""

from pathlib import Path

from nowcast.errors import InputError
from nowcast.radar.composite_parts import (
    CompositeFormat,
    check_shape,
    grid_of_corners,
    is_gzip,
    needed,
    seconds_of_text,
    uncompressed_start,
)
from nowcast.radar.composites import Composite
from nowcast.radar.units import ZRRelation


def _pgm_header(path: Path) -> tuple[dict[str, str], tuple[int, int]]:
    """What its comments say, by their first word, and its (y, x)."""
    lines = uncompressed_start(path).split(b"\n", 200)
    comments = [line[1:].decode("ascii").split() for line in lines if line.startswith(b"#")]
    said = {words[0]: " ".join(words[1:]) for words in comments if words}
    sizes = next(line for line in lines[1:] if not line.startswith(b"#"))
    width, height = (int(word) for word in sizes.split())
    check_shape((height, width))
    return said, (height, width)


def _pgm_second(path: Path) -> int:
    said, _ = _pgm_header(path)
    if "obstime" not in said:
        raise InputError("found no obstime, expected the time in a comment")
    return seconds_of_text(said["obstime"], "%Y%m%d%H%M")


def _read_pgm(path: Path) -> Composite:
    importers = needed("pysteps.io.importers")
    said, shape = _pgm_header(path)
    for name, expected in (("param", "CorrectedReflectivity"), ("type", "stereographic")):
        if said.get(name) != expected:
            raise InputError(f"found {name} {said.get(name)!r}, expected {expected!r}")
    values, _, metadata = importers.import_fmi_pgm(str(path), gzipped=is_gzip(path))
    if values.shape != shape:
        raise InputError(f"found {values.shape} pixels, expected {shape} as its header says")
    relation = ZRRelation(metadata["zr_a"], metadata["zr_b"])
    return Composite(
        path, _pgm_second(path), values, "reflectivity", None, relation,
        grid_of_corners(metadata, shape), "FMI",
    )  # fmt: skip


PGM = CompositeFormat("FMI PGM", _pgm_second, _read_pgm)
