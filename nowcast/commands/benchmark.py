"""`benchmark`: measure how fast it is, beside the plain way of doing the same."""

from collections.abc import Callable, Sequence
from pathlib import Path

from jsonargparse import Namespace
from jsonargparse.typing import PositiveInt

from nowcast.benchmarks.adapters import measure_adapters
from nowcast.benchmarks.data import measure_data
from nowcast.benchmarks.endurance import measure_endurance
from nowcast.benchmarks.flow import measure_flow
from nowcast.benchmarks.forecast import measure_forecast
from nowcast.benchmarks.machine import describe_machine
from nowcast.benchmarks.memel import measure_memel
from nowcast.benchmarks.precision import measure_precision
from nowcast.benchmarks.render import measure_rendering
from nowcast.benchmarks.report import Report, format_table, write_json
from nowcast.benchmarks.scaling import measure_scaling
from nowcast.benchmarks.train import measure_training
from nowcast.benchmarks.verification import measure_verification
from nowcast.commands.command_line import CommandParser, run, run_part
from nowcast.device import choose_device
from nowcast.files import check_place

USAGE = """usage: benchmark PART [--help] …

  train         a training step: plain float32, ours in float32, ours in bfloat16
  scaling       growth of a training step with frames, clips and pixels
  endurance     step time and memory over thousands of real training steps
  precision     training in bfloat16 beside float32: losses and skill, seeds apart
  memel         a training step with MEmeL layers over one without
  adapters      a training step of BERT and Swin with MEmeL layers over one without
  data          clips from the frame store beside decoding PNG and mask files
  verification  pixels scored per second beside plain NumPy
  forecast      a forecast: plain float32, ours in float32 and bfloat16, other methods
  render        the GIF beside plain Matplotlib, and the pictures of an evaluation
  flow          optical flow beside pysteps' Lucas–Kanade on radar events, seconds and skill
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    return run_part(arguments, PARTS, "part", USAGE)


def _part(name: str, purpose: str, measure: Callable[..., Report]) -> Callable[..., int]:
    def measure_part(arguments: Sequence[str]) -> int:
        parser = CommandParser(f"benchmark.{name}", purpose)
        parser.add_function_arguments(measure)
        parser.add_argument("--out", type=Path | None, help="JSON file to write")
        parser.add_argument(
            "--matrix_side",
            type=PositiveInt,
            default=2048,
            help="rows and columns of the matrices whose product is the ceiling",
        )

        def act(given: Namespace) -> None:
            settings = parser.instantiate(given).as_dict()
            del settings["config"]
            out, matrix_side = settings.pop("out"), settings.pop("matrix_side")
            if out is not None:
                check_place(out)
            device = choose_device(settings.get("device", "cpu"))
            report = measure(**settings)
            machine = describe_machine(device, matrix_side)
            print(format_table(report, machine))
            if out is not None:
                write_json(out, report, machine)
                print(out)

        return run(parser, act, arguments)

    return measure_part


PARTS = {
    "train": _part("train", "Time a training step beside the plain one.", measure_training),
    "scaling": _part(
        "scaling", "Time training steps of growing size, and draw the growth.", measure_scaling
    ),
    "endurance": _part(
        "endurance", "Train for long, and watch step time and memory.", measure_endurance
    ),
    "precision": _part(
        "precision",
        "Train in float32 and bfloat16, and compare losses and skill.",
        measure_precision,
    ),
    "memel": _part("memel", "Time a training step with MEmeL over one without.", measure_memel),
    "adapters": _part(
        "adapters",
        "Time training steps of BERT and Swin with MEmeL over those without.",
        measure_adapters,
    ),
    "data": _part("data", "Time reading clips beside decoding an archive.", measure_data),
    "verification": _part(
        "verification", "Time scoring forecasts beside plain NumPy.", measure_verification
    ),
    "forecast": _part(
        "forecast", "Time a forecast beside the plain one and other methods.", measure_forecast
    ),
    "render": _part("render", "Time pictures, the GIF beside plain Matplotlib.", measure_rendering),
    "flow": _part("flow", "Time and score optical flow beside pysteps'.", measure_flow),
}
