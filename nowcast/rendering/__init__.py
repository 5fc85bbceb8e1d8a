"""Pictures: forecasts, evaluations of forecasts, curves, reliability, spectra, φ, and the page."""

from nowcast.rendering.animation import write_gif
from nowcast.rendering.curves import write_learning_curves, write_score_curves
from nowcast.rendering.forecast_pictures import (
    write_forecast_gif,
    write_forecast_page,
    write_forecast_png,
    write_forecast_video,
)
from nowcast.rendering.map_images import write_map_images
from nowcast.rendering.map_lines import MapLines
from nowcast.rendering.monosemanticity import write_monosemanticity
from nowcast.rendering.page import write_page
from nowcast.rendering.panels import animate
from nowcast.rendering.reliability import write_reliability
from nowcast.rendering.spectra import write_spectra
from nowcast.rendering.strip import write_png_strip

__all__ = [
    "MapLines",
    "animate",
    "write_forecast_gif",
    "write_forecast_page",
    "write_forecast_png",
    "write_forecast_video",
    "write_gif",
    "write_learning_curves",
    "write_map_images",
    "write_monosemanticity",
    "write_page",
    "write_png_strip",
    "write_reliability",
    "write_score_curves",
    "write_spectra",
]
