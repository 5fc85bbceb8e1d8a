"""Codecs: what HDF5's own filters write is read, what we write they read, all else is refused."""

import struct
import tracemalloc
import zlib

import h5py
import hdf5plugin
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nowcast.errors import InputError
from nowcast.radar.codecs import CODECS, compression_named, encode_lz4

RANDOM = np.random.default_rng(1)
FIELDS = {
    "rain": np.maximum(0, 200 * np.sin(np.linspace(0, 9, 7 * 60 * 41)) - 90).astype(np.uint8),
    "noise, which does not compress": RANDOM.integers(0, 256, 7 * 60 * 41, dtype=np.uint8),
    "zeros": np.zeros(7 * 60 * 41, dtype=np.uint8),
}


@pytest.mark.parametrize("compression", CODECS)
@given(content=st.binary(min_size=1, max_size=2000), repeats=st.integers(1, 50))
def test_what_is_encoded_is_decoded(compression, content, repeats):
    codec = CODECS[compression]
    encoded = codec.encode(content * repeats)
    assert bytes(codec.decode(encoded, len(content) * repeats)) == content * repeats


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("block_bytes", [None, 1000, 2460, 4096])
def test_hdf5_reads_what_the_lz4_codec_writes(tmp_path, field, block_bytes):
    frames = FIELDS[field].reshape(7, 60, 41)
    with h5py.File(tmp_path / "ours.h5", "w") as file:
        dataset = file.create_dataset(
            "frames", frames.shape, np.uint8, chunks=(1, 60, 41), **CODECS["lz4"].dataset_settings
        )
        for number, frame in enumerate(frames):
            dataset.id.write_direct_chunk((number, 0, 0), encode_lz4(frame.tobytes(), block_bytes))
    assert hdf5plugin.LZ4_ID == CODECS["lz4"].filters[0]
    with h5py.File(tmp_path / "ours.h5") as file:
        np.testing.assert_array_equal(file["frames"][:], frames)


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize(
    ("compression", "settings"),
    [
        ("lz4", hdf5plugin.LZ4()),
        ("lz4", hdf5plugin.LZ4(nbytes=1000)),
        ("lz4", hdf5plugin.LZ4(nbytes=2460)),
        ("gzip", {"compression": "gzip", "compression_opts": 6}),
        ("none", {}),
    ],
)
def test_the_codecs_decode_what_hdf5_writes(tmp_path, field, compression, settings):
    frames = FIELDS[field].reshape(7, 60, 41)
    with h5py.File(tmp_path / "theirs.h5", "w") as file:
        file.create_dataset("frames", data=frames, chunks=(1, 60, 41), **settings)
    with h5py.File(tmp_path / "theirs.h5") as file:
        for number, frame in enumerate(frames):
            skipped_filters, chunk = file["frames"].id.read_direct_chunk((number, 0, 0))
            assert not skipped_filters
            assert CODECS[compression].decode(chunk, frame.nbytes) == frame.tobytes()


def test_an_lz4_chunk_is_what_the_registered_filter_describes():
    chunk = encode_lz4(b"ab" * 500, block_bytes=400)
    assert struct.unpack(">QI", chunk[:12]) == (1000, 400)
    assert encode_lz4(b"abc") == struct.pack(">QII", 3, 3, 3) + b"abc"


LZ4 = encode_lz4(b"rain " * 100)


@pytest.mark.parametrize(
    ("compression", "chunk", "found"),
    [
        ("lz4", b"", "0 bytes, expected the header"),
        ("lz4", LZ4[:12], "ends 500 bytes too early"),
        ("lz4", LZ4[:20], "where 4 are left"),
        ("lz4", LZ4 + b"!", "1 bytes after"),
        ("lz4", struct.pack(">Q", 501) + LZ4[8:], "501 bytes in blocks of 500, expected 500"),
        ("lz4", LZ4[:8] + bytes(4) + LZ4[12:], "blocks of 0"),
        ("lz4", LZ4[:12] + struct.pack(">I", 2**32 - 1) + LZ4[16:], "block of 4294967295 bytes"),
        ("lz4", LZ4[:12] + struct.pack(">I", 1) + LZ4[16:17], "too few for 500"),
        ("lz4", LZ4[:16] + b"\xff" * (len(LZ4) - 16), "damaged LZ4 block"),
        ("gzip", b"not zlib", "damaged deflate"),
        ("gzip", zlib.compress(bytes(499)), "499 bytes"),
        ("gzip", zlib.compress(bytes(501)), "501 bytes"),
        ("gzip", zlib.compress(bytes(500)) + b"!", "does not end"),
        ("gzip", zlib.compress(bytes(500))[:-1], "does not end"),
        ("none", bytes(499), "499 bytes, expected 500"),
    ],
)
def test_what_is_no_chunk_of_the_size_expected_is_refused(compression, chunk, found):
    with pytest.raises(InputError, match=found):
        CODECS[compression].decode(chunk, 500)


@pytest.mark.parametrize(
    ("compression", "chunk", "expected_bytes"),
    [
        ("lz4", struct.pack(">QII", 2**30, 2**30, 20) + bytes(20), 2**30),
        ("lz4", struct.pack(">QII", 2**30, 2**20, 2**20 - 1) + bytes(20), 2**30),
        ("gzip", zlib.compress(bytes(2**24)), 1000),
        ("gzip", zlib.compress(bytes(1000)), 2**30),
        ("none", bytes(20), 2**30),
    ],
)
def test_a_chunk_that_promises_much_costs_no_memory(compression, chunk, expected_bytes):
    tracemalloc.start()
    try:
        with pytest.raises(InputError):
            CODECS[compression].decode(chunk, expected_bytes)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("compression", CODECS)
@given(
    changes=st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=3)), min_size=1, max_size=8),
    content=st.binary(min_size=1, max_size=300),
)
@settings(deadline=None)
def test_a_changed_chunk_decodes_to_its_size_or_is_refused(compression, changes, content):
    chunk = bytearray(CODECS[compression].encode(content * 3))
    for share, instead in changes:
        place = int(share * len(chunk))
        chunk[place : place + 1] = instead
    try:
        decoded = CODECS[compression].decode(bytes(chunk), len(content) * 3)
    except InputError as error:
        assert "\n" not in str(error)  # noqa: PT017 - a change may be harmless
    else:
        assert len(decoded) == len(content) * 3


def test_an_unknown_compression_is_refused_with_those_there_are():
    assert compression_named("gzip") == "gzip"
    with pytest.raises(InputError, match="found 'zip', expected one of lz4, gzip, none"):
        compression_named("zip")
