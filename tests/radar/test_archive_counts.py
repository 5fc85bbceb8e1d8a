"""Splits, days and what is missing: for any timestamps and lists as a plain restatement has it."""

import re
import tempfile
import zipfile
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nowcast.errors import InputError
from nowcast.radar.archive import HKO7Archive

FIRST = datetime(2012, 2, 27, tzinfo=UTC)
DAYS = [FIRST + timedelta(days=number) for number in range(4)]
STEP = 90
"""Minutes; 16 timestamps a day are enough for every case."""

TIMES = st.sets(
    st.builds(
        lambda day, number, stray: day + timedelta(minutes=STEP * number, seconds=stray),
        st.sampled_from(DAYS),
        st.integers(0, 1440 // STEP - 1),
        # Few lie between the steps, as in HKO-7.
        st.sampled_from([0] * 12 + [13]),
    ),
    min_size=1,
)
LISTS = st.dictionaries(
    st.sampled_from(["train", "valid", "test"]), st.lists(st.sampled_from(DAYS), unique=True)
)


def write(root, times, masks, lists, zipped):
    """Frames of the times, some in a zip file; none of them is ever decoded."""
    with zipfile.ZipFile(root / "part.zip", "w") as part:
        for time in times:
            for kind, there in (("png", True), ("mask", time in masks)):
                if not there:
                    continue
                folder = f"radar_{kind}/{time:%Y/%m/%d}"
                name = f"{folder}/RAD{time:%y%m%d%H%M%S}.{kind}"
                if time in zipped:
                    part.writestr(name, b"")
                else:
                    (root / folder).mkdir(parents=True, exist_ok=True)
                    (root / name).touch()
    for name, days in lists.items():
        text = "".join(f"{day:%Y%m%d}, 1.5\n" for day in days)
        (root / f"hko7_rainy_{name}_days.txt").write_text(text)


@settings(deadline=None)
@given(st.data(), TIMES, LISTS)
def test_splits_hold_what_their_lists_and_the_files_say(data, times, lists):
    masks = data.draw(st.sets(st.sampled_from(sorted(times))), label="masks")
    zipped = data.draw(st.sets(st.sampled_from(sorted(times))), label="zipped")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write(root, times, masks, lists, zipped)
        try:
            archive = HKO7Archive(root, 12, STEP)
        except InputError as error:
            check_refusal(error, times, lists)
            return
    expected = lists or {"all": {time.replace(hour=0, minute=0, second=0) for time in times}}
    assert archive.splits.keys() == expected.keys()
    listed_times = set()
    for name, days in expected.items():
        split = archive.splits[name]
        own = sorted(time for time in times if time.date() in {day.date() for day in days})
        listed_times |= set(own)
        assert [frame.second for frame in split.frames] == [time.timestamp() for time in own]
        assert [frame.mask is not None for frame in split.frames] == [t in masks for t in own]
        assert split.times.tolist() == [time.replace(tzinfo=None) for time in own]
        assert split.days == tuple(f"{day:%Y-%m-%d}" for day in sorted(days))
        assert split.days_without_frames == tuple(
            f"{day:%Y-%m-%d}"
            for day in sorted(days)
            if not any(time.date() == day.date() for time in own)
        )
        wanted = {
            day + timedelta(minutes=STEP * number) for day in days for number in range(1440 // STEP)
        }
        assert split.frames_missing == len(wanted - times)
        left_out = set(data.draw(st.sets(st.sampled_from(own)), label="left out") if own else [])
        rest = split.without({int(time.timestamp()) for time in left_out}, STEP)
        assert [frame.second for frame in rest.frames] == [
            time.timestamp() for time in own if time not in left_out
        ]
        assert rest.frames_missing == len(wanted - (times - left_out))
        assert set(rest.days_without_frames) == {
            f"{day:%Y-%m-%d}"
            for day in days
            if not any(t.date() == day.date() for t in set(own) - left_out)
        }
    assert archive.frames_in_no_list == len(times - listed_times)
    assert sum(archive.places.values()) == len(times)


def check_refusal(error, times, lists):
    """Refused are frames at another step: too many between the steps, or none close together."""
    assert re.search(r"expected multiples of 90 minutes|found no frames closer", str(error))
    midnights = list(lists.values()) or [DAYS]
    splits = [
        sorted(t for t in times if t.date() in {d.date() for d in days}) for days in midnights
    ]
    every = [time for split in splits for time in split]
    off = [time for time in every if time.timestamp() % (60 * STEP)]
    gaps = [
        (later - earlier).total_seconds()
        for split in splits
        for earlier, later in pairwise(split)
        if earlier.date() == later.date()
    ]
    assert len(off) > 0.25 * len(every) or min(gaps) > 60 * STEP


@pytest.mark.parametrize("days", [1, 3])
def test_a_list_of_days_alone_has_every_timestamp_missing(tmp_path, days):
    write(tmp_path, {DAYS[3]}, set(), {"train": DAYS[:days]}, set())
    split = HKO7Archive(tmp_path, 12, STEP).splits["train"]
    assert (split.frames, split.frames_missing) == ((), 16 * days)
    assert split.days_without_frames == split.days
