"""Activations in whatever order of memory."""

import pytest
import torch

from nowcast.memel import MEmeL


@pytest.mark.parametrize("per", ["sample", "batch"])
@pytest.mark.parametrize("neurons", ["element", "channel", "last"])
def test_the_layout_in_memory_changes_nothing(neurons, per):
    """Channels-last activations, permuted views and changes between them give the same."""
    torch.manual_seed(0)
    batches = torch.randn(4, 3, 5, 4, 6, dtype=torch.float64)

    def outputs(relaid):
        layer = MEmeL(top=3, per=per, neurons=neurons, late_start=0, delta=2.0)
        results = []
        for call, z in enumerate(batches):
            z = relaid(z.clone(), call).requires_grad_()
            out = layer(z)
            out.backward(torch.arange(z.numel(), dtype=z.dtype).view(z.shape))
            results += [out.detach(), z.grad]
        return [*results, layer.mean, layer.variance]

    def channels_last(z, call):
        return z.contiguous(memory_format=torch.channels_last)

    def permuted(z, call):
        return z.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)

    def changing(z, call):
        return channels_last(z, call) if call % 2 else z

    expected = outputs(lambda z, call: z)
    for relaid in (channels_last, permuted, changing):
        for got, wanted in zip(outputs(relaid), expected, strict=True):
            torch.testing.assert_close(got, wanted, rtol=1e-12, atol=1e-13)


def test_expanded_activations_are_taken_too():
    layer = MEmeL(late_start=0)
    z = torch.randn(2, 1, 4).expand(2, 3, 4)
    layer(z)
    torch.testing.assert_close(layer.mean, z.mean(0))
