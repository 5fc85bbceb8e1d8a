"""Refusing what cannot be carried out, before the first step of an experiment."""

from collections.abc import Iterable

from nowcast.device import choose_device
from nowcast.evaluation.methods import Baseline, MethodSettings
from nowcast.experiments.steps import Evaluation, Split
from nowcast.experiments.work import Work
from nowcast.models.build import build_network
from nowcast.training.augmentation import check_crop, shape_in_training
from nowcast.training.clips import SequentialClips
from nowcast.training.inhibition import check_layers, insert_layers


def check(
    work: Work, evaluations: Iterable[Evaluation], split: Split, baselines: tuple[Baseline, ...]
) -> None:
    """Try networks, layers, clips, device and baselines out, without training or forecasting.

    Args:
        work: settings.
        evaluations: that are to be done, trainings before them included.
        split: on which baselines are scored.
        baselines: methods without training.

    Raises:
        InputError: for what does not fit.
    """
    evaluations = list(evaluations)
    choose_device(work.device)
    for data in (work.data, work.finetuning_data):
        store = data.open()
        shape = shape_in_training(store, work.sampling)
        inhibitions = {i for e in evaluations for i in e.training.inhibitions}
        for inhibition in inhibitions | {None}:
            network = build_network(work.network, data.input_frames, data.lead_times)
            check_crop(work.network, work.sampling)
            layers = work.layers_of(inhibition)
            work.run_of(inhibition).check_with_memel(layers is not None)
            if layers is not None:
                insert_layers(network, layers)
                check_layers(network, data.batch_size, shape)
    store = work.data.open()
    for wanted in {e.split for e in evaluations} | ({split} if baselines else set()):
        SequentialClips(store, wanted, work.data.length, work.stride, work.at_most)
    if baselines:
        MethodSettings(baselines=baselines).open(work.data, split)
