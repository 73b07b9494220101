"""Networks of debug size and conditions for them, shared by tests."""

from __future__ import annotations

import torch
from diffusers import UNetSpatioTemporalConditionModel
from torch import Tensor

from emotivetalk.models.autoencoder import PortraitAutoencoder
from emotivetalk.models.diffusion import svd_scheduler
from emotivetalk.models.emotion import EMOTIONS, NUM_LEVELS, EmotionMapping
from emotivetalk.models.encoders import ConvAudioEncoder, ExpressionEncoder, LipEncoder
from emotivetalk.models.ethd import ETHD, Conditions
from emotivetalk.models.pipeline import EmotiveTalkPipeline
from emotivetalk.models.vaid import VAID

DIM_AUDIO, DIM_LIP, DIM_EXPRESSION = 16, 8, 6
IMAGE_SIZE, LATENT_CHANNELS = 64, 4


def stir(module: torch.nn.Module, amount: float = 0.1) -> torch.nn.Module:
    """Perturb every weight, so that layers that start as the identity have an effect."""
    for parameter in module.parameters():
        parameter.data += amount * torch.randn_like(parameter)
    return module.eval()


def ethd(**changes: object) -> ETHD:
    """Build a two-level ETHD in which every layer has an effect."""
    torch.manual_seed(0)
    settings: dict[str, object] = {
        "latent_channels": LATENT_CHANNELS,
        "block_out_channels": (32, 64),
        "attention_levels": (True, True),
        "layers_per_block": 1,
        "num_attention_heads": (1, 2),
        "feed_forward_mult": 1,
        "dim_lip": DIM_LIP,
        "dim_expression": DIM_EXPRESSION,
        "lip_window": 3,
        "num_expression_tokens": 4,
        "context_dim": 16,
    }
    return stir(ETHD(**settings | changes))


def unet() -> UNetSpatioTemporalConditionModel:
    """Build Stable Video Diffusion's U-Net with two levels; `emotivetalk.models.weights.ethd_settings` gives ETHD's settings."""
    torch.manual_seed(0)
    net = UNetSpatioTemporalConditionModel(
        in_channels=8,
        out_channels=4,
        block_out_channels=(32, 64),
        down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
        up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=24,
        layers_per_block=2,
        cross_attention_dim=16,
        num_attention_heads=(1, 2),
    )
    return stir(net, 0.02)  # so that no bias is zero and no mix is even


def conditions(batch: int = 2, frames: int = 4, side: int = 8, seed: int = 0) -> Conditions:
    """Draw random conditions with the face in the middle."""
    generator = torch.Generator().manual_seed(seed)

    def gauss(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    mask = torch.zeros(batch, 1, side, side)
    mask[..., side // 4 : -side // 4, side // 4 : -side // 4] = 1
    return Conditions(
        reference_latent=gauss(batch, LATENT_CHANNELS, side, side),
        lip=gauss(batch, frames, 3, DIM_LIP),
        expression_driving=gauss(batch, frames, DIM_EXPRESSION),
        expression_reference=gauss(batch, DIM_EXPRESSION),
        face_mask=mask,
    )


def pipeline() -> EmotiveTalkPipeline:
    """Build a complete pipeline with random weights for 64 x 64 pictures."""
    torch.manual_seed(0)
    vae = PortraitAutoencoder(
        LATENT_CHANNELS,
        (32, 32, 32),
        (1, 1, 1),
        latents_mean=[0.0] * LATENT_CHANNELS,
        latents_std=[1.0] * LATENT_CHANNELS,
    )
    mapping = EmotionMapping(DIM_EXPRESSION)
    mapping.set_prototypes(torch.randn(len(EMOTIONS), NUM_LEVELS, DIM_EXPRESSION))
    made = EmotiveTalkPipeline(
        vae=stir(vae, 0.02),
        audio_encoder=stir(ConvAudioEncoder(DIM_AUDIO, 32)),
        lip_encoder=LipEncoder(DIM_LIP, (8, 16, 16)),
        expression_encoder=ExpressionEncoder(DIM_EXPRESSION, 8, (8, 16, 16)),
        emotion_mapping=mapping,
        vaid=stir(VAID(DIM_AUDIO, DIM_LIP, DIM_EXPRESSION, 32, 2, 2)),
        ethd=ethd(lip_window=5),
        scheduler=svd_scheduler(0.1, 20.0),
        image_size=IMAGE_SIZE,
        chunk_frames=8,
        segment_chunks=3,
        pinned_frames=2,
        shift_stride=3,
        fusion="shift",
        expression_steps=4,
        expression_chunk_frames=16,
    )
    made.set_progress_bar_config(disable=True)
    return made
