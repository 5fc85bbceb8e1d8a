"""Pictures: palette, animations and strips, curves, reliability, spectra, φ, and the page."""

from nowcast.rendering.animation import write_gif
from nowcast.rendering.curves import write_learning_curves, write_score_curves
from nowcast.rendering.monosemanticity import write_monosemanticity
from nowcast.rendering.page import write_page
from nowcast.rendering.panels import animate
from nowcast.rendering.reliability import write_reliability
from nowcast.rendering.spectra import write_spectra
from nowcast.rendering.strip import write_png_strip

__all__ = [
    "animate",
    "write_gif",
    "write_learning_curves",
    "write_monosemanticity",
    "write_page",
    "write_png_strip",
    "write_reliability",
    "write_score_curves",
    "write_spectra",
]
