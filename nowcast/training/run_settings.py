"""What is set for a run of training, and the files that it leaves."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nowcast.errors import InputError

Precision = Literal["auto", "32-true", "bf16-mixed"]
Compile = Literal["none", "default", "reduce-overhead"]


@dataclass(frozen=True)
class RunSettings:
    """Where a training runs and what it leaves behind.

    Args:
        out: folder of the run.
        seed: decides initial weights and the clips of each step.
        validate_every: steps between validations.
        valid_clips: validation clips, spread evenly over the split; 0 goes without validation.
        profile_clips: validation clips, spread evenly over the split, on which the monosemantic
            scale of each layer is profiled at each validation; 0 goes without.
        probe_every: steps between probes of what a training step does to the neurons that MEmeL
            selects (the ratios of the paper's Table 3); each costs a forward pass; 0 goes without.
        checkpoint_every: steps between checkpoints.
        log_every: steps between points of the learning curve.
        accelerator: "auto", "cpu", "gpu", or another that Lightning knows.
        devices: how many of them, or "auto".
        nodes: machines that train together.
        precision: "32-true"; "bf16-mixed" for autocast to bfloat16; or "auto", in which a run that
            goes on keeps its own, and a new one takes bf16-mixed where the device computes it fast:
            by measurement (README) the two end no further apart than seeds do.
        compile: "default" has torch.compile make code of the training step's forecast and loss, in
            minutes and once; "reduce-overhead" makes CUDA graphs of it, for small frames on a GPU,
            where starting the work takes longer than the work. Weights differ by rounding.
        recompute_every: 0 keeps the activations of a training step for its backward pass; n keeps
            the states of every n-th frame, and computes what lies between them again (activation
            checkpointing): less memory, more time, for long sequences and large grids. Not with
            MEmeL in compiled steps.
    """

    out: Path
    seed: int = 0
    validate_every: int = 1_000
    valid_clips: int = 100
    profile_clips: int = 0
    probe_every: int = 0
    checkpoint_every: int = 500
    log_every: int = 10
    accelerator: str = "auto"
    devices: int | Literal["auto"] = "auto"
    nodes: int = 1
    precision: Precision = "auto"
    compile: Compile = "none"
    recompute_every: int = 0

    def __post_init__(self) -> None:
        for name, least in (
            ("validate_every", 1), ("checkpoint_every", 1), ("log_every", 1), ("nodes", 1),
            ("seed", 0), ("valid_clips", 0), ("profile_clips", 0),
            ("probe_every", 0), ("recompute_every", 0),
        ):  # fmt: skip
            if getattr(self, name) < least:
                raise InputError(f"run: {name} is {getattr(self, name)}, expected at least {least}")
        if self.profile_clips and not self.valid_clips:
            raise InputError(
                f"run: profile_clips is {self.profile_clips} and valid_clips is 0, expected "
                "validations to profile at"
            )
        if self.seed >= 2**32:
            raise InputError(f"run: seed is {self.seed}, expected less than 2**32")

    def check_with_memel(self, memel: bool) -> None:
        """Refuse what a training with MEmeL, or one without, cannot have.

        Raises:
            InputError: with what was found and expected.
        """
        if self.probe_every and not memel:
            raise InputError(
                f"run: probe_every is {self.probe_every} in a training without MEmeL, expected 0"
            )
        if self.recompute_every and self.compile != "none" and memel:
            # The compiler would compute selections again from statistics that have moved on.
            raise InputError(
                f"run: recompute_every is {self.recompute_every} and compile is {self.compile!r} "
                "in a training with MEmeL, expected recompute_every 0 or compile 'none'"
            )

    @property
    def checkpoint(self) -> Path:
        """The newest checkpoint; the result, once training has ended."""
        return self.out / "last.ckpt"

    @property
    def learning_curve(self) -> Path:
        """CSV file of the metrics."""
        return self.out / "metrics.csv"
