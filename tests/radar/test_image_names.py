"""Names of images: which files are frames of what time, and what is refused."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nowcast.errors import InputError
from nowcast.radar.image_names import _expression, _second, image_files


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    return folder


def seconds(*times):
    return [int(datetime(*time, tzinfo=UTC).timestamp()) for time in times]


def test_a_pattern_with_a_slash_is_that_of_the_path_and_others_are_counted(tmp_path, caplog):
    folder = touch(
        tmp_path,
        "2020/12/31/radar_202012312355.png",
        "2021/01/01/radar_202101010000.png",
        "radar_202101010005.png",
        "2021/01/01/radar_202101010005.png.bak",
        "legend.csv",
    )
    caplog.set_level("INFO", "nowcast")
    files = image_files(folder, "%Y/%m/%d/radar_%Y%m%d%H%M.png")
    assert [file.second for file in files] == seconds((2020, 12, 31, 23, 55), (2021, 1, 1))
    assert files[0].name == "2020/12/31/radar_202012312355.png"
    assert files[0].size == len(files[0].name)
    assert "passed over 3 files" in caplog.text


def test_a_pattern_without_a_slash_is_that_of_the_name_however_deep(tmp_path):
    folder = touch(tmp_path, "b/c/100%-21001.0630.gif", "100%-21001.0625.gif")
    files = image_files(folder, "100%%-%y%j.%H%M.gif")
    assert [file.second for file in files] == seconds((2021, 1, 1, 6, 25), (2021, 1, 1, 6, 30))


def test_linked_folders_are_not_followed_and_said_in_the_log(tmp_path, caplog):
    folder = touch(tmp_path / "images", "2021010100.png")
    touch(tmp_path / "elsewhere", "2021010101.png")
    (folder / "more").symlink_to(tmp_path / "elsewhere")
    (folder / "a").mkdir()
    (folder / "a/round").symlink_to(folder)
    caplog.set_level("INFO", "nowcast")
    files = image_files(folder, "%Y%m%d%H.png")
    assert [file.name for file in files] == ["2021010100.png"]
    assert f"{folder}: passed over 2 linked folders, such as a/round" in caplog.text
    (folder / "2021010100.png").unlink()
    with pytest.raises(InputError, match="found no file, and 2 linked folders that are not follow"):
        image_files(folder, "%Y%m%d%H.png")


@pytest.mark.parametrize(
    ("pattern", "names", "found"),
    [
        ("%H%M.png", ["0000.png"], "found no full time"),
        ("%Y%m%d.png", ["20200101.png"], "found no full time"),
        ("%Y%b%d%H.png", ["2020Jan0100.png"], "found '%b', expected fields of %Y %y"),
        ("%Y%m%d%H.png%", ["a"], "found '%', expected fields"),
        ("%Y%m%d%H.png", [], "found no file, expected names like '%Y%m%d%H.png'"),
        ("%Y%m%d%H.png", ["b.png", "a.png"], "found 'a.png' and 1 others, expected names like"),
        ("%Y%m%d%H.png", ["2020013100.png", "2020023000.png"], "2020023000.png: found no time"),
        ("%Y/%Y%m%d%H.png", ["2020/2021010100.png"], "found %Y as 2020 and as 2021"),
        ("%j/%Y%m%d%H.png", ["002/2021010100.png"], "found %"),
        ("%Y%m%d%H.png", ["a/2020010100.png", "b/2020010100.png"], "found the same time as in"),
    ],
)
def test_names_that_do_not_tell_one_time_each_are_refused(tmp_path, pattern, names, found):
    touch(tmp_path, *names)
    with pytest.raises(InputError, match=found) as raised:
        image_files(tmp_path, pattern)
    assert "\n" not in str(raised.value)


@given(
    time=st.datetimes(datetime(1000, 1, 1), datetime(9999, 12, 31)),
    literal=st.text(st.characters(codec="utf-8", exclude_characters="/\0"), max_size=4),
)
def test_a_name_made_by_strftime_is_read_back(time, literal):
    pattern = literal.replace("%", "%%") + "%Y.%j/%m %d%H%M%S" + literal.replace("%", "%%")
    name = f"{literal}{time:%Y.%j/%m %d%H%M%S}{literal}"
    match = _expression(pattern).fullmatch(name)
    assert match is not None
    expected = int(time.replace(tzinfo=UTC, microsecond=0).timestamp())
    assert _second(None, match) == expected
