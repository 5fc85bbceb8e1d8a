"""What `import pysteps` loads of ours, through the entry points in pyproject.toml.

pysteps loads the importers of others at the end of its own import, and passes on whatever goes
wrong there. So nothing here raises, and nothing heavy is imported: where the rooms beside this one
cannot be, that is logged, and whoever calls one of their functions is told why. Released versions
of pysteps discover importers and no nowcast methods, which are therefore registered when the
importer is loaded; its open work on nowcast plug-ins names the entry points that ours have already.
"""

import logging
import sys
from collections.abc import Callable
from typing import Any

log = logging.getLogger("nowcast")


def _unusable(name: str, reason: str) -> Callable[..., Any]:
    """What stands in for a function that cannot be imported; pysteps wants its docstring, too."""

    def unusable(*_: object, **__: object) -> Any:
        raise ImportError(f"{name}: nowcast cannot be imported: {reason}")

    unusable.__name__ = name
    unusable.__doc__ = f"Raise ImportError: {name} of nowcast cannot be imported."
    return unusable


import_radar_composite: Callable[..., Any]
convgru: Callable[..., Any]
dis_flow: Callable[..., Any]
dis_flow_inflow: Callable[..., Any]
rover: Callable[..., Any]

# Whatever is wrong with an installation, `import pysteps` goes on.
try:
    from nowcast.plugins.pysteps_importer import import_radar_composite
    from nowcast.plugins.pysteps_nowcasts import convgru, dis_flow, dis_flow_inflow, rover

    METHODS = {
        "convgru": convgru,
        "dis_flow": dis_flow,
        "dis_flow_inflow": dis_flow_inflow,
        "rover": rover,
    }
except Exception as error:
    _reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
    log.warning("nowcast: pysteps goes on without its methods (%s)", _reason)
    METHODS = {}
    import_radar_composite, convgru, dis_flow, dis_flow_inflow, rover = (
        _unusable(name, _reason)
        for name in ("import_radar_composite", "convgru", "dis_flow", "dis_flow_inflow", "rover")
    )


def register() -> list[str]:
    """Make pysteps' `get_method` find the nowcast methods and the importer of this package.

    `import pysteps` does so by itself where the package is installed; this is for where it is not,
    and to see what is there. What pysteps has under the same name already stays.

    Returns:
        The names under which pysteps has our methods now.

    Raises:
        ImportError: pysteps is not installed.
    """
    from pysteps.decorators import postprocess_import
    from pysteps.io import interface as files
    from pysteps.nowcasts import interface as nowcasts

    importer = postprocess_import()(import_radar_composite)
    files._importer_methods.setdefault("radar_composite", importer)
    return _add_to(nowcasts._nowcast_methods)


def _add_to(known: dict[str, Callable[..., Any]]) -> list[str]:
    return [name for name, method in METHODS.items() if known.setdefault(name, method) is method]


# Loaded by pysteps, or after it: what is being imported cannot be imported from here.
try:
    _add_to(sys.modules["pysteps.nowcasts.interface"]._nowcast_methods)
except KeyError:
    pass
except Exception as error:
    log.warning("nowcast: this pysteps takes no methods of others (%s)", type(error).__name__)
