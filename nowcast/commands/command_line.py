"""What all commands share: configuration files, log lines, errors in one line."""

import logging
import re
import signal
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import yaml
from jsonargparse import ActionConfigFile, ActionYesNo, ArgumentError, ArgumentParser, Namespace

from nowcast.errors import InputError, Stopped

Settings = TypeVar("Settings")


class ConfigSection(ActionConfigFile):
    """`--config FILE`: reads the command's own section of an experiment's YAML file.

    A file of configs/ holds an experiment; its sections are the commands. Keys that a command does
    not know are refused.
    """

    @staticmethod
    def apply_config(parser: Any, cfg: Any, dest: str, value: str) -> None:
        """Merge the section into what is parsed so far."""
        section: Any = read_experiment(Path(value))
        parser.configurations.append(Path(value))
        for name in parser.section:
            if not isinstance(section, dict) or name not in section:
                where = ".".join(parser.section)
                raise InputError(f"{value}: found no section {where!r}")
            section = section[name]
        if not isinstance(section, dict):
            where = ".".join(parser.section)
            raise InputError(
                f"{value}: found {_named(section)} in section {where!r}, expected settings"
            )
        try:
            text = yaml.safe_dump(section, sort_keys=False)
            unchecked = {"env": False, "defaults": False, "_skip_validation": True}
            parser.validate(parser.parse_string(text, **unchecked), skip_required=True)
            ActionConfigFile.apply_config(parser, cfg, dest, text)
        except Exception as error:
            raise InputError(f"{value}: {_one_line(error)}") from error


def read_experiment(path: Path) -> dict[str, Any]:
    """Sections of an experiment's YAML file.

    Raises:
        InputError: if the file is missing, no YAML, or has a section that is no command's.
    """
    from nowcast.commands import COMMANDS

    try:
        experiment = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: found no file, expected a configuration") from None
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise InputError(f"{path}: found no readable YAML ({_one_line(error)})") from error
    if not isinstance(experiment, dict):
        raise InputError(
            f"{path}: found {_named(experiment)}, expected sections: {', '.join(COMMANDS)}"
        )
    for name in experiment:
        if name not in COMMANDS:
            raise InputError(
                f"{path}: found unknown section {name!r}, expected {', '.join(COMMANDS)}"
            )
    return experiment


class CommandParser(ArgumentParser):
    """Parser of one command, with `--config` and `--print_config`.

    Args:
        name: of the command; also of its section in configuration files, dots between parts.
        purpose: shown by `--help`.

    Attributes:
        configurations: files that `--config` named, as they are parsed.
    """

    def __init__(self, name: str, purpose: str) -> None:
        super().__init__(prog=name.replace(".", " "), description=purpose, exit_on_error=False)
        self.section = name.split(".")
        self.configurations: list[Path] = []
        self.add_argument("--config", action=ConfigSection, help="YAML file of an experiment")

    def dump(self, *args: Any, **kwargs: Any) -> str:
        """Settings as `--config` takes them: in the command's section of an experiment."""
        text = super().dump(*args, **kwargs)
        for name in reversed(self.section):
            text = f"{name}:\n{textwrap.indent(text, '  ')}"
        return text.rstrip("\n") + "\n"

    def parse_args(self, args: Sequence[str] | None = None, **options: Any) -> Namespace:  # type: ignore[override]
        """Parse arguments; `--lead-times` is the same as `--lead_times`."""
        given = sys.argv[1:] if args is None else args
        return super().parse_args([_underscored(argument) for argument in given], **options)

    def require_nothing(self) -> None:
        """Let required arguments be None, where the command does not do its main work."""
        for action in self._actions:
            action.required = False

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise it as an `InputError`; `run` shows it."""
        raise InputError(message) from ex


def add_download(parser: CommandParser) -> None:
    """Add `--download`, without which a command asks nothing of the network."""
    parser.add_argument(
        "--download",
        action=ActionYesNo(yes_prefix="", no_prefix="no_"),
        default=False,
        help="fetch from the hub what this machine has no copy of; else the network is not asked",
    )


def take(settings: dict[str, Any], kind: type[Settings]) -> Settings:
    """Take the fields of a dataclass out of parsed settings, and make one of them."""
    return kind(**{field.name: settings.pop(field.name) for field in fields(kind)})  # type: ignore[arg-type]


def run(
    parser: CommandParser, act: Callable[[Namespace], None], arguments: Sequence[str] | None
) -> int:
    """Parse the arguments, act on them, and turn what can go wrong into one line.

    Returns:
        Exit status: 0 when done, 1 when the system refuses (a full disk), 2 for a wrong input, 130
        when interrupted.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    logging.getLogger("nowcast").setLevel(logging.INFO)
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        act(parser.parse_args(None if arguments is None else list(arguments)))
    except (KeyboardInterrupt, Stopped) as interruption:
        print(
            str(interruption) or "interrupted; the same command goes on from what it has saved",
            file=sys.stderr,
        )
        return 130
    except (InputError, ArgumentError) as error:
        print(f"error: {_one_line(error)}", file=sys.stderr)
        return 2
    except OSError as error:
        where = "" if error.filename is None else f"{error.filename}: "
        said = " ".join((error.strerror or str(error)).split())
        print(f"error: {where}{said}", file=sys.stderr)
        return 1
    finally:
        signal.signal(signal.SIGTERM, before)
    return 0


def run_part(
    arguments: Sequence[str] | None,
    parts: Mapping[str, Callable[[Sequence[str]], int]],
    noun: str,
    usage: str,
) -> int:
    """Run the part of a command that the first argument names.

    Args:
        arguments: of the command; those of the process where None.
        parts: by name.
        noun: what a part is called in messages.
        usage: shown where no part is named.

    Returns:
        Exit status, as of `run`.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given and given[0] in parts:
        return parts[given[0]](given[1:])
    wanted_help = given[:1] in (["-h"], ["--help"])
    if given and not wanted_help:
        print(f"error: found no {noun} {given[0]!r}, expected {', '.join(parts)}", file=sys.stderr)
        return 2
    print(usage, end="", file=sys.stdout if wanted_help else sys.stderr)
    return 0 if wanted_help else 2


def _underscored(argument: str) -> str:
    """An option's name with underscores; keys below it, which may be anything, stay."""
    name, *rest = re.split(r"([.=])", argument, maxsplit=1)
    if not name.startswith("--"):
        return argument
    return "--" + name[2:].replace("-", "_") + "".join(rest)


def _interrupt(number: int, frame: Any) -> NoReturn:
    raise KeyboardInterrupt


def _named(value: Any) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
