"""Import of Stable Video Diffusion's weights into ETHD by name, accounting for every weight.

Three kinds of weights have no layer in ETHD:

- Stable Video Diffusion cross-attends to a single token, the CLIP embedding of its image. Attention to one token returns
  that token's value for every query, so for a given embedding the layer is a constant, `W_out W_v e + b_out`. It is
  **folded** into the bias of the preceding self-attention. ETHD receives the portrait as a latent instead.
- The embedding of frame rate, motion bucket and noise augmentation is a constant for given numbers. It is folded into the
  last bias of the time embedding.
- The queries, keys and norm of the single-token attention are **without effect** on any output.

ETHD's own layers (lips, EDI, expression) start as the identity, so the imported network computes the same as Stable Video
Diffusion's for that embedding and those numbers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

import torch
from diffusers import UNetSpatioTemporalConditionModel
from jaxtyping import Float
from torch import Tensor

from emotivetalk.models.ethd import ETHD

_RENAMES: Final = (
    (r"^conv_norm_out\.", "norm_out."),
    (r"^down_blocks\.(\d+)\.downsamplers\.0\.", r"down.\1.resampler."),
    (r"^up_blocks\.(\d+)\.upsamplers\.0\.", r"up.\1.resampler."),
    (r"^mid_block\.resnets\.0\.", "middle_in."),
    (r"^mid_block\.resnets\.1\.", "middle_out."),
    (r"^mid_block\.attentions\.0\.", "middle_attention."),
    (r"^(down|up)_blocks\.(\d+)\.resnets\.", r"\1.\2.residuals."),
    (r"^(down|up)_blocks\.(\d+)\.attentions\.", r"\1.\2.attentions."),
    (r"\.temporal_transformer_blocks\.0\.ff_in\.", ".temporal.feed_forward_in."),
    (r"\.temporal_transformer_blocks\.0\.ff\.", ".temporal.feed_forward."),
    (r"\.temporal_transformer_blocks\.0\.norm1\.", ".temporal.attention_norm."),
    (r"\.temporal_transformer_blocks\.0\.norm3\.", ".temporal.feed_forward_norm."),
    (r"\.temporal_transformer_blocks\.0\.attn1\.", ".temporal.attention."),
    (r"\.temporal_transformer_blocks\.0\.norm_in\.", ".temporal.norm_in."),
    (r"\.transformer_blocks\.0\.norm1\.", ".spatial_norm."),
    (r"\.transformer_blocks\.0\.attn1\.", ".spatial_attention."),
    (r"\.transformer_blocks\.0\.norm3\.", ".feed_forward_norm."),
    (r"\.transformer_blocks\.0\.ff\.", ".feed_forward."),
    (r"\.time_pos_embed\.", ".frame_position."),
    (r"(\.attentions\.\d+|^middle_attention)\.time_mixer\.", r"\1.temporal_mix."),
    (r"\.to_out\.0\.", ".to_out."),
)
_SINGLE_TOKEN: Final = re.compile(r"^(?P<block>.+transformer_blocks\.0)\.(attn2|norm2)\.(?P<part>.+)$")
_NEW: Final = re.compile(r"\.(lip|edi|expression)\.|^(lip|expression)_tokens\.")
_TIME_BIAS: Final = "time_embedding.linear_2.bias"


@dataclass(frozen=True)
class ImportReport:
    """Destination of each weight. `loaded`, `folded` and `without_effect` together name all of Stable Video Diffusion's."""

    loaded: dict[str, str]
    """ETHD's name of each weight that was copied."""
    folded: dict[str, str]
    """ETHD's name of the bias that each constant was added to."""
    without_effect: tuple[str, ...]
    """Weights that influence no output."""
    new: tuple[str, ...]
    """ETHD's own weights, which the import leaves as initialised."""


