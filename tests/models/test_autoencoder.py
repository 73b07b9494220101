"""The small autoencoder: shapes, the portrait's features, standardised latents, group normalisation."""

import pytest
import torch
from diffusers import AutoencoderKLTemporalDecoder
from torch import nn

from emotivetalk.models.autoencoder import LatentCodec, PortraitAutoencoder
from emotivetalk.models.group_norm import GroupNorm, use_fast_group_norm
from tests.models import debug


@pytest.fixture(scope="module")
def vae() -> PortraitAutoencoder:
    torch.manual_seed(0)
    mean, std = [0.5, -1.0, 0.0, 2.0], [2.0, 0.5, 1.0, 3.0]
    return debug.stir(PortraitAutoencoder(4, (32, 32, 32), (1, 1, 1), latents_mean=mean, latents_std=std), 0.02)


def test_a_latent_cell_covers_sixteen_pixels(vae):
    latents = LatentCodec(vae).encode(torch.rand(2, 3, 64, 96) * 2 - 1)
    assert latents.shape == (2, 4, 4, 6)
    assert vae.spatial_compression == 16


def test_decoding_undoes_the_standardisation(vae):
    codec, images = LatentCodec(vae), torch.rand(2, 3, 64, 64) * 2 - 1
    portrait = codec.portrait(images[:1])
    raw = vae.encode(images).mode()
    plain = vae.decode(raw, portrait).images
    torch.testing.assert_close(codec.decode(codec.encode(images), portrait), plain, rtol=1e-4, atol=1e-5)
    expected = (raw - torch.tensor(vae.config["latents_mean"]).view(1, -1, 1, 1)) / torch.tensor(
        vae.config["latents_std"]
    ).view(1, -1, 1, 1)
    torch.testing.assert_close(codec.encode(images), expected)


def test_one_portrait_is_used_for_all_frames(vae):
    codec, portrait = LatentCodec(vae), torch.rand(1, 3, 64, 64) * 2 - 1
    latents = torch.randn(3, 4, 4, 4)
    once = codec.decode(latents, codec.portrait(portrait))
    each = codec.decode(latents, codec.portrait(portrait.expand(3, -1, -1, -1)))
    torch.testing.assert_close(once, each, rtol=1e-4, atol=1e-5)


def test_before_training_the_portrait_is_not_warped():
    """Flow and blend start at zero, so the decoder adds half the unwarped portrait to its residual."""
    torch.manual_seed(0)
    fresh = PortraitAutoencoder(4, (32, 32, 32), (1, 1, 1)).eval()
    portrait = torch.rand(1, 3, 64, 64) * 2 - 1
    decoded = fresh.decode(torch.randn(1, 4, 4, 4), fresh.portrait_features(portrait))
    torch.testing.assert_close(decoded.warped, portrait, rtol=1e-4, atol=1e-4)


def test_untrained_statistics_are_refused():
    with pytest.raises(ValueError, match="no latent statistics"):
        LatentCodec(PortraitAutoencoder(4, (32, 32, 32), (1, 1, 1))).encode(torch.zeros(1, 3, 64, 64))


def test_a_decoder_that_reads_the_portrait_needs_one(vae):
    with pytest.raises(ValueError, match="needs the portrait"):
        LatentCodec(vae).decode(torch.zeros(1, 4, 4, 4), None)


def test_stable_video_diffusions_autoencoder_fits_too():
    torch.manual_seed(0)
    temporal = AutoencoderKLTemporalDecoder(
        down_block_types=("DownEncoderBlock2D", "DownEncoderBlock2D"), block_out_channels=(32, 32), layers_per_block=1
    ).eval()
    codec, images = LatentCodec(temporal), torch.rand(3, 3, 32, 32) * 2 - 1
    latents = codec.encode(images)
    expected = temporal.encode(images).latent_dist.mode() * temporal.config["scaling_factor"]
    torch.testing.assert_close(latents, expected)
    assert codec.portrait(images[:1]) is None
    assert codec.decode(latents, None).shape == images.shape


@pytest.mark.parametrize("shape", [(3, 64, 8, 8), (2, 32, 5, 4, 4), (2, 64, 7)])
@pytest.mark.parametrize("channels_last", [False, True])
def test_fast_group_norm_equals_group_norm(shape, channels_last):
    torch.manual_seed(0)
    x = 3 + 2 * torch.randn(shape)
    if channels_last and x.dim() == 4:
        x = x.contiguous(memory_format=torch.channels_last)
    native, fast = nn.GroupNorm(32, shape[1]), GroupNorm(32, shape[1])
    debug.stir(native, 0.3)
    fast.load_state_dict(native.state_dict())
    torch.testing.assert_close(fast(x), native(x), rtol=1e-4, atol=1e-4)
    one, other = x.clone().requires_grad_(), x.clone().requires_grad_()
    fast(one).pow(3).sum().backward()
    native(other).pow(3).sum().backward()
    torch.testing.assert_close(one.grad, other.grad, rtol=1e-3, atol=1e-2)


def test_use_fast_group_norm_keeps_names_and_weights():
    network = nn.Sequential(nn.Conv2d(3, 32, 1), nn.Sequential(nn.GroupNorm(32, 32)))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    use_fast_group_norm(network)
    assert type(network[1][0]) is GroupNorm
    assert all(torch.equal(network.state_dict()[name], value) for name, value in before.items())
