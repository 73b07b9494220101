"""V-AID, Vision-guided Audio Information Decoupling: speech to lip latents and to expression latents (Figure 2a).

The features of the frozen audio encoder have two uses: the audio-lip projector makes `lip_audio`, and the audio-expression
generator, Di-CTE, makes `expression_audio`. In training (`training/stages/vaid.py`) the frozen lip and expression encoders
guide both by vision: each is pulled to the latents of the video, and the two are pushed apart.
"""

from __future__ import annotations

from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from jaxtyping import Float
from torch import Tensor, nn

from emotivetalk.models.dicte import DiCTE
from emotivetalk.models.encoders import TemporalBlock


class AudioLipProjector(nn.Module):
    """Projector of audio features to `lip_audio`; it reads `context_frames` frames to either side (ours: gated convolutions)."""

    context_frames = 6

    def __init__(self, dim_audio: int, dim_lip: int, dim: int = 128) -> None:
        super().__init__()
        self.project_in = nn.Linear(dim_audio, dim)
        self.blocks = nn.Sequential(*(TemporalBlock(dim) for _ in range(3)))
        self.norm = nn.LayerNorm(dim)
        self.project_out = nn.Linear(dim, dim_lip)

    def forward(self, audio_features: Float[Tensor, "batch frames dim_audio"]) -> Float[Tensor, "batch frames dim_lip"]:
        return self.project_out(self.norm(self.blocks(self.project_in(audio_features))))


class VAID(ModelMixin, ConfigMixin):
    """The two trainable parts of V-AID, saved together: the audio-lip projector and Di-CTE.

    Args:
        dim_audio, dim_lip, dim_expression: widths of the frozen encoders' outputs.
        dim: width of both parts.
        num_blocks, num_heads: number of Di-CTE's conditional transformer blocks, and of attention heads in each.
    """

    @register_to_config
    def __init__(
        self,
        dim_audio: int = 96,
        dim_lip: int = 32,
        dim_expression: int = 20,
        dim: int = 128,
        num_blocks: int = 4,
        num_heads: int = 4,
    ) -> None:
        super().__init__()
        self.projector = AudioLipProjector(dim_audio, dim_lip, dim)
        self.dicte = DiCTE(dim_expression, dim_audio, dim, num_blocks, num_heads)