@torch.no_grad()
def import_unet(
    unet: UNetSpatioTemporalConditionModel,
    ethd: ETHD,
    image_embedding: Float[Tensor, " cross_attention_dim"] | None = None,
    added_time_ids: Float[Tensor, "3"] | None = None,
) -> ImportReport:
    """Copy a U-Net's weights into an ETHD of the same widths (`ethd_settings` returns the arguments to build it).

    Args:
        unet: Stable Video Diffusion's U-Net.
        ethd: network whose weights are replaced, except those of its own layers.
        image_embedding: token that the U-Net would attend to (default: zeros, its null condition).
        added_time_ids: frame rate minus one, motion bucket, noise augmentation (default: 24, 127, 0.02).

    Raises:
        ValueError: a weight has no counterpart or another shape; the message names it.
    """
    source, target = unet.state_dict(), ethd.state_dict()
    loaded, folded, without_effect = {}, {}, []
    constants: dict[str, Tensor] = {}
    for name, weight in source.items():
        if (single := _SINGLE_TOKEN.match(name)) is not None:
            bias = _renamed(f"{single['block']}.attn1.to_out.0.bias")
            if single["part"].startswith(("to_v", "to_out")):
                folded[name] = bias
                constants[bias] = _single_token_value(source, single["block"], image_embedding)
            else:
                without_effect.append(name)
        elif name.startswith("add_embedding."):
            folded[name] = _TIME_BIAS
        else:
            own = _renamed(name)
            if own not in target:
                raise ValueError(f"{name} has no counterpart in this ETHD; its layout differs from the U-Net's")
            if target[own].shape != weight.shape:
                raise ValueError(f"{name} has shape {tuple(weight.shape)}, ETHD's {own} has {tuple(target[own].shape)}")
            target[own] = weight.clone()
            loaded[name] = own
    constants[_TIME_BIAS] = _added_embedding(unet, added_time_ids)
    for bias, constant in constants.items():
        target[bias] = target[bias] + constant.to(target[bias].dtype)
    ethd.load_state_dict(target)
    new = tuple(sorted(set(target) - set(loaded.values())))
    if unexpected := [name for name in new if not _NEW.search(name)]:
        raise ValueError(f"ETHD's {unexpected[0]} received no weight; its layout differs from the U-Net's")
    return ImportReport(loaded, folded, tuple(without_effect), new)


def ethd_settings(unet: UNetSpatioTemporalConditionModel) -> dict[str, object]:
    """Return the arguments that give an `ETHD` the U-Net's widths and levels; the caller adds those of ETHD's own layers.

    Raises:
        ValueError: ETHD cannot have the U-Net's layout.
    """
    config = unet.config
    if (num_layers := config["transformer_layers_per_block"]) != 1:
        raise ValueError(f"the U-Net has {num_layers} transformer layers per block; ETHD supports only 1")
    widths = tuple(config["block_out_channels"])
    heads = config["num_attention_heads"]
    return {
        "latent_channels": config["out_channels"],
        "block_out_channels": widths,
        "attention_levels": tuple(kind.startswith("CrossAttn") for kind in config["down_block_types"]),
        "layers_per_block": config["layers_per_block"],
        "num_attention_heads": (heads,) * len(widths) if isinstance(heads, int) else tuple(heads),
        "feed_forward_mult": 4,
    }


def _renamed(name: str) -> str:
    for pattern, replacement in _RENAMES:
        name = re.sub(pattern, replacement, name)
    return name


def _single_token_value(source: dict[str, Tensor], block: str, image_embedding: Tensor | None) -> Tensor:
    """Compute the result of attention to the single image token, the same for every query: W_out W_v e + b_out."""
    value, out = source[f"{block}.attn2.to_v.weight"], source[f"{block}.attn2.to_out.0.weight"]
    embedding = value.new_zeros(value.shape[1]) if image_embedding is None else image_embedding.to(value)
    return out @ (value @ embedding) + source[f"{block}.attn2.to_out.0.bias"]


def _added_embedding(unet: UNetSpatioTemporalConditionModel, added_time_ids: Tensor | None) -> Tensor:
    ids = torch.tensor([24.0, 127.0, 0.02]) if added_time_ids is None else added_time_ids
    frequencies = unet.add_time_proj(ids.to(unet.device)).flatten()[None].to(unet.dtype)
    return unet.add_embedding(frequencies)[0]
