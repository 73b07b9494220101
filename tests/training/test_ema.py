import pytest
import torch
from torch import nn

from emotivetalk.training.optim.ema import WeightAverage


@pytest.mark.parametrize("decay", [0.0, 0.2, 0.999])
def test_the_average_equals_its_closed_form(decay: float) -> None:
    module = nn.Linear(2, 1, bias=False)
    weights = torch.randn(6, 1, 2, generator=torch.Generator().manual_seed(0))
    module.weight.data.copy_(weights[0])
    average = WeightAverage(module, decay)
    expected = weights[0]
    for step, weight in enumerate(weights[1:]):
        module.weight.data.copy_(weight)
        average.update(module, step)
        decay_now = min(decay, (1 + step) / (10 + step))
        expected = decay_now * expected + (1 - decay_now) * weight
    torch.testing.assert_close(average.module.weight, expected)


def test_the_average_is_a_frozen_float32_copy_in_evaluation_mode() -> None:
    module = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)).bfloat16().train()
    average = WeightAverage(module, 0.9)
    module(torch.randn(8, 4).bfloat16())
    average.update(module, 0)
    assert all(p.dtype == torch.float32 and not p.requires_grad for p in average.module.parameters())
    assert not average.module.training
    assert module.training
    torch.testing.assert_close(average.module[1].running_mean, module[1].running_mean.float())
    assert average.module[1].num_batches_tracked == 1


def test_small_steps_are_not_lost_to_bfloat16() -> None:
    module = nn.Linear(1, 1, bias=False).bfloat16()
    module.weight.data.fill_(1.0)
    average = WeightAverage(module, 0.999)
    module.weight.data.fill_(1.0078125)  # the next bfloat16
    for step in range(10_000, 10_100):
        average.update(module, step)
    assert 1.0006 < float(average.module.weight.detach()) < 1.0009


def test_a_decay_outside_its_range_is_refused() -> None:
    with pytest.raises(ValueError, match="decay"):
        WeightAverage(nn.Linear(1, 1), 1.0)
