"""Attention against PyTorch's, and EDI's fast form against its definition."""

import pytest
import torch
import torch.nn.functional as F

from emotivetalk.models.attention import FEW_TOKENS, Attention, CrossAttention
from tests.models import debug


@pytest.mark.parametrize("keys", [1, 4, FEW_TOKENS, FEW_TOKENS + 1])
def test_attention_equals_pytorchs(keys):
    torch.manual_seed(0)
    attention = Attention(32, 4, 16)
    hidden, context = torch.randn(3, 10, 32), torch.randn(3, keys, 16)

    def heads(x: torch.Tensor) -> torch.Tensor:
        return x.view(3, -1, 4, 8).transpose(1, 2)

    found = F.scaled_dot_product_attention(
        heads(attention.to_q(hidden)), heads(attention.to_k(context)), heads(attention.to_v(context))
    )
    expected = attention.to_out(found.transpose(1, 2).reshape(3, 10, 32))
    torch.testing.assert_close(attention(hidden, context), expected, rtol=1e-4, atol=1e-5)


def test_the_fast_form_of_edi_equals_its_definition():
    torch.manual_seed(0)
    cross = debug.stir(CrossAttention(32, 4, 16), 0.3)
    hidden, one, other = torch.randn(3, 10, 32), torch.randn(3, 4, 16), torch.randn(3, 4, 16)
    expected = cross(hidden, one) - cross(hidden, other)
    torch.testing.assert_close(cross.difference(hidden, one, other), expected, rtol=1e-4, atol=1e-5)


def test_a_cross_attention_starts_at_zero():
    cross = CrossAttention(32, 4, 16)
    assert torch.count_nonzero(cross(torch.randn(3, 10, 32), torch.randn(3, 4, 16))) == 0
