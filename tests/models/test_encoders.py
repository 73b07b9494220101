"""The frozen encoders: their receptive fields, and the narrowing of expressions to shared directions."""

import pytest
import torch

from emotivetalk.models.encoders import (
    MOTION_SIZE,
    ConvAudioEncoder,
    ExpressionEncoder,
    LipEncoder,
    Wav2Vec2AudioEncoder,
)
from emotivetalk.timebase import SAMPLES_PER_FRAME
from tests.models import debug


def test_there_is_one_audio_feature_per_video_frame():
    encoder = debug.stir(ConvAudioEncoder(16, 32))
    for samples in (1, SAMPLES_PER_FRAME, SAMPLES_PER_FRAME + 1, 10 * SAMPLES_PER_FRAME):
        frames = -(-samples // SAMPLES_PER_FRAME)
        assert encoder(torch.randn(2, samples)).shape == (2, frames, 16)


def test_audio_context_is_within_the_documented_limit():
    encoder = debug.stir(ConvAudioEncoder(16, 32))
    waveform = (0.1 * torch.randn(1, 60 * SAMPLES_PER_FRAME)).requires_grad_()
    gradient = torch.autograd.grad(encoder(waveform)[0, 30].sum(), waveform)[0][0]
    frames = gradient.view(60, -1).abs().sum(1).nonzero().flatten()
    assert frames.min() >= 30 - encoder.context_frames
    assert frames.max() <= 30 + encoder.context_frames
    assert frames.min() < 30 < frames.max()


def test_wav2vec2_gives_one_feature_per_video_frame():
    settings = {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "conv_dim": [8, 8, 8, 8, 8, 8, 8],
        "num_conv_pos_embeddings": 8,
        "num_conv_pos_embedding_groups": 2,
    }
    torch.manual_seed(0)
    encoder = Wav2Vec2AudioEncoder(settings).eval()
    assert encoder.dim == 16
    assert encoder(torch.randn(1, 25 * SAMPLES_PER_FRAME)).shape == (1, 25, 16)
    assert encoder(torch.randn(1, 25 * SAMPLES_PER_FRAME - 300)).shape == (1, 25, 16)


@pytest.mark.parametrize("kind", [LipEncoder, ExpressionEncoder])
def test_pictures_of_any_size_are_averaged_down(kind):
    torch.manual_seed(0)
    encoder = kind(channels=(8, 16, 16)).eval()
    small = torch.rand(2, 3, MOTION_SIZE, MOTION_SIZE) * 2 - 1
    large = small.repeat_interleave(2, 2).repeat_interleave(2, 3)
    torch.testing.assert_close(encoder(large), encoder(small), rtol=1e-4, atol=1e-5)


def test_the_lip_encoder_reads_only_the_crop():
    torch.manual_seed(0)
    encoder = LipEncoder(channels=(8, 16, 16)).eval()
    images = torch.rand(1, 3, MOTION_SIZE, MOTION_SIZE, requires_grad=True)
    gradient = torch.autograd.grad(encoder(images).sum(), images)[0][0].abs().sum(0)
    top, bottom, left, right = encoder.config["crop"]
    assert (gradient[top:bottom, left:right] > 0).float().mean() > 0.9
    gradient[top:bottom, left:right] = 0
    assert torch.count_nonzero(gradient) == 0


def test_narrowing_keeps_the_directions_that_pairs_share():
    torch.manual_seed(0)
    encoder = ExpressionEncoder(dim=3, hidden_dim=8, channels=(8, 16, 16))
    mixing = torch.randn(8, 8)
    shared, own = torch.randn(4000, 3), torch.randn(2, 4000, 5)
    one, other = (torch.cat([shared, private], 1) @ mixing for private in own)
    agreement = encoder.keep_shared_directions(one, other)
    assert (agreement[:3] > 0.99).all()
    assert (agreement[3:].abs() < 0.1).all()
    kept = (one - encoder.center) @ encoder.directions
    torch.testing.assert_close(kept.std(0), torch.ones(3), rtol=0.05, atol=0.05)
    torch.testing.assert_close(kept, (other - encoder.center) @ encoder.directions, rtol=0.1, atol=0.15)
