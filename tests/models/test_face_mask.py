"""The face mask: position, edge and independence of the resolution."""

import torch

from emotivetalk.models.face_mask import FaceRegion


def test_the_mask_is_one_inside_zero_outside_and_smooth_between():
    mask = FaceRegion().mask(64, 64)[0]
    assert mask[32, 32] == 1
    assert mask[0, 0] == 0
    assert ((mask > 0) & (mask < 1)).any()


def test_it_follows_the_region():
    left = FaceRegion(center_x=0.25, half_width=0.15).mask(32, 32)[0]
    columns = torch.arange(32) + 0.5
    centre = (left.sum(0) * columns).sum() / left.sum() / 32
    assert abs(float(centre) - 0.25) < 0.01


def test_resolutions_agree():
    fine, coarse = FaceRegion().mask(64, 48), FaceRegion().mask(16, 12)
    assert (torch.nn.functional.avg_pool2d(fine, 4) - coarse).abs().max() < 0.12
