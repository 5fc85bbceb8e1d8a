"""Which network its settings mean."""

from nowcast.models.convolutional import ConvolutionalNetwork
from nowcast.models.encoder_forecaster import EncoderForecaster
from nowcast.models.network import Network
from nowcast.models.settings import NetworkSettings


def build_network(settings: NetworkSettings, input_frames: int, lead_times: int) -> Network:
    """A network with initial weights.

    Args:
        settings: its shape.
        input_frames: frames that it is to see; only a 2-D CNN is bound to them.
        lead_times: frames that it is to forecast; only a 2-D CNN makes so many at once.
    """
    if settings.recurrence == "none":
        return ConvolutionalNetwork(settings, input_frames, lead_times)
    return EncoderForecaster(settings)
