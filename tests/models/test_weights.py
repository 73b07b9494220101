"""Stable Video Diffusion's weights in ETHD: every weight is used, and the outputs are equal."""

import pytest
import torch
from diffusers import UNetSpatioTemporalConditionModel

from emotivetalk.models.ethd import ETHD, Conditions
from emotivetalk.models.weights import ethd_settings, import_unet
from tests.models import debug

DIM_LIP, DIM_EXPRESSION = 8, 6


@pytest.fixture(scope="module")
def unet() -> UNetSpatioTemporalConditionModel:
    return debug.unet()


def ethd_like(unet: UNetSpatioTemporalConditionModel) -> ETHD:
    return ETHD(**ethd_settings(unet), dim_lip=DIM_LIP, dim_expression=DIM_EXPRESSION, context_dim=16).eval()


def test_every_weight_is_used(unet):
    ethd = ethd_like(unet)
    report = import_unet(unet, ethd)
    gone = [*report.loaded, *report.folded, *report.without_effect]
    assert sorted(gone) == sorted(unet.state_dict())
    assert sorted([*report.loaded.values(), *report.new]) == sorted(ethd.state_dict())
    assert all("to_q" in name or "to_k" in name or "norm2" in name for name in report.without_effect)


@pytest.mark.parametrize("has_embedding", [False, True])
def test_outputs_equal_stable_video_diffusion(unet, has_embedding):
    generator = torch.Generator().manual_seed(1)

    def gauss(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    embedding = gauss(16) if has_embedding else torch.zeros(16)
    ids = torch.tensor([24.0, 90.0, 0.1])
    ethd = ethd_like(unet)
    import_unet(unet, ethd, embedding, ids)
    noisy, reference, timestep = gauss(2, 5, 4, 8, 8), gauss(2, 4, 8, 8), torch.tensor([0.3, -0.7])
    conditions = Conditions(
        reference,
        gauss(2, 5, 5, DIM_LIP),
        gauss(2, 5, DIM_EXPRESSION),
        gauss(2, DIM_EXPRESSION),
        torch.ones(2, 1, 8, 8),
    )
    with torch.no_grad():
        ours = ethd(noisy, timestep, conditions)
        beside = torch.cat([noisy, reference[:, None].expand_as(noisy)], 2)
        context = embedding.expand(2, 1, 16)
        theirs = unet(beside, timestep, context, ids.expand(2, 3)).sample
    assert theirs.std() > 0.05
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_weights_of_another_layout_are_refused(unet):
    narrow = ETHD(4, (32, 32), (True, False), 2, (1, 1), 4, DIM_LIP, DIM_EXPRESSION, context_dim=16)
    with pytest.raises(ValueError, match=r"down_blocks\.1\.resnets\.0"):
        import_unet(unet, narrow)
