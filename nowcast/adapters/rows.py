"""The rows of the paper's Tables 1 and 2, and where their MEmeL layers go."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from torch import nn

from nowcast import memel
from nowcast.errors import InputError
from nowcast.memel.variants import Inhibition

ROWS = ("Original", "Naive (a)", "Naive (b)", "MEmeL", "MEmeL-Tune", "MEmeL-T")
"""In the order of Tables 1, 5 and 6."""


@dataclass(frozen=True)
class LayerSettings:
    """Where MEmeL layers go and how they work, the same for all rows.

    The paper names neither the late start nor the forget step. Here the layers only collect
    statistics for the first tenth of the steps, while the learning rate is warmed up: a task such
    as RTE has 234 steps in all, fewer than the layer's own default.

    Args:
        at: names or globs of the modules that a layer follows; None takes the attentions of the
            middle blocks.
        layers: how many middle blocks (E.1: 4).
        late_start: share of the training steps in which layers only collect statistics.
        per: one selection per "sample" (E.3) or per "batch" (4.1.2). With the latter, what MEmeL-T
            selects depends on the batches of the evaluation, which are larger than those of the
            training.
        epsilon: variance compensation (D.2).
        forget_step: calls after which older samples decay (D.1).
    """

    at: tuple[str, ...] | None = None
    layers: int = 4
    late_start: float = 0.1
    per: memel.Per = "sample"
    epsilon: float = 1e-3
    forget_step: int = 10_000


def middle_modules(model: nn.Module, name: str, count: int = 4) -> tuple[str, ...]:
    """Names of the modules called `name` in the middle of a model's depth (E.1).

    Of 12, the fifth to the eighth; of 24, the eleventh to the fourteenth.

    Args:
        model: whose blocks each hold one such module.
        name: last part of the modules' names, such as "attn".
        count: how many.

    Raises:
        InputError: if there are fewer.
    """
    found = [path for path, _ in model.named_modules() if path.split(".")[-1] == name]
    if not 1 <= count <= len(found):
        raise InputError(
            f"layers: found {len(found)} modules called {name!r} in {type(model).__name__}, "
            f"expected at least {count}; name others (--layers.at)"
        )
    first = (len(found) - count) // 2
    return tuple(found[first : first + count])


def insert_layers(
    model: nn.Module,
    inhibition: Inhibition,
    settings: LayerSettings,
    attention: str,
    steps: int,
    mask: str | None = None,
    regroup: bool = False,
) -> dict[str, memel.MEmeL]:
    """Insert MEmeL layers behind the attentions of the middle blocks; features are the neurons.

    Args:
        model: changed in place.
        inhibition: of the row.
        settings: of the layers.
        attention: what the model calls the attention of a block; see `middle_modules`.
        steps: of the training, in which each layer is called once.
        mask: name of the model's argument that is a padding mask; see `memel.insert`.
        regroup: put the windows of an image together; see `memel.insert`.

    Raises:
        InputError: for a setting that is out of range, or a name that matches no module.
    """
    if not 0 <= settings.late_start <= 1:
        raise InputError(
            f"layers: found late_start={settings.late_start}, expected a share, 0 to 1"
        )
    at = settings.at or middle_modules(model, attention, settings.layers)
    try:
        return memel.insert(
            model,
            at,
            mask=mask,
            regroup=regroup,
            top=inhibition.top,
            delta=inhibition.delta,
            per=settings.per,
            epsilon=settings.epsilon,
            forget_step=settings.forget_step,
            late_start=round(settings.late_start * steps),
            neurons="last",
        )
    except ValueError as error:
        raise InputError(str(error)) from error


@contextmanager
def layer_refusals() -> Iterator[None]:
    """Around a training: what a layer refuses when it is called is said in one line.

    Raises:
        InputError: if it refuses, such as a top above the activations of a sample.
    """
    try:
        yield
    except ValueError as error:
        if not str(error).startswith("MEmeL:"):
            raise
        raise InputError(str(error)) from error
