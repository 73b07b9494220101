"""The reader: a small network that estimates a person's parameters and emotion from frames (ours).

It is trained on the renderer's ground truth (`training/stages/reader.py`). It reads true and generated frames alike, so
each figure has a ceiling: the reader's score on true frames.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from emotivetalk.corpus.parameters import EXPRESSION, LIP, POSE
from emotivetalk.evaluation.kinds import Kind
from emotivetalk.models.emotion import EMOTIONS
from emotivetalk.models.encoders import MOTION_SIZE, SpatialBlock, to_motion_size

_JAW, _PRESS = LIP.index("jaw"), LIP.index("press")
_NUM_PARAMETERS = len(LIP) + len(EXPRESSION) + len(POSE)


def mouth_opening(lip: Float[Tensor, "*rows 6"]) -> Float[Tensor, "*rows"]:
    """Compute the distance between the lips: jaw opening times (1 - lip press)."""
    return lip[..., _JAW] * (1 - lip[..., _PRESS])


@dataclass(frozen=True)
class Reading:
    """Estimates for each frame.

    `emotivetalk.corpus.parameters` names the columns of the parameters; `emotion` holds logits in the order of EMOTIONS.
    """

    lip: Float[Tensor, "frames 6"]
    expression: Float[Tensor, "frames 12"]
    pose: Float[Tensor, "frames 6"]
    emotion: Float[Tensor, "frames 8"]

    @property
    def opening(self) -> Float[Tensor, " frames"]:
        """Mouth opening of each frame; see `mouth_opening`."""
        return mouth_opening(self.lip)

    @property
    def clip_emotion(self) -> int:
        """Index of the emotion of the whole clip: the largest mean logit."""
        return int(self.emotion.mean(0).argmax())


class Reader(ModelMixin, ConfigMixin):
    """Convolutional network from frames (side 128 or larger) to parameters and emotion logits; 1.2 M weights.

    Args:
        channels: widths at 1/4, 1/8 and 1/16 of a side of 128 pixels.
        hidden_dim: width of the fully connected layer.
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
        """Set the output scale so that the raw outputs have mean 0 and variance 1 over these (lip, expression, pose)."""
        self.center.copy_(parameters.mean(0))
        self.spread.copy_(parameters.std(0))

    def forward(self, images: Float[Tensor, "frames 3 H W"]) -> Reading:
        """Estimate parameters and logits of RGB frames in -1..1."""
        output = self.net(to_motion_size(images)).float()
        parameters, emotion = output.split([_NUM_PARAMETERS, len(EMOTIONS)], dim=1)
        parameters = parameters * self.spread + self.center
        lip, expression, pose = parameters.split([len(LIP), len(EXPRESSION), len(POSE)], dim=1)
        return Reading(lip, expression, pose, emotion)


def load_readers(folders: Mapping[Kind, Path]) -> dict[Kind, Reader]:
    """Load the reader of each kind of people."""
    return {kind: Reader.from_pretrained(folder) for kind, folder in folders.items()}


@torch.no_grad()
def read_frames(reader: Reader, parts: Iterable[UInt8[Tensor, "frames H W 3"]]) -> Reading:
    """Read a video in batches, as `EmotiveTalkPipeline` yields it, without keeping the batches.

    Raises:
        ValueError: the video has no frames.
    """
    read = [reader(part.permute(0, 3, 1, 2).float() / 127.5 - 1) for part in parts if len(part)]
    if not read:
        raise ValueError("a video without frames cannot be read. Give at least one frame.")
    return Reading(*(torch.cat(columns) for columns in zip(*(vars(r).values() for r in read), strict=True)))
