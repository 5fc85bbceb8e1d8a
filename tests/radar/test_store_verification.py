"""Verification: an untouched store has no damage, and any damage is found where it is."""

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_up import PRESENT, START
from made_up_stores import chunk_places, sign, write_compressed

from nowcast.errors import InputError
from nowcast.radar.codecs import CODECS
from nowcast.radar.store_contents import read_contents
from nowcast.radar.store_verification import verify_store


@pytest.fixture(params=CODECS)
def any_store_path(tmp_path, request):
    return write_compressed(tmp_path / "rain.h5", request.param)


@pytest.fixture
def store_path(tmp_path):
    return write_compressed(tmp_path / "rain.h5", "lz4")


@pytest.mark.parametrize("workers", [None, 1, 5])
def test_an_untouched_store_has_no_damage(any_store_path, workers):
    found = verify_store(any_store_path, workers)
    assert (found.path, found.damaged) == (any_store_path, ())
    # 36 frames in chunks of 5, and their masks.
    assert (found.blocks, found.bytes) == (16, any_store_path.stat().st_size)
    assert "nothing damaged, 16 blocks of frames and masks checked" in str(found)


def _decoded(path, name, number):
    contents = read_contents(path)
    chunks = {"frames": contents.frames, "masks": contents.masks}[name]
    with path.open("rb") as file:
        return chunks.read(file.fileno(), number)


def _flip(path, place, bits):
    with path.open("r+b") as file:
        file.seek(place)
        (before,) = file.read(1)
        file.seek(place)
        file.write(bytes([before ^ bits]))


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(chunk=st.integers(0, 15), share=st.floats(0, 1, exclude_max=True), bits=st.integers(1, 255))
def test_a_changed_byte_of_a_chunk_is_found_in_exactly_that_chunk(
    any_store_path, chunk, share, bits
):
    name, number, first_byte, size = chunk_places(any_store_path)[chunk]
    place, before = first_byte + int(share * size), _decoded(any_store_path, name, number)
    _flip(any_store_path, place, bits)
    try:
        found = verify_store(any_store_path, workers=1).damaged
        if not found:
            # Some bits mean nothing, such as how hard zlib tried: the frames are still the same.
            np.testing.assert_array_equal(_decoded(any_store_path, name, number), before)
            return
        (block,) = found
        rows = range(number * 5, min(number * 5 + 5, 36))
        times = [*(START + np.array(PRESENT[:30]) * 360), *(START + np.array(PRESENT[:6]) * 360)]
        assert block.what == name
        assert (block.first_time, block.last_time) == (times[rows[0]], times[rows[-1]])
        assert block.sequences == (("first place",) if number < 6 else ("second place",))
        assert str(block).startswith(f"{name} of {block.sequences[0]}, {block.first_time} to ")
        assert "\n" not in str(block)
    finally:
        _flip(any_store_path, place, bits)


def test_any_changed_byte_of_frames_that_are_not_compressed_is_found(tmp_path):
    path = write_compressed(tmp_path / "rain.h5", "none")
    for name, number, first_byte, size in chunk_places(path):
        for place in (first_byte, first_byte + size // 2, first_byte + size - 1):
            _flip(path, place, 1)
            (block,) = verify_store(path, workers=1).damaged
            assert block.what == name
            is_padding = number == 7 and place > first_byte
            assert ("padding" if is_padding else "CRC-32") in block.reason
            _flip(path, place, 1)


def test_every_damaged_chunk_is_listed(any_store_path):
    for _, _, first_byte, size in chunk_places(any_store_path):
        _flip(any_store_path, first_byte + size // 2, 255)
    found = verify_store(any_store_path)
    assert [block.what for block in found.damaged] == ["frames", "masks"] * 8
    assert len(str(found).splitlines()) == 17
    assert "16 damaged, 16 blocks" in str(found)


@pytest.mark.parametrize(
    ("name", "place", "value"),
    [
        ("times", 3, START.astype(np.int64) + 5 * 360 - 1),
        ("times", 0, 2**62),
        ("sequences/count", 1, -(2**62)),
        ("sequences/first", 0, 2**62),
        ("sequences/name", 0, b"\xff"),
        ("sequences/metadata", 0, b"{"),
    ],
)
def test_changed_contents_are_listed(store_path, name, place, value):
    with h5py.File(store_path, "r+") as store:
        store[name][place] = value
    (block,) = verify_store(store_path).damaged
    assert block.what == "contents"
    assert "expected" in block.reason
    with h5py.File(store_path, "r+") as store:
        sign(store)
    assert verify_store(store_path).damaged == ()


def test_a_changed_attribute_is_listed(store_path):
    with h5py.File(store_path, "r+") as store:
        store.attrs["zr_b"] = 1.5
    (block,) = verify_store(store_path).damaged
    assert (block.what, block.sequences) == ("contents", ("first place", "second place"))


def test_rain_that_is_not_that_of_the_frames_is_listed_although_all_checksums_fit(store_path):
    with h5py.File(store_path, "r+") as store:
        store["rain"][31] += np.float32(1e-4)
        store["rain"][32] = np.nan
        sign(store)
    (block,) = verify_store(store_path).damaged
    assert (block.what, block.sequences) == ("rain", ("second place",))
    assert (block.first_time, block.last_time) == (START, START + np.timedelta64(6 * 360, "s"))


def test_a_chunk_of_two_sequences_names_both(tmp_path, store_path):
    with h5py.File(store_path, "r+") as store:
        store["sequences/first"][1], store["sequences/count"][:] = 28, [28, 8]
        sign(store)
    name, number, first_byte, size = chunk_places(store_path)[5]
    assert (name, number) == ("frames", 5)
    _flip(store_path, first_byte + size // 2, 255)
    (block,) = verify_store(store_path).damaged
    assert block.sequences == ("first place", "second place")


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.999])
def test_a_store_cut_short_is_refused_or_listed(store_path, share):
    content = store_path.read_bytes()
    store_path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(InputError, match=r"rain\.h5: damaged or no frame store"):
        verify_store(store_path)


def test_what_is_no_store_is_refused(tmp_path, store_path):
    with pytest.raises(InputError, match="no such file"):
        verify_store(tmp_path / "none.h5")
    (tmp_path / "letter.h5").write_text("a letter")
    with pytest.raises(InputError, match=r"letter\.h5: damaged or no frame store"):
        verify_store(tmp_path / "letter.h5")
    with pytest.raises(InputError, match="workers: found 0"):
        verify_store(store_path, workers=0)
