"""Methods of pysteps (Pulkkinen et al., Geosci. Model Dev. 12, 2019) by their names.

pysteps is an extra of this package: nothing imports it before a method is made.
"""

from nowcast.errors import InputError
from nowcast.models.pysteps_ensemble import PystepsEnsemble
from nowcast.models.pysteps_nowcast import PystepsNowcast

NAMES = ("extrapolation", "S-PROG", "S-PROG mean", "ANVIL", "STEPS")
"""The last is an ensemble."""


def pysteps_method(
    name: str,
    *,
    step_minutes: float,
    grid_spacing_km: float | None,
    members: int = 20,
    seed: int = 0,
) -> PystepsNowcast:
    """A method of pysteps by its name.

    Args:
        name: one of `NAMES`; only the last is an ensemble.
        step_minutes: minutes between frames, for STEPS.
        grid_spacing_km: side of a pixel, for STEPS; the others do without.
        members: of STEPS.
        seed: of STEPS.

    Raises:
        InputError: there is no such method, pysteps is not installed, or STEPS is not told what it
            needs.
    """
    if name not in NAMES:
        raise InputError(f"pysteps: found the method {name!r}, expected one of {', '.join(NAMES)}")
    if name != "STEPS":
        return PystepsNowcast(name)
    if grid_spacing_km is None:
        raise InputError(
            "pysteps STEPS: found frames that do not say how far apart their pixels are, expected "
            "a grid spacing in km"
        )
    return PystepsEnsemble(
        step_minutes=step_minutes, grid_spacing_km=grid_spacing_km, members=members, seed=seed
    )
