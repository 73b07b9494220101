"""Precision: bfloat16 where the processor has it, and nowhere else."""

import pytest
import torch

from emotivetalk.models import precision
from emotivetalk.models.precision import has_bfloat16, mixed_precision


@pytest.mark.parametrize("has_it", [True, False])
def test_a_cpu_that_would_emulate_bfloat16_stays_in_float32(monkeypatch, has_it: bool):
    monkeypatch.setattr(precision.torch.cpu, "_is_avx512_bf16_supported", lambda: has_it)
    weights = torch.ones(4, 4)
    assert has_bfloat16("cpu") == has_it
    with mixed_precision("cpu"):
        assert (weights @ weights).dtype == (torch.bfloat16 if has_it else torch.float32)
    with mixed_precision("cpu", enabled=False):
        assert (weights @ weights).dtype == torch.float32


def test_gpus_have_it():
    assert has_bfloat16("cuda")
