"""Values as JSON files: what JSON knows, what it does not, and what stands there if it fails."""

import json
from pathlib import Path

import pytest

from nowcast.files import write_json


def test_values_are_read_back_and_letters_are_not_escaped(tmp_path):
    path = tmp_path / "new" / "values.json"
    value = {"φ": [1, 2.5, {"done": True, "none": None}], "Δ": "−1"}
    write_json(path, value)
    assert json.loads(path.read_text(encoding="utf-8")) == value
    assert "φ" in path.read_text(encoding="utf-8")
    assert path.read_bytes().endswith(b"}\n")
    assert '\n  "Δ"' in path.read_text(encoding="utf-8")
    write_json(path, value, indent=1)
    assert '\n "Δ"' in path.read_text(encoding="utf-8")


def test_what_json_does_not_know_is_null_or_text(tmp_path):
    path = tmp_path / "values.json"
    infinite, none = float("inf"), float("nan")
    write_json(path, {"low": -infinite, "nested": [{"deep": (none, 1.0)}], "at": Path("a/b")})

    def refuse(constant):
        raise ValueError(constant)

    read = json.loads(path.read_text(), parse_constant=refuse)
    assert read == {"low": None, "nested": [{"deep": [None, 1.0]}], "at": "a/b"}


def test_a_value_that_cannot_be_written_leaves_what_stood_there(tmp_path):
    path = tmp_path / "values.json"
    write_json(path, [1])
    with pytest.raises(TypeError):
        write_json(path, {(1, 2): "a key that JSON does not have"})
    assert json.loads(path.read_text()) == [1]
    assert [entry.name for entry in tmp_path.iterdir()] == ["values.json"]
