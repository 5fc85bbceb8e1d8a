"""Imports point only the way that the contracts in pyproject.toml allow."""

import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "nowcast"
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"][
    "contracts"
]


def run_python(code):
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)


def test_all_import_contracts_are_kept():
    result = run_python(
        "import sys; from importlinter.cli import lint_imports; "
        "sys.exit(lint_imports(no_cache=True))"
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"Contracts: {len(CONTRACTS)} kept, 0 broken." in result.stdout


def test_every_room_but_commands_is_held_by_a_contract():
    rooms = {f"nowcast.{folder.parent.name}" for folder in PACKAGE.glob("*/__init__.py")}
    rooms = rooms - {"nowcast.commands"} | {"nowcast.inference"}
    held = {module for contract in CONTRACTS for module in contract["source_modules"]}
    assert held == rooms


def test_importing_nowcast_loads_neither_torch_nor_matplotlib():
    heavy = "{'torch', 'lightning', 'matplotlib', 'cv2', 'xarray'}"
    result = run_python(f"import sys, nowcast; print(sorted({heavy} & sys.modules.keys()))")
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "[]"


def test_load_and_forecast_are_found_on_first_use():
    result = run_python(
        "import nowcast, nowcast.inference as i; "
        "print(nowcast.load is i.load, nowcast.forecast is i.forecast)"
    )
    assert result.stdout.split() == ["True", "True"], result.stderr
