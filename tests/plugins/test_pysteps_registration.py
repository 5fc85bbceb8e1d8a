"""`import pysteps` finds our methods and importer, stays light, and survives whatever we break.

The package is installed into a folder of its own for this, as pip does it with what pyproject.toml
declares, so that it can be damaged; pysteps is imported in fresh processes.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import entry_points
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("pysteps") is None, reason="pysteps is not installed"
    ),
]

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
GROUPS = {
    group: points
    for group, points in PROJECT["entry-points"].items()
    if group.startswith("pysteps.plugins.")
}
METHODS = ["convgru", "dis_flow", "dis_flow_inflow", "rover"]

FIND = """
import pysteps
from pysteps import nowcasts
for name in ("convgru", "dis_flow", "dis_flow_inflow", "rover"):
    method = nowcasts.get_method(name)
    print(name, method.__module__, method.__name__, bool(method.__doc__))
print(pysteps.io.get_method("radar_composite", "importer").__name__)
"""


@pytest.fixture
def installed(tmp_path):
    """A folder with the package and its entry points, as an installation leaves them."""
    folder = tmp_path / "site"
    ignored = shutil.ignore_patterns("__pycache__", "shipped")
    shutil.copytree(ROOT / "nowcast", folder / "nowcast", ignore=ignored)
    about = folder / f"nowcast-{PROJECT['version']}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: nowcast\nVersion: {PROJECT['version']}\n"
    )
    lines = []
    for group, points in GROUPS.items():
        lines += [f"[{group}]", *(f"{name} = {target}" for name, target in points.items())]
    (about / "entry_points.txt").write_text("\n".join(lines) + "\n")
    return folder


def run(folder, code):
    """Output and errors of a fresh process that works in the folder; pysteps' greeting left out."""
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line and "onfiguration file" not in line]
    return lines, done.stderr


def test_get_method_finds_ours_after_import_pysteps(installed):
    lines, errors = run(installed, FIND)
    module = "nowcast.plugins.pysteps_nowcasts"
    assert lines == [
        *(f"{name} {module} {name} True" for name in METHODS),
        "import_radar_composite",
    ]
    assert errors == ""


def test_this_installation_has_the_entry_points_of_the_project():
    for group, points in GROUPS.items():
        found = {point.name: point for point in entry_points(group=group)}
        hint = "the installation is older than pyproject.toml: pip install -e ."
        assert points.keys() <= found.keys(), hint
        for name, target in points.items():
            assert found[name].value == target, hint
            assert callable(found[name].load())


def test_import_pysteps_loads_nothing_heavy_of_ours(installed):
    list_modules = "import sys, pysteps; print(sorted(sys.modules))"
    (with_us,), _ = run(installed, list_modules)
    shutil.rmtree(next(installed.glob("*.dist-info")))
    shutil.rmtree(installed / "nowcast")
    # Without ours, and without any other installation of it.
    without = f"""
import importlib.metadata as m
real = m.entry_points
def others(**wanted):
    return [p for p in real(**wanted) if not p.value.startswith("nowcast.")]
m.entry_points = others
{list_modules}"""
    (alone,), _ = run(installed, without)
    added = set(eval(with_us)) - set(eval(alone))
    assert {name for name in added if name.partition(".")[0] == "nowcast"} == {
        "nowcast", "nowcast.errors", "nowcast.plugins", "nowcast.plugins.pysteps_arguments",
        "nowcast.plugins.pysteps_entry", "nowcast.plugins.pysteps_importer",
        "nowcast.plugins.pysteps_nowcasts", "nowcast.plugins.pysteps_values", "nowcast.radar",
        "nowcast.radar.units",
    }  # fmt: skip
    foreign = {name.partition(".")[0] for name in added} - {"nowcast"} - sys.stdlib_module_names
    assert foreign == set()


@pytest.mark.parametrize(
    ("broken", "text"),
    [
        ("plugins/pysteps_nowcasts.py", "import no_such_package\n"),
        ("plugins/pysteps_importer.py", "raise RuntimeError('two\\nlines')\n"),
        ("plugins/pysteps_values.py", "this is no Python\n"),
        ("radar/units.py", None),
    ],
)
def test_a_broken_installation_does_not_break_pysteps(installed, broken, text):
    if text is None:
        (installed / "nowcast" / broken).unlink()
    else:
        (installed / "nowcast" / broken).write_text(text)
    lines, errors = run(
        installed,
        """
import pysteps
from pysteps import nowcasts
print(callable(nowcasts.get_method("steps")))
try:
    nowcasts.get_method("convgru")
except ValueError:
    print("unknown")
from importlib.metadata import entry_points
for point in entry_points(group="pysteps.plugins.nowcasts"):
    try:
        point.load()(None, None, 3)
    except ImportError as error:
        print(error)
try:
    pysteps.io.get_method("radar_composite", "importer")("file")
except ImportError as error:
    print(error)
""",
    )
    assert lines[:2] == ["True", "unknown"]
    assert [line.split(":")[0] for line in lines[2:]] == [*METHODS, "import_radar_composite"]
    assert all(": nowcast cannot be imported: " in line for line in lines[2:])
    assert errors.count("\n") == 1
    assert errors.startswith("nowcast: pysteps goes on without its methods (")


def test_without_torch_pysteps_has_its_methods_and_ours_say_what_is_missing(installed):
    (installed / "torch.py").write_text("raise ImportError('torch is broken here')\n")
    lines, errors = run(
        installed,
        """
import numpy as np, pysteps
method = pysteps.nowcasts.get_method("dis_flow")
try:
    method(np.zeros((5, 30, 30)), None, 1)
except ImportError as error:
    print(error)
""",
    )
    assert lines == ["torch is broken here"]
    assert errors == ""


def test_register_where_the_package_is_not_installed(installed):
    shutil.rmtree(next(installed.glob("*.dist-info")))
    lines, _ = run(
        installed,
        """
import importlib.metadata as m
m.entry_points = lambda **wanted: []
m.version = lambda name: "0"
import nowcast.plugins
import pysteps
print("convgru" in pysteps.nowcasts.interface._nowcast_methods)
print(nowcast.plugins.register())
print(pysteps.nowcasts.get_method("ConvGRU").__module__)
print(pysteps.io.get_method("radar_composite", "importer").__name__)
""",
    )
    module = "nowcast.plugins.pysteps_nowcasts"
    assert lines == ["False", str(METHODS), module, "import_radar_composite"]


def test_register_first_imports_pysteps(installed):
    lines, errors = run(
        installed, f"import nowcast.plugins\nprint(nowcast.plugins.register())\n{FIND}"
    )
    assert lines[0] == str(METHODS)
    assert lines[-1] == "import_radar_composite"
    assert errors == ""


def test_a_method_that_pysteps_has_already_stays(installed):
    lines, _ = run(
        installed,
        """
import pysteps.nowcasts.interface as interface
import nowcast.plugins
theirs = interface._nowcast_methods["rover"] = lambda *_: None
print(nowcast.plugins.register(), interface.get_method("rover") is theirs)
""",
    )
    assert lines == ["['convgru', 'dis_flow', 'dis_flow_inflow'] True"]


def test_a_pysteps_that_keeps_its_methods_elsewhere_is_imported_all_the_same(installed):
    lines, errors = run(
        installed,
        """
import sys, types
sys.modules["pysteps.nowcasts.interface"] = types.ModuleType("interface")
import nowcast.plugins.pysteps_entry
print("goes on")
""",
    )
    assert lines == ["goes on"]
    assert errors == "nowcast: this pysteps takes no methods of others (AttributeError)\n"
