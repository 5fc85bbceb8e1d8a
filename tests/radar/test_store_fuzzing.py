"""A damaged or malicious frame store: using it raises nothing but InputError."""

from contextlib import suppress

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_up import START
from made_up_stores import sign, write_compressed

from nowcast.errors import InputError
from nowcast.radar.codecs import CODECS
from nowcast.radar.store import FrameStore
from nowcast.radar.store_contents import ATTRIBUTES, COLUMNS
from nowcast.radar.store_verification import verify_store

fuzzed = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module", params=CODECS)
def whole_path(tmp_path_factory, request):
    return write_compressed(tmp_path_factory.mktemp("whole") / "rain.h5", request.param)


@pytest.fixture(scope="module")
def lz4_path(tmp_path_factory):
    return write_compressed(tmp_path_factory.mktemp("whole") / "rain.h5", "lz4")


def _use(path):
    """Open, read and verify a store in every way; whether all was without complaint."""
    complaints = []

    def attempt(use):
        try:
            return use()
        except InputError as error:
            assert str(error).startswith(f"{path}: ")  # noqa: PT017 - damage may be harmless
            assert "\n" not in str(error)  # noqa: PT017
            complaints.append(error)

    def read_all(in_memory):
        store = FrameStore(path, in_memory=in_memory)
        for sequence in store.sequences:
            for start in (START, START + 20 * 360):
                clip = store.read(sequence, start, 25)
                assert clip.frames.shape == clip.mask.shape == (25, *store.shape)

    for in_memory in (False, True):
        attempt(lambda in_memory=in_memory: read_all(in_memory))
    verification = attempt(lambda: verify_store(path, workers=1))
    assert verification is None or str(verification).startswith(f"{path}: ")
    return not complaints and not verification.damaged


def test_an_untouched_store_is_read_without_complaint(whole_path):
    assert _use(whole_path)


places = st.floats(0, 1)
changes = st.one_of(
    st.tuples(st.just("replace"), places, st.binary(min_size=1, max_size=16)),
    st.tuples(st.just("insert"), places, st.binary(min_size=1, max_size=600)),
    st.tuples(st.just("cut out"), places, st.integers(1, 600)),
    st.tuples(st.just("cut off"), places, st.none()),
    st.tuples(st.just("repeat"), places, places),
)


def _changed(content, kind, where, what):
    place = int(where * len(content))
    match kind:
        case "replace":
            return content[:place] + what + content[place + len(what) :]
        case "insert":
            return content[:place] + what + content[place:]
        case "cut out":
            return content[:place] + content[place + what :]
        case "cut off":
            return content[:place]
        case _:
            source = int(what * len(content))
            return content[:place] + content[source : source + 64] + content[place + 64 :]


@fuzzed
@given(several=st.lists(changes, min_size=1, max_size=6))
def test_changed_bytes_raise_nothing_but_input_errors(whole_path, tmp_path, several):
    content = whole_path.read_bytes()
    for change in several:
        content = _changed(content, *change)
    damaged = tmp_path / "damaged.h5"
    damaged.write_bytes(content)
    _use(damaged)


@fuzzed
@given(where=places, bits=st.integers(1, 255))
def test_a_changed_byte_is_noticed_or_harmless(lz4_path, tmp_path, where, bits):
    content = bytearray(lz4_path.read_bytes())
    content[int(where * (len(content) - 1))] ^= bits
    damaged = tmp_path / "damaged.h5"
    damaged.write_bytes(bytes(content))
    if not _use(damaged):
        return
    whole, found = FrameStore(lz4_path), FrameStore(damaged)
    for before, after in zip(whole.sequences, found.sequences, strict=True):
        np.testing.assert_array_equal(before.times, after.times)
        for a, b in zip(whole.read(before, START, 40), found.read(after, START, 40), strict=True):
            np.testing.assert_array_equal(a, b)


numbers = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
    st.lists(st.integers(-5, 50), max_size=4),
    st.text(max_size=20),
    st.binary(max_size=20).map(np.void),
    st.just(h5py.Empty("f8")),
)


