"""bfloat16 is used where the device computes in it, and nowhere else."""

import pytest
import torch

from emotivetalk.models import precision
from emotivetalk.models.precision import has_bfloat16, mixed_precision


@pytest.mark.parametrize("is_supported", [True, False])
def test_a_cpu_that_would_emulate_bfloat16_stays_in_float32(monkeypatch, is_supported: bool):
    monkeypatch.setattr(precision.torch.cpu, "_is_avx512_bf16_supported", lambda: is_supported)
    weights = torch.ones(4, 4)
    assert has_bfloat16("cpu") == is_supported
    with mixed_precision("cpu"):
        assert (weights @ weights).dtype == (torch.bfloat16 if is_supported else torch.float32)
    with mixed_precision("cpu", enabled=False):
        assert (weights @ weights).dtype == torch.float32


@pytest.mark.parametrize(
    ("capability", "expected"), [((7, 0), False), ((7, 5), False), ((8, 0), True), ((8, 9), True), ((9, 0), True)]
)
def test_an_nvidia_gpu_has_bfloat16_from_compute_capability_8(monkeypatch, capability, expected):
    """V100 and T4 emulate it; A100, 4090 and H100 have it. The capability is that of the named device."""
    asked = []

    def get_device_capability(device: torch.device) -> tuple[int, int]:
        asked.append(device)
        return capability

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", get_device_capability)
    monkeypatch.setattr(torch.version, "hip", None)
    assert has_bfloat16("cuda:1") == expected
    assert asked == [torch.device("cuda:1")]


def test_amd_gpus_have_bfloat16(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.version, "hip", "6.2")
    assert has_bfloat16("cuda")


def test_an_absent_gpu_has_no_bfloat16(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert not has_bfloat16("cuda")


@pytest.mark.parametrize("is_macos_14", [True, False])
def test_apple_gpus_have_bfloat16_from_macos_14(monkeypatch, is_macos_14):
    versions = []
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(
        torch.backends.mps, "is_macos_or_newer", lambda *version: versions.append(version) or is_macos_14
    )
    assert has_bfloat16("mps") == is_macos_14
    assert versions == [(14, 0)]


def test_a_device_of_unknown_type_computes_in_float32():
    assert not has_bfloat16("meta")
