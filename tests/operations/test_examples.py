"""The examples for operation: their commands are ones that we have."""

import configparser
import json
import re
import shlex
import shutil
import subprocess

import pytest
from as_user import ROOT, nowcast

FOLDER = ROOT / "docs/operations"


def accepted(command):
    """What a command would be run with; it must be complete and known."""
    program, *arguments = command
    assert program.endswith("nowcast")
    printed = nowcast(*arguments, "--print_config")
    assert printed.status == 0, printed.err
    return printed.out


def unit():
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str
    parser.read(FOLDER / "nowcast.service")
    return parser


def test_the_systemd_unit_runs_a_command_of_ours():
    command = shlex.split(unit()["Service"]["ExecStart"])
    settings = accepted(command)
    assert "watch: /srv/radar" in settings
    assert "out: /srv/nowcast/forecast.nc" in settings
    # What is written is in a folder that may be written to.
    assert unit()["Service"]["ReadWritePaths"] == "/srv/nowcast"
    assert unit()["Service"]["SuccessExitStatus"] == "130"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_understands_the_unit(tmp_path):
    text = (FOLDER / "nowcast.service").read_text().replace("/opt/nowcast/bin/nowcast", "/bin/true")
    path = tmp_path / "nowcast.service"
    path.write_text(text.replace("User=nowcast", "User=root"))
    done = subprocess.run(
        ["systemd-analyze", "verify", path], capture_output=True, text=True, check=False
    )
    if "Failed to" in done.stderr and "nowcast.service" not in done.stderr:
        pytest.skip(f"systemd-analyze does not work here: {done.stderr.splitlines()[0]}")
    assert "nowcast.service" not in done.stderr, done.stderr


def test_the_container_runs_a_command_of_ours():
    text = (FOLDER / "Containerfile").read_text()
    entry, command = (
        json.loads(re.search(rf"^{word} (\[.*\])$", text, re.MULTILINE)[1])
        for word in ("ENTRYPOINT", "CMD")
    )
    settings = accepted(entry + command)
    assert "watch: /radar" in settings
    # Its extras are those of the project, and no others.
    import tomllib

    extras = re.search(r"/src\[(.*)\]", text)[1].split(",")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert set(extras) <= project["optional-dependencies"].keys()


def test_the_text_tells_the_command_of_the_unit():
    (block,) = re.findall(r"```sh\n(.*?)```", (FOLDER / "README.md").read_text(), re.DOTALL)
    assert shlex.split(block)[1:] == shlex.split(unit()["Service"]["ExecStart"])[1:]
