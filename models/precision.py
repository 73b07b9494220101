"""Which numbers a processor is quick with (ours)."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch


def has_bfloat16(device: torch.device | str) -> bool:
    """Whether the device computes in bfloat16. A CPU that does not emulates it, tens of times slower than float32."""
    return torch.device(device).type != "cpu" or torch.cpu._is_avx512_bf16_supported()


def mixed_precision(device: torch.device | str, enabled: bool = True) -> AbstractContextManager[object]:
    """Autocast to bfloat16 where the device has it; float32 as it is elsewhere, or where it is not `enabled`."""
    if enabled and has_bfloat16(device):
        return torch.autocast(torch.device(device).type, torch.bfloat16)
    return nullcontext()
