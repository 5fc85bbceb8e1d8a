"""Folders of images: the same store as from NetCDF, and every file that does not fit named."""

import numpy as np
import pytest
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from nowcast.errors import InputError
from nowcast.radar.event_preparation import prepare_events
from nowcast.radar.event_sources import open_event
from nowcast.radar.events import rain_rates
from nowcast.radar.image_frames import ImageSeries, read_image
from nowcast.radar.image_legend import UNKNOWN
from nowcast.radar.store import FrameStore
from nowcast.radar.units import ZRRelation

START = np.datetime64("2020-12-31T23:40", "s")
MINUTES = [0, 5, 10, 15, 30, 35, 40]
PATTERN = "%Y/%m/%d/radar_%Y%m%d%H%M.png"
SMALL = {
    "tile_size": 4, "grid_spacing_km": 2.0, "clip_length": 5, "workers": 1,
    "minimum_wet_fraction": 0.0, "minimum_coverage": 0.0,
}  # fmt: skip
COLOURS = {0: (255, 255, 255), 4: (0, 0, 255), 16: (255, 0, 0)}


def time_at(minutes):
    return (START + np.timedelta64(60 * minutes)).item()


def write_images(folder, images, pattern=PATTERN, **options):
    for minutes, image in zip(MINUTES, images, strict=True):
        path = folder / f"{time_at(minutes):{pattern}}"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path, **options)
    return folder


def rates_of(event):
    return np.stack(list(rain_rates(event, 0, len(event.times))))


def levels():
    made = np.random.default_rng(5).integers(0, 100, (7, 10, 12), dtype=np.uint8)
    made[:, 7:, 8:] = 255
    return made


def test_a_folder_of_images_gives_the_store_that_netcdf_gives(tmp_path):
    rate = np.where(levels() == 255, np.nan, levels() / 4)
    folder = write_images(tmp_path / "images", map(Image.fromarray, levels()))
    netcdf = tmp_path / "netcdf.nc"
    coordinates = {
        "time": START.astype("M8[ns]") + np.array(MINUTES) * np.timedelta64(60, "s"),
        "y": ("y", np.arange(10)[::-1] * 1.0, {"units": "km"}),
        "x": ("x", np.arange(12) * 1.0, {"units": "km"}),
    }
    field = (("time", "y", "x"), rate, {"units": "mm h-1"})
    xr.Dataset({"rain_rate": field}, coordinates).to_netcdf(netcdf, engine="h5netcdf")
    images = ImageSeries(PATTERN, pixel_km=1, mm_h_per_level=0.25, missing_levels=[255])
    report = prepare_events(
        tmp_path / "s.h5", train=[folder], test=[netcdf], images=images, **SMALL
    )
    assert (report.splits["train"].frames, report.splits["train"].frames_missing) == (7, 2)
    store = FrameStore(tmp_path / "s.h5", step_minutes=5)
    one, other = store.sequences
    assert (one.name, other.name) == ("images:0,1", "netcdf:0,1")
    clips = [store.read(sequence, sequence.times[0], 9) for sequence in (one, other)]
    for left, right in zip(*clips, strict=True):
        assert left.tobytes() == right.tobytes()
    assert clips[0].frames.any()
    assert store.preparation["images"]["mm_h_per_level"] == 0.25
    assert one.metadata["grid_spacing_km"] == 2.0


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_grey_levels_are_exact_rain_rates_from_8_and_16_bits(tmp_path, dtype):
    numbers = levels().astype(dtype)
    folder = write_images(tmp_path / "a", map(Image.fromarray, numbers))
    images = ImageSeries(PATTERN, dbz_per_level=0.5, dbz_at_zero=-10, missing_levels=[255])
    event = open_event(folder, images=images, relation=ZRRelation(200, 1.6))
    dbz = 0.5 * levels() - 10
    expected = np.where(levels() == 0, 0, (10 ** (dbz / 10) / 200) ** (1 / 1.6))
    expected[levels() == 255] = np.nan
    np.testing.assert_allclose(rates_of(event), expected, rtol=1e-12)
    assert event.reader.bits == np.dtype(dtype).itemsize * 8
    assert (event.metadata["zr_a"], event.metadata["zr_b"]) == (200, 1.6)
    np.testing.assert_array_equal(event.times, START + np.array(MINUTES) * np.timedelta64(60))
    assert (event.shape, event.step_minutes, event.grid_spacing_km) == ((10, 12), 5, None)


def write_legend(tmp_path):
    lines = [f"#{r:02x}{g:02x}{b:02x},{rate}" for rate, (r, g, b) in COLOURS.items()]
    path = tmp_path / "legend.csv"
    path.write_text("\n".join(["colour,rain_rate_mm_h", *lines, "#808080,"]))
    return str(path)


