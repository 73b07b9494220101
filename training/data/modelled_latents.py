"""Prediction of the frozen encoders' latents from known face parameters, without drawing every frame (ours).

Speech is cheap and pictures are not: a clip is synthesised in a few hundredths of a second and drawn in one second. So only a
few frames of each clip are drawn and encoded, and two small networks learn from them to predict latents from parameters: lip
latents from lip parameters, expression latents from expression and pose with an offset for each person. Other influences,
such as that of the pose on lip latents or of the lips on expression latents, average out.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from emotivetalk.corpus.drawing import draw_clip
from emotivetalk.corpus.records import Corpus, Split, read_corpus
from emotivetalk.models.encoders import MOTION_SIZE
from emotivetalk.training.data.ground_truth import require_truth
from emotivetalk.training.data.latents import (
    Arrays,
    MotionLatents,
    cached,
    encode_motion,
    encoder_device,
    key_of,
    motion_encoders,
    motion_latents,
)

LatentSource = Literal["seen", "modelled"]
"""Source of a stage's training latents: "seen" encodes every frame, "modelled" predicts them (`modelled_latents`)."""
DRAWN_FRAMES = 4
"""Frames of each clip that are drawn and encoded for modelling."""
_STEPS, _BATCH, _LEARNING_RATE, _WEIGHT_DECAY, _WIDTH = 3000, 512, 3e-3, 1e-2, 192
_MAX_STRETCH = 1.5


class ParametersToLatents(nn.Module):
    """Small network from face parameters, which it standardises, to latents."""

    center: Float[Tensor, " parameters"]
    spread: Float[Tensor, " parameters"]

    def __init__(self, rows: Float[Tensor, "rows parameters"], dim: int) -> None:
        super().__init__()
        self.register_buffer("center", rows.mean(0))
        self.register_buffer("spread", rows.std(0) + 1e-6)
        self.net = nn.Sequential(
            nn.Linear(rows.shape[1], _WIDTH),
            nn.SiLU(),
            nn.Linear(_WIDTH, _WIDTH),
            nn.SiLU(),
            nn.Linear(_WIDTH, dim),
        )

    def forward(self, parameters: Float[Tensor, "*rows parameters"]) -> Float[Tensor, "*rows dim"]:
        return self.net((parameters - self.center) / self.spread)


def training_latents(motion: LatentSource, corpus: Path, checkpoint: Path, cache: Path) -> MotionLatents:
    """Compute lip and expression latents of the training clips by `motion_latents` or by `modelled_latents`."""
    latents = motion_latents if motion == "seen" else modelled_latents
    return latents(corpus, "train", checkpoint, cache)


def modelled_latents(corpus: Path, split: Split, checkpoint: Path, cache: Path, num_workers: int = 2) -> MotionLatents:
    """Predict lip and expression latents of every frame of a synthetic corpus from `DRAWN_FRAMES` drawn frames per clip.

    Args:
        corpus: folder of a synthetic corpus of clips of equal length.
        split: split of the corpus.
        checkpoint: folder with `lip_encoder/` and `expression_encoder/`.
        cache: folder for the latents of the drawn frames.
        num_workers: processes that draw and encode.

    Raises:
        InputError: the corpus is of real video, whose parameters are unknown.
    """
    clips = read_corpus(corpus, split)
    require_truth(clips, "modelled_latents", "computes latents from the parameters that faces were drawn with")
    networks = ["lip_encoder", "expression_encoder"]
    encode = partial(_encode_drawn_frames, corpus, split, checkpoint)
    key = key_of(corpus, split, checkpoint, networks, [DRAWN_FRAMES])
    drawn = cached(cache / f"drawn-{split}", key, encode, len(clips), num_workers)
    lip, face = _parameters(clips)
    return MotionLatents(
        _predict(lip, drawn["frame"], drawn["lip"]),
        _predict(face, drawn["frame"], drawn["expression"], people=[clip.speaker for clip in clips]),
    )


