"""Nowcast methods and networks as parts of the community's packages: pysteps and mlcast.

Nothing heavy is imported before a forecast is made.
"""

from nowcast.plugins.pysteps_entry import register

__all__ = ["register"]
