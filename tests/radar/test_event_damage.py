"""Events damaged at random: they are read, or refused by name in one line."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_up_events import as_netcdf, as_zarr, event_dataset, rain_mm_h

from nowcast.errors import InputError
from nowcast.radar.event_sources import read_event


def check_read_or_refused(path):
    try:
        frames, mask, event = read_event(path)
    except InputError as error:
        message = str(error)
    else:
        assert frames.shape == mask.shape == (len(event.times), *event.shape)
        return
    assert message.startswith(f"{path}: ")
    assert "\n" not in message


def leaves(described, place=()):
    if isinstance(described, dict | list):
        items = described.items() if isinstance(described, dict) else enumerate(described)
        for key, value in items:
            yield (*place, key)
            yield from leaves(value, (*place, key))


WRONG = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 10), st.integers(-(2**70), 2**70), st.floats(),
    st.text(max_size=5), st.lists(st.integers(-1, 3), max_size=3),
    st.sampled_from(["<f8", "|O", "<U9", "<M8[ns]", "NaN", "time", {}, {"id": "delta"}]),
)  # fmt: skip


@pytest.fixture(scope="module", params=[2, 3])
def zarr_event(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("fuzzed") / "e.zarr"
    field = rain_mm_h()[:3, :2, :3]
    return as_zarr(event_dataset(field), path, request.param, chunk=2, consolidated=False)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
@pytest.mark.filterwarnings("ignore")
def test_zarr_metadata_is_read_or_refused_whatever_it_says(zarr_event, data):
    names = (".zarray", ".zattrs", ".zgroup", "zarr.json")
    files = sorted(file for file in zarr_event.rglob("*") if file.name in names)
    file = data.draw(st.sampled_from(files))
    whole = file.read_bytes()
    described = json.loads(whole)
    places = list(leaves(described))
    if places and data.draw(st.booleans()):
        *where, key = data.draw(st.sampled_from(places))
        parent = described
        for step in where:
            parent = parent[step]
        parent[key] = data.draw(WRONG)
        changed = json.dumps(described).encode()
    else:
        changed = bytearray(whole)
        changed[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        file.write_bytes(changed)
        check_read_or_refused(zarr_event)
    finally:
        file.write_bytes(whole)


@pytest.fixture(scope="module")
def netcdf_event(tmp_path_factory):
    path = tmp_path_factory.mktemp("fuzzed") / "e.nc"
    return as_netcdf(event_dataset(rain_mm_h()[:3, :2, :3]), path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
@pytest.mark.filterwarnings("ignore")
def test_netcdf_bytes_are_read_or_refused_whatever_they_are(netcdf_event, data):
    whole = netcdf_event.read_bytes()
    # HDF5's own library runs forever on a damaged global heap, where lists of axes are kept.
    heap = whole.index(b"GCOL")
    spared = range(heap, heap + int.from_bytes(whole[heap + 8 : heap + 16], "little"))
    places = st.integers(0, len(whole) - 1).filter(lambda place: place not in spared)
    changed = bytearray(whole)
    for place in data.draw(st.lists(places, min_size=1, max_size=4)):
        changed[place] = data.draw(st.integers(0, 255))
    path = netcdf_event.with_name("changed.nc")
    path.write_bytes(changed[: data.draw(st.integers(0, len(whole)) | st.just(len(whole)))])
    check_read_or_refused(path)
