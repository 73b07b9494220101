"""What the frozen encoders would see of faces whose parameters are known, without drawing every frame (ours).

Speech is cheap and pictures are not: a clip is spoken in a few hundredths of a second and drawn in one. So a few frames of
each clip are drawn and encoded, and two small networks learn from them how latents follow from parameters: lip latents from
what the lips do, expression latents from expression and pose, and from who it is by an offset for each person. What else
is seen in them, lips that tell of the pose, expressions that tell of the lips, is averaged out.
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
    key_of,
    motion_encoders,
    motion_latents,
    read_motion,
    seeing_device,
)

Motion = Literal["seen", "modelled"]
"""Where a stage's training latents are from: every frame, or a few frames and the parameters of the others."""
DRAWN_FRAMES = 4
_STEPS, _BATCH, _LEARNING_RATE, _WEIGHT_DECAY, _WIDTH = 3000, 512, 3e-3, 1e-2, 192
_MOST_SPREAD = 1.5


class ParametersToLatents(nn.Module):
    """A standardised vector of parameters to latents."""

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


def training_latents(motion: Motion, corpus: Path, checkpoint: Path, cache: Path) -> MotionLatents:
    """Lip and expression latents of the training clips, by `motion_latents` or by `modelled_latents`."""
    latents = motion_latents if motion == "seen" else modelled_latents
    return latents(corpus, "train", checkpoint, cache)


def modelled_latents(corpus: Path, split: Split, checkpoint: Path, cache: Path, num_workers: int = 2) -> MotionLatents:
    """Lip and expression latents of every frame of a synthetic corpus, of which `DRAWN_FRAMES` of each clip are drawn.

    Args:
        corpus: a synthetic corpus of clips of equal length.
        checkpoint: the folder with `lip_encoder/` and `expression_encoder/`.
        cache: a folder for the results.

    Raises:
        InputError: the corpus is of real video, whose parameters nobody knows.
    """
    clips = read_corpus(corpus, split)
    require_truth(clips, "modelled_latents", "computes latents from the parameters that faces were drawn with")
    networks = ["lip_encoder", "expression_encoder"]
    encode = partial(_encode_some, corpus, split, checkpoint)
    key = key_of(corpus, split, checkpoint, networks, [DRAWN_FRAMES])
    drawn = cached(cache / f"drawn-{split}", key, encode, len(clips), num_workers)
    lip, face = _parameters(clips)
    return MotionLatents(
        _modelled(lip, drawn["frame"], drawn["lip"]),
        _modelled(face, drawn["frame"], drawn["expression"], people=[clip.speaker for clip in clips]),
    )


def _modelled(
    parameters: Float[Tensor, "clips frames parameters"],
    frame: np.ndarray,
    latents: np.ndarray,
    people: Sequence[str] | None = None,
) -> Float[Tensor, "clips frames dim"]:
    """Latents of all frames from those of the drawn ones; with an offset for each person, if `people` names them."""
    target = torch.from_numpy(np.array(latents)).float()
    index = torch.from_numpy(np.array(frame))[..., None].expand(-1, -1, parameters.shape[-1])
    _, number = np.unique(np.array(people or [""] * len(target)), return_inverse=True)
    who = torch.from_numpy(number)
    given = parameters.gather(1, index)
    network, offsets = _fitted(given, target, who)
    with torch.no_grad():
        made = torch.cat([network(part) for part in parameters.split(256)])
        if people is None:
            return made
        return _as_lively(made, network(given), target) + offsets[who][:, None]


def _as_lively(
    made: Float[Tensor, "clips frames dim"],
    expected: Float[Tensor, "clips drawn dim"],
    seen: Float[Tensor, "clips drawn dim"],
) -> Float[Tensor, "clips frames dim"]:
    """Moved away from each clip's mean until they vary within clips as what is seen does, dimension by dimension.

    A mean moves less than what it is the mean of; whoever is driven by it would, too.
    """
    spread = seen.var(1).mean(0) / expected.var(1).mean(0).clamp(min=1e-6)
    mean = made.mean(1, keepdim=True)
    return mean + spread.sqrt().clamp(1, _MOST_SPREAD) * (made - mean)


@torch.enable_grad()
def _fitted(
    given: Float[Tensor, "clips drawn parameters"], target: Float[Tensor, "clips drawn dim"], who: Int[Tensor, " clips"]
) -> tuple[ParametersToLatents, Float[Tensor, "people dim"]]:
    """The network, and each person's offset, learned beside it: else the network would learn people by heart."""
    rows, wanted = given.flatten(0, 1), target.flatten(0, 1)
    person = who.repeat_interleave(given.shape[1])
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = ParametersToLatents(rows, wanted.shape[1])
    offsets = torch.zeros(int(who.max()) + 1, wanted.shape[1], requires_grad=len(who.unique()) > 1)
    learned = [parameter for parameter in (*network.parameters(), offsets) if parameter.requires_grad]
    optimizer = torch.optim.AdamW(learned, _LEARNING_RATE, weight_decay=_WEIGHT_DECAY)
    for step in range(_STEPS):
        some = torch.randint(len(rows), (_BATCH,), generator=generator)
        loss = F.mse_loss(network(rows[some]) + offsets[person[some]], wanted[some])
        optimizer.zero_grad()
        loss.backward()
        for group in optimizer.param_groups:
            group["lr"] = _LEARNING_RATE * (1 - step / _STEPS)
        optimizer.step()
    return network, offsets.detach()


def _parameters(clips: Corpus) -> tuple[Float[Tensor, "clips frames 6"], Float[Tensor, "clips frames 18"]]:
    """Of the lips; of expression and pose."""
    rows = [(clip.lip, np.concatenate([clip.expression, clip.pose], 1)) for clip in clips]
    lip, face = (torch.from_numpy(np.stack(column)) for column in zip(*rows, strict=True))
    return lip, face


@torch.inference_mode()
def _encode_some(corpus: Path, split: Split, checkpoint: Path, clips: range) -> Arrays:
    torch.set_num_threads(1)
    lips, expressions = motion_encoders(checkpoint)
    source = read_corpus(corpus, split)
    frames, rows = [], []
    for index in clips:
        clip = source[index]
        generator = np.random.default_rng([clip.seed, index])
        frames.append(np.sort(generator.choice(clip.num_frames, DRAWN_FRAMES, replace=False)))
        images = draw_clip(clip, frames[-1].tolist(), MOTION_SIZE).images * 2 - 1
        rows.append(read_motion(lips, expressions, images.to(seeing_device())))
    lip, expression = (np.stack(column) for column in zip(*rows, strict=True))
    return {"frame": np.stack(frames), "lip": lip, "expression": expression}
