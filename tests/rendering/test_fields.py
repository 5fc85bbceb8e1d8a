"""Times as they are written on pictures."""

import numpy as np

from nowcast.rendering.canvas import shortened, text_width, wrapped
from nowcast.rendering.fields import forecast_case


def case_at(issue_time, step_minutes=6):
    inputs, field = np.zeros((5, 4, 4), np.float32), np.zeros((48, 4, 4), np.float32)
    return forecast_case(field, {}, None, inputs, None, np.datetime64(issue_time), step_minutes)


def test_valid_and_lead_times_count_from_the_issue_time_across_midnight():
    case = case_at("2016-12-31T23:50:00.000000000")
    assert (case.frames, case.issue_frame) == (53, 5)
    assert case.label(6) == "valid 2017-01-01 00:02 UTC   lead time +012 min"
    assert case.label(0) == "valid 2016-12-31 23:26 UTC   input −024 min"
    assert [case.lead_time(frame) for frame in (5, 24, 0, 4)] == [
        "+006 min",
        "+120 min",
        "−024 min",
        "000 min",
    ]


def test_steps_that_are_no_whole_minutes_are_counted_in_seconds():
    case = case_at("2016-12-31T23:50:00", step_minutes=2.5)
    assert case.label(6).startswith("valid 2016-12-31 23:55 UTC")
    assert case.label(7).startswith("valid 2016-12-31 23:57 UTC")
    assert [case.lead_time(frame) for frame in (5, 7, 52)] == [
        "+002.5 min",
        "+007.5 min",
        "+120.0 min",
    ]


def test_long_text_is_wrapped_and_shortened_to_its_width():
    text = "one two three four five six seven"
    width = text_width("one two three", 14)
    assert wrapped(text, width, 14, lines=3) == ["one two three", "four five six", "seven"]
    lines = wrapped(text + " and more", width, 14)
    assert lines[0] == "one two three"
    assert lines[1].startswith("four")
    assert lines[1].endswith("…")
    assert max(text_width(line, 14) for line in lines) <= width
    assert shortened("W" * 100, 60, 14).endswith("…")
    assert wrapped("", 100, 14) == []
    assert wrapped("a\n\x1b b", 100, 14) == ["a b"]
