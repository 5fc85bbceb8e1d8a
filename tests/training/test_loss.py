"""The training loss against a restatement and the benchmark's scores."""

import math

import numpy as np
import pytest
import torch

from nowcast.training.loss import balanced_loss
from nowcast.verification.scores import Scores


def test_loss_is_the_weighted_masked_sum_of_a_frame_averaged_over_frames():
    rng = np.random.default_rng(0)
    prediction = rng.uniform(-0.3, 1.4, (2, 3, 1, 7, 9))
    truth = rng.uniform(0, 1, prediction.shape)
    mask = rng.random(prediction.shape) < 0.7
    squared = absolute = 0.0
    for p, t, m in zip(prediction.flat, truth.flat, mask.flat, strict=True):
        rain_rate = 10 ** ((70 * t - 10 - 10 * math.log10(58.53)) / 15.6)
        weight = 1 + (rain_rate >= 2) + 3 * (rain_rate >= 5) + 5 * (rain_rate >= 10)
        weight += 20 * (rain_rate >= 30)
        squared += m * weight * (p - t) ** 2
        absolute += m * weight * abs(p - t)
    losses = balanced_loss(*map(torch.tensor, (prediction, truth, mask)))
    assert [float(x) for x in losses] == pytest.approx([squared / 6, absolute / 6], rel=1e-12)


def test_loss_equals_the_benchmarks_scores_of_clipped_predictions():
    torch.manual_seed(0)
    prediction, truth = torch.rand(2, 3, 4, 1, 20, 20)
    mask = torch.rand_like(truth) < 0.5
    scores = Scores(4)
    scores.update(prediction, truth, mask)
    means = scores.summary()
    squared, absolute = balanced_loss(prediction, truth, mask)
    assert float(squared) == pytest.approx(float(means["balanced_mse"]), rel=1e-5)
    assert float(absolute) == pytest.approx(float(means["balanced_mae"]), rel=1e-5)


def test_masked_pixels_and_weights_carry_no_gradient():
    prediction = torch.rand(1, 1, 1, 5, 5, requires_grad=True)
    mask = torch.zeros(1, 1, 1, 5, 5, dtype=torch.bool)
    mask[..., 2, 3] = True
    squared, absolute = balanced_loss(prediction, torch.rand(1, 1, 1, 5, 5), mask)
    (squared + absolute).backward()
    assert prediction.grad.nonzero().tolist() == [[0, 0, 0, 2, 3]]
