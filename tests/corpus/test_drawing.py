"""Frames of clips that are rendered on demand."""

from dataclasses import replace

import pytest
import torch

from emotivetalk.corpus.drawing import draw_clip
from tests.training.debug import NUM_FRAMES, clip

CLIP = clip("train", 1, 5, seed=2)


def test_a_frame_does_not_depend_on_the_others():
    all_ = draw_clip(CLIP, size=48).images
    assert len(all_) == NUM_FRAMES
    some = draw_clip(CLIP, [3, 20, 4], size=48).images
    torch.testing.assert_close(some, all_[[3, 20, 4]], rtol=0, atol=1e-5)


def test_another_person_and_other_lips_can_be_drawn():
    same = draw_clip(CLIP, [0, 8], size=48)
    other = draw_clip(CLIP, [0, 8], size=48, identity_seed=77)
    assert (same.images - other.images).abs().mean() > 0.02
    spoken = draw_clip(CLIP, [0, 8], size=48, lip=torch.zeros(2, 6))
    assert spoken.mouth_mask.sum() < same.mouth_mask.sum()


def test_real_video_cannot_be_drawn():
    with pytest.raises(ValueError, match="real video"):
        draw_clip(replace(CLIP, identity_seed=None))
