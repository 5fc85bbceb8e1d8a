"""What commands share: exit statuses, help, and that scripts and console command are the same."""

import json
import os
import signal
import subprocess
import sys

import pytest
from as_user import ROOT, nowcast

from nowcast.commands import COMMANDS
from nowcast.commands.command_line import CommandParser, run
from nowcast.errors import InputError, Stopped

HELPS = """
import io, json, runpy, sys
from contextlib import redirect_stdout

folder, *names = sys.argv[1:]
helps = {}
for name in names:
    sys.argv = [f"{folder}/{name}.py", "--help"]
    with redirect_stdout(io.StringIO()) as said:
        try:
            runpy.run_path(sys.argv[0], run_name="__main__")
        except SystemExit as exit_:
            helps[name] = exit_.code, said.getvalue()
print(json.dumps(helps))
"""


def run_with(action, capsys):
    """Exit status, and what stands on standard error."""
    status = run(CommandParser("render", "A command."), action, [])
    return status, capsys.readouterr().err


def raising(error):
    def act(given):
        raise error

    return act


@pytest.mark.parametrize(
    ("action", "status", "line"),
    [
        (lambda given: None, 0, ""),
        (raising(InputError("rain.h5: found\n  nothing")), 2, "error: rain.h5: found nothing\n"),
        (raising(OSError(28, "No space left on device", "x.h5")), 1,
         "error: x.h5: No space left on device\n"),
        (raising(OSError("unable to write")), 1, "error: unable to write\n"),
        (raising(KeyboardInterrupt()), 130,
         "interrupted; the same command goes on from what it has saved\n"),
        (raising(Stopped("stopped after step 3")), 130, "stopped after step 3\n"),
        (lambda given: signal.raise_signal(signal.SIGTERM), 130,
         "interrupted; the same command goes on from what it has saved\n"),
    ],
)  # fmt: skip
def test_every_end_has_its_status_and_one_line(action, status, line, capsys):
    assert run_with(action, capsys) == (status, line)


def test_a_mistake_of_the_program_is_not_taken_for_a_wrong_input(capsys):
    with pytest.raises(ValueError, match="a bug"):
        run_with(raising(ValueError("a bug")), capsys)


def test_the_handler_of_sigterm_is_given_back(capsys):
    before = signal.getsignal(signal.SIGTERM)
    run_with(lambda given: None, capsys)
    assert signal.getsignal(signal.SIGTERM) is before


def test_without_a_command_all_are_listed():
    listed, asked = nowcast(), nowcast("--help")
    assert (listed.status, asked.status) == (2, 0)
    assert (listed.out, asked.err) == ("", "")
    assert listed.err == asked.out
    for name, purpose in COMMANDS.items():
        assert f"{name} " in asked.out
        assert purpose in asked.out
    assert nowcast("prepare_data").status == 2
    assert "events" in nowcast("prepare_data", "--help").out


@pytest.mark.parametrize(
    ("command", "explanation"),
    [
        ("pretrain", "--inhibition.late_start LATE_START "),
        ("pretrain", "--data.input_frames INPUT_FRAMES frames that the network sees"),
        ("finetune", "--from FROM checkpoint of the pretrained network (required"),
        ("evaluate", '--baselines [ITEM,...] methods without training. "optical flow with inflow"'),
        ("render", "--start START time of the clip's first frame in UTC"),
        ("prepare_data hko7", "--downsample_to DOWNSAMPLE_TO side of the frames after averaging"),
        ("prepare_data events", "--tile_size TILE_SIZE pixels along each side of a tile"),
        ("prepare_data synthetic", "--hours_per_day HOURS_PER_DAY how much of every day there is"),
    ],
)
def test_help_explains_options_in_the_words_of_the_functions(command, explanation):
    said = nowcast(*command.split(), "--help")
    assert (said.status, said.err) == (0, "")
    assert explanation in " ".join(said.out.split())


@pytest.fixture(scope="module")
def helps(tmp_path_factory):
    """What `--help` of every script prints, one after the other in a Python of their own."""
    folder = tmp_path_factory.mktemp("elsewhere")
    script = folder / "helps.py"
    script.write_text(HELPS)
    empty = folder / "empty"
    empty.mkdir()
    said = subprocess.run(
        [sys.executable, script, ROOT / "scripts", *COMMANDS],
        capture_output=True, text=True, cwd=empty, env=os.environ | {"COLUMNS": "80"}, check=False,
    )  # fmt: skip
    assert (said.returncode, said.stderr) == (0, "")
    assert list(empty.iterdir()) == []
    return json.loads(said.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_script_and_command_give_the_same_help(name, helps, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    said = nowcast(name, "--help")
    assert (said.status, said.err) == (0, "")
    assert "usage: " in said.out
    assert helps[name] == [0, said.out]


def test_script_and_console_command_take_their_words_from_the_terminal(tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    console = "import sys; from nowcast.commands import main; sys.exit(main())"
    for words in ([ROOT / "scripts/prepare_data.py"], ["-c", console, "prepare_data"]):
        said = subprocess.run(
            [sys.executable, *words, "--help"],
            capture_output=True, text=True, cwd=tmp_path, check=False,
        )  # fmt: skip
        assert (said.returncode, said.stderr) == (0, "")
        assert said.stdout == nowcast("prepare_data", "--help").out
    assert list(tmp_path.iterdir()) == []


def test_every_command_has_its_script():
    scripts = {path.stem for path in (ROOT / "scripts").glob("*.py")}
    assert set(COMMANDS) <= scripts
