"""MEmeL: find the most monosemantic neurons of a layer online and reverse-deactivate them.

After Wang, Di, Chen and Ng, "Learning from Emergence: A Study on Proactively Inhibiting the
Monosemantic Neurons of Artificial Neural Networks", KDD 2024. This package imports torch and
nothing else of the project.

    from nowcast import memel

    layers = memel.insert(model, at=["encoder.stages.*.rnn.cell"], top=1)
    ...                              # train as always
    memel.remove(model)              # the model is as it was
"""

from nowcast.memel.arrangement import Neurons, Per
from nowcast.memel.inhibition import deactivate, most_monosemantic
from nowcast.memel.insertion import insert, inserted, remove, without_statistics
from nowcast.memel.layer import MEmeL
from nowcast.memel.layer_profile import PHI_EDGES, LayerProfile, NeuronProfile
from nowcast.memel.profile import profile
from nowcast.memel.scale import monosemantic_scale, update_statistics
from nowcast.memel.update_probe import UpdateEffect, UpdateProbe
from nowcast.memel.update_rows import UpdateRow, format_update_effects, summarize_updates
from nowcast.memel.update_trial import UpdateTrial, measure_updates

__all__ = [
    "PHI_EDGES",
    "LayerProfile",
    "MEmeL",
    "NeuronProfile",
    "Neurons",
    "Per",
    "UpdateEffect",
    "UpdateProbe",
    "UpdateRow",
    "UpdateTrial",
    "deactivate",
    "format_update_effects",
    "insert",
    "inserted",
    "measure_updates",
    "monosemantic_scale",
    "most_monosemantic",
    "profile",
    "remove",
    "summarize_updates",
    "update_statistics",
    "without_statistics",
]
