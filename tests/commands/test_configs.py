"""Every file in configs/ is understood by the commands it has sections for."""

import pytest
import yaml
from as_user import EXPERIMENT, ROOT, nowcast, write_experiment

from nowcast.commands import COMMANDS

CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))


def commands_of(path):
    """Commands that a file has sections for, parts of a command one by one."""
    for name, section in yaml.safe_load(path.read_text(encoding="utf-8")).items():
        if name in ("prepare_data", "probe", "imagenet"):
            yield from ((name, part) for part in section)
        else:
            yield (name,)


def test_there_are_configurations_and_each_has_sections():
    assert CONFIGS
    for path in CONFIGS:
        names = {command[0] for command in commands_of(path)}
        assert names
        assert names <= set(COMMANDS)


@pytest.mark.parametrize(
    ("path", "command"),
    [
        pytest.param(path, command, id=f"{path.stem}-{'-'.join(command)}")
        for path in CONFIGS
        for command in commands_of(path)
    ],
)
def test_a_section_is_accepted_and_what_it_prints_is_accepted_again(path, command, tmp_path):
    called = (*command, "table2") if command == ("reproduce",) else command
    first = nowcast(*called, "--config", path, "--print_config")
    assert (first.status, first.err) == (0, "")
    printed = tmp_path / "printed.yaml"
    printed.write_text(first.out, encoding="utf-8")
    assert list(commands_of(printed)) == [command]
    again = nowcast(*called, "--config", printed, "--print_config")
    assert (again.status, again.err) == (0, "")
    assert yaml.safe_load(again.out) == yaml.safe_load(first.out)
    asked, understood = yaml.safe_load(path.read_text()), yaml.safe_load(first.out)
    for name in command:
        asked, understood = asked[name], understood[name]
    assert {name: understood.get(name) for name in asked} == filled_up(asked, understood)


def filled_up(asked, understood):
    """What was asked for, and what a file leaves to the defaults from what was understood."""
    return {
        name: {**understood[name], **filled_up(value, understood[name])}
        if isinstance(value, dict)
        else value
        for name, value in asked.items()
    }


def test_options_override_the_file_and_print_config_reads_no_data(tmp_path):
    config = write_experiment(tmp_path / "e.yaml", EXPERIMENT)
    said = nowcast("evaluate", "--config", config, "--split=valid", "--data.batch_size=7",
                   "--print_config")  # fmt: skip
    assert said.status == 0, said.err
    section = yaml.safe_load(said.out)["evaluate"]
    assert (section["split"], section["data"]["batch_size"]) == ("valid", 7)
    assert section["data"]["store"] == "data/rain.h5"
    assert [path.name for path in tmp_path.iterdir()] == ["e.yaml"]