@pytest.mark.parametrize(
    ("suffix", "mode"),
    [("png", "P"), ("png", "RGB"), ("png", "RGBA"), ("gif", "P"), ("gif", "RGB")],
)
def test_coloured_images_are_the_exact_rain_rates_of_their_legend(tmp_path, suffix, mode):
    choice = np.random.default_rng(1).integers(0, 4, (7, 6, 8))
    shades = np.array([*COLOURS.values(), (128, 128, 128)], np.uint8)
    images = []
    for frame in choice:
        image = Image.fromarray(frame.astype(np.uint8), "P")
        image.putpalette(shades.ravel().tolist())
        images.append(image.convert(mode))
    pattern = f"%Y%m%d_%H%M.{suffix}"
    folder = write_images(tmp_path / "a", images, pattern)
    event = open_event(folder, images=ImageSeries(pattern, legend=write_legend(tmp_path)))
    np.testing.assert_array_equal(rates_of(event), np.array([*COLOURS, np.nan])[choice])


def test_unknown_colours_are_refused_by_pixel_or_counted(tmp_path, caplog):
    images = [Image.new("RGB", (10, 10), COLOURS[16]) for _ in MINUTES]
    for number in (2, 3):
        images[number].putpixel((4, 1), (1, 1, 1))
    folder = write_images(tmp_path / "a", images)
    settings = {"legend": write_legend(tmp_path), "pixel_km": 1}
    with pytest.raises(InputError, match=r"2350\.png: found the colour #010101 in row 1, column 4"):
        prepare_events(
            tmp_path / "s.h5", train=[folder], images=ImageSeries(PATTERN, **settings), **SMALL
        )
    assert not (tmp_path / "s.h5").exists()
    caplog.set_level("INFO", "nowcast")
    prepare_events(
        tmp_path / "s.h5", train=[folder],
        images=ImageSeries(PATTERN, unknown_colours="missing", **settings),
        **SMALL | {"grid_spacing_km": 1, "tile_size": 10},
    )  # fmt: skip
    assert f"{folder}: 2 {UNKNOWN}" in caplog.text
    store = FrameStore(tmp_path / "s.h5")
    mask = store.read(store.sequences[0], START, 9).mask
    assert mask.sum() == 7 * 100 - 2
    assert not mask[2:4, 1, 4].any()


def test_an_image_that_changes_or_another_legend_makes_another_store(tmp_path):
    folder = write_images(tmp_path / "a", [Image.new("L", (10, 10), 9) for _ in MINUTES])
    images = ImageSeries(PATTERN, pixel_km=1, mm_h_per_level=0.25)
    prepare_events(tmp_path / "s.h5", train=[folder], images=images, **SMALL)
    again = prepare_events(tmp_path / "s.h5", train=[folder], images=images, **SMALL)
    assert again.already_there
    other = ImageSeries(PATTERN, pixel_km=1, mm_h_per_level=0.5)
    with pytest.raises(InputError, match="with other settings"):
        prepare_events(tmp_path / "s.h5", train=[folder], images=other, **SMALL)
    Image.new("L", (10, 10), 100).save(folder / "2020/12/31/radar_202012312340.png")
    with pytest.raises(InputError, match="from other frames"):
        prepare_events(tmp_path / "s.h5", train=[folder], images=images, **SMALL)


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({}, "found none of them, expected one of dbz_per_level"),
        ({"legend": "x", "mm_h_per_level": 1}, "found mm_h_per_level and legend, expected one"),
        ({"legend": "none.csv"}, "none.csv: cannot be read as a legend"),
        ({"legend": "x", "missing_levels": [1]}, "expected an empty rate in the legend"),
        ({"mm_h_per_level": 0.0}, "mm_h_per_level: found 0.0"),
        ({"mm_h_per_level": 1, "missing_levels": [-1]}, "missing_levels: found -1"),
        ({"mm_h_per_level": 1, "no_echo_levels": [2**16]}, "no_echo_levels: found 65536"),
        ({"mm_h_per_level": 1, "pixel_km": 0}, "pixel_km: found 0"),
        ({"dbz_per_level": 1}, "found dbz_per_level without dbz_at_zero"),
        ({"dbz_per_level": 1, "dbz_at_zero": 0}, "found dbz_per_level without zr_a and zr_b"),
        (
            {"pattern": None, "mm_h_per_level": 1},
            "a: found a folder that is no Zarr store and holds no comp",
        ),
    ],
)
def test_settings_that_leave_open_what_a_pixel_means_are_refused(tmp_path, changes, found):
    folder = write_images(tmp_path / "a", map(Image.fromarray, levels()))
    with pytest.raises(InputError, match=found):
        open_event(folder, images=ImageSeries(**{"pattern": PATTERN, **changes}))


def test_settings_of_reflectivity_that_make_no_sense_are_refused(tmp_path):
    folder = write_images(tmp_path / "a", map(Image.fromarray, levels()))
    for per_level in (0.0, float("nan")):
        images = ImageSeries(PATTERN, dbz_per_level=per_level, dbz_at_zero=0)
        with pytest.raises(InputError, match="dbz_per_level: found"):
            open_event(folder, images=images, relation=ZRRelation(200, 1.6))