@fuzzed
@given(
    name=st.sampled_from([*ATTRIBUTES, "checksum"]),
    value=numbers,
    keeps_type=st.booleans(),
    is_signed=st.booleans(),
)
def test_changed_attributes_raise_nothing_but_input_errors(
    lz4_path, tmp_path, name, value, keeps_type, is_signed
):
    damaged = tmp_path / "damaged.h5"
    damaged.write_bytes(lz4_path.read_bytes())
    with h5py.File(damaged, "r+") as store:
        try:
            if keeps_type:
                store.attrs.modify(name, value)
            else:
                store.attrs[name] = value
        except (TypeError, ValueError, OSError, OverflowError):
            return  # h5py itself refuses to write it.
        if is_signed and name != "checksum":
            with suppress(AttributeError):  # h5py.Empty has no bytes to sign.
                sign(store)
    _use(damaged)


dtypes = st.sampled_from([np.uint8, np.int64, np.float32, np.uint32, ">i8", "S5", bool, complex])
shapes = st.lists(st.sampled_from([0, 1, 2, 6, 8, 13, 35, 36, 37]), max_size=4).map(tuple)


def _replace_dataset(store, name, kind, dtype, shape, chunked):
    del store[name]
    match kind:
        case "missing":
            return
        case "group":
            store.create_group(name)
        case "external link":
            store[name] = h5py.ExternalLink("/etc/hostname", name)
        case "soft link":
            store[name] = h5py.SoftLink("/times")
        case "external storage":
            store.create_dataset(name, (36,), np.int64, external=[("/etc/hostname", 0, 288)])
        case "virtual":
            layout = h5py.VirtualLayout(shape=(36,), dtype=np.int64)
            layout[:] = h5py.VirtualSource("/etc/hostname", "times", shape=(36,))
            store.create_virtual_dataset(name, layout)
        case "huge":
            store.create_dataset(name, (2**40, *shape[1:]), dtype)
        case "any length":
            store.create_dataset(name, shape, h5py.string_dtype())
        case _:
            values = np.random.default_rng(len(shape)).integers(0, 100, shape).astype(dtype)
            chunks = True if chunked and values.ndim and values.size else None
            store.create_dataset(name, data=values, chunks=chunks)


kinds = st.sampled_from(
    [
        "missing", "group", "external link", "soft link", "external storage", "virtual", "huge",
        "any length", "other values", "other values",
    ]
)  # fmt: skip


@fuzzed
@given(
    name=st.sampled_from([*COLUMNS, "frames", "masks", "sequences", "checksums"]),
    kind=kinds,
    dtype=dtypes,
    shape=shapes,
    chunked=st.booleans(),
)
def test_replaced_datasets_raise_nothing_but_input_errors(
    lz4_path, tmp_path, name, kind, dtype, shape, chunked
):
    damaged = tmp_path / "damaged.h5"
    damaged.write_bytes(lz4_path.read_bytes())
    with h5py.File(damaged, "r+") as store:
        _replace_dataset(store, name, kind, dtype, shape, chunked)
        if kind == "other values":
            # In place of a group there is nothing below it to sign.
            with suppress(KeyError, TypeError, ValueError):
                sign(store)
    _use(damaged)


@fuzzed
@given(
    name=st.sampled_from([*COLUMNS]),
    place=places,
    content=st.binary(min_size=1, max_size=24),
    is_signed=st.booleans(),
)
def test_changed_values_raise_nothing_but_input_errors(
    lz4_path, tmp_path, name, place, content, is_signed
):
    damaged = tmp_path / "damaged.h5"
    damaged.write_bytes(lz4_path.read_bytes())
    with h5py.File(damaged, "r+") as store:
        values = store[name][()]
        stored = values.tobytes()
        first = int(place * (len(stored) - 1))
        stored = (stored[:first] + content + stored[first + len(content) :])[: len(stored)]
        store[name][...] = np.frombuffer(stored, values.dtype)
        if is_signed:
            sign(store)
    _use(damaged)
