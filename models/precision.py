"""Choice of number format by device (ours)."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

_FIRST_CUDA_CAPABILITY = (8, 0)
"""Compute capability of the first NVIDIA GPUs with bfloat16 units (Ampere)."""
_FIRST_MACOS = (14, 0)
"""First macOS whose Metal computes in bfloat16."""


def has_bfloat16(device: torch.device | str) -> bool:
    """Tell whether the device computes in bfloat16 without emulating it, which is many times slower than float32.

    CPUs need AVX512-BF16, NVIDIA GPUs compute capability 8.0, Apple GPUs macOS 14; a device type not named here counts as
    having none, and so does a GPU that is absent.
    """
    device = torch.device(device)
    match device.type:
        case "cpu":
            return torch.cpu._is_avx512_bf16_supported()
        case "cuda":
            if not torch.cuda.is_available():
                return False
            return torch.version.hip is not None or torch.cuda.get_device_capability(device) >= _FIRST_CUDA_CAPABILITY
        case "mps":
            return torch.backends.mps.is_available() and torch.backends.mps.is_macos_or_newer(*_FIRST_MACOS)
        case _:
            return False


def mixed_precision(device: torch.device | str, enabled: bool = True) -> AbstractContextManager[object]:
    """Autocast to bfloat16 if `enabled` and the device has it; otherwise compute in float32."""
    if enabled and has_bfloat16(device):
        return torch.autocast(torch.device(device).type, torch.bfloat16)
    return nullcontext()