def test_images_that_are_not_like_the_first_are_refused_by_name(tmp_path):
    images = ImageSeries(PATTERN, mm_h_per_level=1)
    grey = [Image.new("L", (12, 10)) for _ in MINUTES]
    for wrong, found in (
        (Image.new("L", (10, 12)), "found 12 × 10 pixels, expected 10 × 12 as in the first image"),
        (Image.new("I;16", (12, 10)), "found 16 bits per level, expected 8"),
        (Image.new("RGB", (12, 10), (0, 0, 9)), "colour #000009 in row 0, column 0"),
        (Image.new("1", (12, 10)), "found grey levels of 1 bits, expected grey of 8 or 16"),
    ):
        folder = write_images(tmp_path / "a", [*grey[:3], wrong, *grey[4:]])
        event = open_event(folder, images=images)
        with pytest.raises(InputError, match=found) as raised:
            rates_of(event)
        assert str(raised.value).startswith(f"{folder}/2020/12/31/radar_202012312355.png: ")


def test_grey_images_of_16_bits_with_a_legend_are_refused_by_name(tmp_path):
    deep = [Image.fromarray(frame.astype(np.uint16) * 200) for frame in levels()]
    folder = write_images(tmp_path / "a", deep)
    event = open_event(folder, images=ImageSeries(PATTERN, legend=write_legend(tmp_path)))
    with pytest.raises(InputError, match=r"2340\.png: found grey levels of 16 bits"):
        rates_of(event)


def test_images_that_are_none_are_refused_by_name(tmp_path):
    frames = [Image.new("L", (4, 4), shade) for shade in (1, 2)]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / "moving.png", save_all=True, append_images=frames[1:])
    frames[0].convert("RGB").save(tmp_path / "photo.png", format="JPEG")
    (tmp_path / "empty.png").touch()
    Image.new("1", (1, 1)).save(tmp_path / "small.png")
    header = bytearray((tmp_path / "small.png").read_bytes())
    header[16:24] = (10**5).to_bytes(4, "big") * 2
    (tmp_path / "huge.png").write_bytes(header)
    for name, found in (
        ("moving.gif", "found an animation"), ("moving.png", "found an animation"),
        ("photo.png", "cannot be read as a PNG or GIF"), ("empty.png", "cannot be read"),
        ("huge.png", "cannot be read|pixels"), ("none.png", "cannot be read"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=f"{name}: .*{found}") as raised:
            read_image(tmp_path / name)
        assert "\n" not in str(raised.value)


def test_a_size_is_refused_before_pixels_are_decoded(tmp_path, monkeypatch):
    Image.new("L", (9000, 9000)).save(tmp_path / "large.png")
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda image: pytest.fail("decoded"))
    with pytest.raises(InputError, match="found 9000 × 9000 pixels, expected at most 67,108,864"):
        read_image(tmp_path / "large.png")


def test_frames_off_the_time_step_are_refused_by_folder(tmp_path):
    folder = write_images(tmp_path / "a", map(Image.fromarray, levels()))
    Image.new("L", (12, 10)).save(folder / "2020/12/31/radar_202012312358.png")
    with pytest.raises(InputError, match=r"a: found 5 minutes between times 0 and 1, expected"):
        open_event(folder, images=ImageSeries(PATTERN, mm_h_per_level=1))


@pytest.fixture(scope="module")
def small_images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    noise = np.random.default_rng(0).integers(0, 256, (8, 9), np.uint8)
    Image.fromarray(noise).save(folder / "grey.png")
    Image.fromarray(noise.astype(np.uint16) * 200).save(folder / "deep.png")
    palette = Image.fromarray(noise).convert("P")
    palette.save(folder / "palette.png", transparency=3)
    palette.save(folder / "palette.gif", transparency=3)
    Image.fromarray(np.stack([noise] * 4, axis=-1)).save(folder / "transparent.png")
    return folder


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
@pytest.mark.filterwarnings("ignore")
def test_image_bytes_are_decoded_or_refused_whatever_they_are(small_images, tmp_path, data):
    name = data.draw(st.sampled_from(sorted(path.name for path in small_images.iterdir())))
    changed = bytearray((small_images / name).read_bytes())
    places = st.integers(0, len(changed) - 1) | st.integers(0, 60)
    for place in data.draw(st.lists(places, max_size=4)):
        changed[place] = data.draw(st.integers(0, 255))
    path = tmp_path / name
    path.write_bytes(changed[: data.draw(st.just(len(changed)) | st.integers(0, len(changed)))])
    try:
        image = read_image(path, (8, 9))
    except InputError as error:
        message = str(error)
    else:
        assert image.size == (9, 8)
        return
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
