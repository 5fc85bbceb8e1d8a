"""Pictures: rain-rate palette, forecast animations and strips, curves of scores, losses and φ."""

from nowcast.rendering.animation import write_gif
from nowcast.rendering.curves import write_learning_curves, write_score_curves
from nowcast.rendering.monosemanticity import write_monosemanticity
from nowcast.rendering.strip import write_png_strip

__all__ = [
    "write_gif",
    "write_learning_curves",
    "write_monosemanticity",
    "write_png_strip",
    "write_score_curves",
]
