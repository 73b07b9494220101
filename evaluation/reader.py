"""The measuring instrument: a small network that reads an avatar's parameters and its emotion back from frames (ours).

It is trained on the renderer's truth (`training/stages/reader.py`), and reads true frames and generated ones alike, so every
figure of the report can be compared with what the reader makes of true frames: the ceiling.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from emotivetalk.corpus.parameters import EXPRESSION, LIP, POSE
from emotivetalk.models.emotion import EMOTIONS
from emotivetalk.models.encoders import MOTION_SIZE, SpatialBlock, to_motion_size

_JAW, _PRESS = LIP.index("jaw"), LIP.index("press")
_NUM_PARAMETERS = len(LIP) + len(EXPRESSION) + len(POSE)


def mouth_opening(lip: Float[Tensor, "*rows 6"]) -> Float[Tensor, "*rows"]:
    """How far the lips are apart: the jaw, as far as the lips are not pressed together."""
    return lip[..., _JAW] * (1 - lip[..., _PRESS])


@dataclass(frozen=True)
class Reading:
    """What the reader sees in frames: `emotivetalk.corpus.parameters` names the columns, EMOTIONS those of `emotion` (logits)."""

    lip: Float[Tensor, "frames 6"]
    expression: Float[Tensor, "frames 12"]
    pose: Float[Tensor, "frames 6"]
    emotion: Float[Tensor, "frames 8"]

    @property
    def opening(self) -> Float[Tensor, " frames"]:
        """See `mouth_opening`."""
        return mouth_opening(self.lip)

    @property
    def clip_emotion(self) -> int:
        """The emotion of the frames as one clip: the largest of the mean logits."""
        return int(self.emotion.mean(0).argmax())


class Reader(ModelMixin, ConfigMixin):
    """Frames of an avatar, side 128 or larger, to its parameters and emotion logits; 1.2 M weights.

    Args:
        channels: widths at 1/4, 1/8 and 1/16 of pictures of side 128.
        hidden_dim: of the layer that sees the whole picture.
    """

    center: Float[Tensor, " parameters"]
    spread: Float[Tensor, " parameters"]

    @register_to_config
    def __init__(self, channels: tuple[int, int, int] = (48, 96, 128), hidden_dim: int = 256) -> None:
        super().__init__()
        cells, narrow = (MOTION_SIZE // 16) ** 2, 32
        self.net = nn.Sequential(
            nn.PixelUnshuffle(4),
            nn.Conv2d(48, channels[0], 3, padding=1),
            SpatialBlock(channels[0]),
            nn.Conv2d(channels[0], channels[1], 3, stride=2, padding=1),
            SpatialBlock(channels[1]),
            nn.Conv2d(channels[1], channels[2], 3, stride=2, padding=1),
            SpatialBlock(channels[2]),
            nn.GroupNorm(8, channels[2]),
            nn.SiLU(),
            nn.Conv2d(channels[2], narrow, 1),
            nn.Flatten(),
            nn.Linear(narrow * cells, hidden_dim),
            nn.SiLU(),
            nn.Linear(hidden_dim, _NUM_PARAMETERS + len(EMOTIONS)),
        )
        self.register_buffer("center", torch.zeros(_NUM_PARAMETERS))
        self.register_buffer("spread", torch.ones(_NUM_PARAMETERS))

    @torch.no_grad()
    def set_units(self, parameters: Float[Tensor, "rows parameters"]) -> None:
        """Makes the network's own outputs have mean 0 and variance 1 over these (lip, expression, pose in a row)."""
        self.center.copy_(parameters.mean(0))
        self.spread.copy_(parameters.std(0))

    def forward(self, images: Float[Tensor, "frames 3 H W"]) -> Reading:
        """Reads RGB frames in -1..1."""
        out = self.net(to_motion_size(images)).float()
        parameters, emotion = out.split([_NUM_PARAMETERS, len(EMOTIONS)], dim=1)
        parameters = parameters * self.spread + self.center
        lip, expression, pose = parameters.split([len(LIP), len(EXPRESSION), len(POSE)], dim=1)
        return Reading(lip, expression, pose, emotion)


@torch.no_grad()
def read_frames(reader: Reader, parts: Iterable[UInt8[Tensor, "frames H W 3"]]) -> Reading:
    """Reads a video that comes in parts, as `EmotiveTalkPipeline` gives it; the parts are not kept.

    Raises:
        ValueError: the video has no frames.
    """
    read = [reader(part.permute(0, 3, 1, 2).float() / 127.5 - 1) for part in parts if len(part)]
    if not read:
        raise ValueError("a video without frames cannot be read. Give at least one frame.")
    return Reading(*(torch.cat(columns) for columns in zip(*(vars(r).values() for r in read), strict=True)))