def _predict(
    parameters: Float[Tensor, "clips frames parameters"],
    frame: np.ndarray,
    latents: np.ndarray,
    people: Sequence[str] | None = None,
) -> Float[Tensor, "clips frames dim"]:
    """Predict the latents of all frames from those of the drawn ones, with an offset per person if `people` is given.

    Args:
        parameters: face parameters of all frames.
        frame: positions of the drawn frames, [clips, drawn].
        latents: latents of the drawn frames, [clips, drawn, dim].
        people: the person of each clip.
    """
    target = torch.from_numpy(np.array(latents)).float()
    index = torch.from_numpy(np.array(frame))[..., None].expand(-1, -1, parameters.shape[-1])
    _, number = np.unique(np.array(people or [""] * len(target)), return_inverse=True)
    person = torch.from_numpy(number)
    drawn_parameters = parameters.gather(1, index)
    network, offsets = _fit(drawn_parameters, target, person)
    with torch.no_grad():
        predicted = torch.cat([network(part) for part in parameters.split(256)])
        if people is None:
            return predicted
        return _match_variance(predicted, network(drawn_parameters), target) + offsets[person][:, None]


def _match_variance(
    predicted: Float[Tensor, "clips frames dim"],
    predicted_drawn: Float[Tensor, "clips drawn dim"],
    encoded_drawn: Float[Tensor, "clips drawn dim"],
) -> Float[Tensor, "clips frames dim"]:
    """Stretch predictions about each clip's mean so that they vary within clips as encoded latents do, by dimension.

    A prediction is an expected value and varies less than the latents, and motion learned from it would too.
    """
    ratio = encoded_drawn.var(1).mean(0) / predicted_drawn.var(1).mean(0).clamp(min=1e-6)
    mean = predicted.mean(1, keepdim=True)
    return mean + ratio.sqrt().clamp(1, _MAX_STRETCH) * (predicted - mean)


@torch.enable_grad()
def _fit(
    parameters: Float[Tensor, "clips drawn parameters"],
    latents: Float[Tensor, "clips drawn dim"],
    person: Int[Tensor, " clips"],
) -> tuple[ParametersToLatents, Float[Tensor, "people dim"]]:
    """Fit the network and an offset for each person, without which the network would memorise people."""
    inputs, targets = parameters.flatten(0, 1), latents.flatten(0, 1)
    row_person = person.repeat_interleave(parameters.shape[1])
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = ParametersToLatents(inputs, targets.shape[1])
    offsets = torch.zeros(int(person.max()) + 1, targets.shape[1], requires_grad=len(person.unique()) > 1)
    trained = [parameter for parameter in (*network.parameters(), offsets) if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, _LEARNING_RATE, weight_decay=_WEIGHT_DECAY)
    for step in range(_STEPS):
        rows = torch.randint(len(inputs), (_BATCH,), generator=generator)
        loss = F.mse_loss(network(inputs[rows]) + offsets[row_person[rows]], targets[rows])
        optimizer.zero_grad()
        loss.backward()
        for group in optimizer.param_groups:
            group["lr"] = _LEARNING_RATE * (1 - step / _STEPS)
        optimizer.step()
    return network, offsets.detach()


def _parameters(clips: Corpus) -> tuple[Float[Tensor, "clips frames 6"], Float[Tensor, "clips frames 18"]]:
    """Stack the lip parameters of all clips, and their expression and pose parameters."""
    rows = [(clip.lip, np.concatenate([clip.expression, clip.pose], 1)) for clip in clips]
    lip, face = (torch.from_numpy(np.stack(column)) for column in zip(*rows, strict=True))
    return lip, face


@torch.inference_mode()
def _encode_drawn_frames(corpus: Path, split: Split, checkpoint: Path, clips: range) -> Arrays:
    torch.set_num_threads(1)
    lip_encoder, expression_encoder = motion_encoders(checkpoint)
    source = read_corpus(corpus, split)
    frames, rows = [], []
    for index in clips:
        clip = source[index]
        generator = np.random.default_rng([clip.seed, index])
        frames.append(np.sort(generator.choice(clip.num_frames, DRAWN_FRAMES, replace=False)))
        images = draw_clip(clip, frames[-1].tolist(), MOTION_SIZE).images * 2 - 1
        rows.append(encode_motion(lip_encoder, expression_encoder, images.to(encoder_device())))
    lip, expression = (np.stack(column) for column in zip(*rows, strict=True))
    return {"frame": np.stack(frames), "lip": lip, "expression": expression}
