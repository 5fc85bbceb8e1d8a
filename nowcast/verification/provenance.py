"""Which state of this code, and of what it stands on, has made a report."""

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

GIT_TIMEOUT_S = 5.0


def commit() -> str | None:
    """Commit of the checkout that this package runs from, "-dirty" if changed; None elsewhere."""
    folder = Path(__file__).parent
    answers = []
    for arguments in (
        ("ls-files", "--error-unmatch", Path(__file__).name),
        ("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"),
    ):
        try:
            answer = subprocess.run(
                ("git", "-C", str(folder), *arguments),
                capture_output=True,
                text=True,
                timeout=GIT_TIMEOUT_S,
                check=True,
            )
        except (OSError, subprocess.SubprocessError):
            return None
        answers.append(answer.stdout.strip())
    return answers[-1]


def versions() -> dict[str, str]:
    """Versions of Python, of this package and of those that its numbers depend on most."""
    found = {"python": platform.python_version()}
    for package in ("nowcast", "torch", "numpy"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
