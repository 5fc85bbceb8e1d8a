"""Progress passes everything on and says how far it is, as a bar or as lines."""

import io
import logging
import re

import pytest

from nowcast import progress as room
from nowcast.progress import progress


@pytest.fixture
def lines(caplog):
    caplog.set_level(logging.INFO, logger="nowcast")
    return caplog


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test moves."""
    now = [100.0]
    monkeypatch.setattr(room.time, "monotonic", lambda: now[0])
    return now


def test_items_come_through_in_order_one_at_a_time(lines):
    taken = []

    def source():
        for number in range(4):
            taken.append(number)
            yield number

    passed = progress(source(), "counting")
    assert next(passed) == 0
    assert taken == [0]
    assert list(passed) == [1, 2, 3]


def test_the_end_is_one_line_with_the_number(lines):
    assert list(progress(range(1200), "reading", unit="frames")) == list(range(1200))
    assert len(lines.messages) == 1
    assert re.fullmatch(r"reading: 1,200 frames in \d+\.\d s", lines.messages[0])


@pytest.mark.parametrize(("total", "of_total"), [(None, ""), (50, " of 50")])
def test_without_a_terminal_a_line_comes_every_ten_seconds(lines, clock, total, of_total):
    for _ in progress(iter(range(50)), "reading", total=total, unit="frames"):
        clock[0] += 3.0
    passed = {n: f"{3 * n} s" if 3 * n < 100 else "2 min" for n in range(4, 50, 4)}
    left = {n: f"{150 - 3 * n} s" if 150 - 3 * n < 100 else "2 min" for n in passed}
    every_ten = [
        f"reading: {n}{of_total} frames in {passed[n]}{f', {left[n]} left' if total else ''}"
        for n in passed
    ]
    assert lines.messages == [*every_ten, "reading: 50 frames in 150.0 s"]


def test_long_times_are_told_in_minutes_and_hours(lines, clock):
    for _ in progress(iter(range(3)), "reading", total=3):
        clock[0] += 3720.0
    assert lines.messages[:2] == [
        "reading: 1 of 3 it in 62 min, 2 h 04 min left",
        "reading: 2 of 3 it in 2 h 04 min, 62 min left",
    ]


def test_the_total_of_a_list_is_known(lines, clock):
    for _ in progress([1, 2, 3], "reading"):
        clock[0] += 11.0
    assert lines.messages == [
        "reading: 1 of 3 it in 11 s, 22 s left",
        "reading: 2 of 3 it in 22 s, 11 s left",
        "reading: 3 it in 33.0 s",
    ]


def test_nothing_to_do_is_said_too(lines):
    assert list(progress([], "reading")) == []
    assert lines.messages == ["reading: 0 it in 0.0 s"]


def test_on_a_terminal_a_bar_is_drawn_and_no_line_logged(lines, monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(room.sys, "stderr", terminal)
    assert list(progress(iter("abc"), "reading", total=3, unit="frames")) == ["a", "b", "c"]
    assert "reading: 100%" in terminal.getvalue()
    assert "3/3" in terminal.getvalue()
    assert lines.messages == []


def test_an_error_in_the_work_comes_through_and_no_end_is_said(lines):
    def source():
        yield 1
        raise ValueError("damaged")

    with pytest.raises(ValueError, match="damaged"):
        list(progress(source(), "reading"))
    assert lines.messages == []
