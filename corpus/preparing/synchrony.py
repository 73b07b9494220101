"""By how many frames the sound of footage is late, measured where V-AID compares lips seen with lips heard.

The lip encoder and the audio encoder with its projector were trained to meet in one space, and to tell the right moment
of a clip from the others (training/stages/lip_sync.py, training/stages/vaid.py). So the lag at which the two agree best is the
offset; how much better than elsewhere says whether it is to be believed. The starter's encoders know avatars: on
faces unlike these the curve is flat, and nothing is claimed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from emotivetalk.corpus.preparing.settings import SYNC_NETWORKS
from emotivetalk.errors import InputError
from emotivetalk.files import quoted
from emotivetalk.models.networks import load_network
from emotivetalk.timebase import SAMPLES_PER_FRAME

MAX_LAG = 15  # frames
PEAK_HALF_WIDTH = 3  # frames around the peak that belong to it
MIN_AGREEMENT, MIN_LEAD = 0.35, 0.2  # of avatars with the wrong speech, none of 100 leads by 0.19
_SEEN_AT_ONCE = 16

Curve = Float[np.ndarray, "lags"]


@dataclass(frozen=True)
class Offset:
    """What a curve says.

    Attributes:
        frames: by which the sound is late, to parts of a frame; negative if it is early.
        lead: how far the best lag's agreement is above any other's: the confidence.
        is_sure: whether it is to be believed.
    """

    frames: float
    lead: float
    is_sure: bool


def check_sync_checkpoint(checkpoint: Path) -> None:
    """Raise InputError unless the folder has the networks that measure synchrony."""
    missing = [name for name in SYNC_NETWORKS if not (checkpoint / name / "config.json").is_file()]
    if missing:
        raise InputError(
            "sync_checkpoint_missing",
            f"{quoted(checkpoint)} has no {missing[0]}/, which measures whether sound and lips go together",
            "Name a checkpoint that has lip_encoder/, audio_encoder/ and vaid/, or give --no-sync.",
        )


class SyncMeter:
    """The networks of a checkpoint that compare lips seen with lips heard.

    Args:
        checkpoint: the folder; `check_sync_checkpoint` says what it must have.
    """

    def __init__(self, checkpoint: Path) -> None:
        self._lip_encoder = load_network(checkpoint, "lip_encoder")
        self._audio_encoder = load_network(checkpoint, "audio_encoder")
        self._projector = load_network(checkpoint, "vaid").projector

    @torch.inference_mode()
    def see(self, pictures: Sequence[UInt8[np.ndarray, "size size 3"]]) -> Float[Tensor, "frames dim"]:
        """Lip latents of framed faces."""
        parts = []
        for start in range(0, len(pictures), _SEEN_AT_ONCE):
            images = torch.from_numpy(np.stack(pictures[start : start + _SEEN_AT_ONCE])).permute(0, 3, 1, 2)
            parts.append(self._lip_encoder(images.float() / 127.5 - 1).float())
        return torch.cat(parts)

    @torch.inference_mode()
    def hear(self, sound: Float[np.ndarray, " samples"], frames: range) -> Float[Tensor, "frames dim"]:
        """Lip latents of the sound at frames of a file; what lies outside of the file is silent."""
        context = self._audio_encoder.context_frames
        stretch = slice_sound(sound, range(frames.start - context, frames.stop + context))
        heard = self._projector(self._audio_encoder(torch.from_numpy(stretch)[None]))[0].float()
        return heard[context : context + len(frames)]

    def curve(
        self, pictures: Sequence[UInt8[np.ndarray, "size size 3"]], sound: Float[np.ndarray, " samples"], frames: range
    ) -> Curve:
        """Agreement of a clip with the sound of its file at lags of -15 .. 15 frames.

        Args:
            pictures: of the clip.
            sound: of the whole file.
            frames: of the file, that the clip is.
        """
        near = range(frames.start - MAX_LAG, frames.stop + MAX_LAG)
        return agreement_curve(self.see(pictures), self.hear(sound, near))


def slice_sound(sound: Float[np.ndarray, " samples"], frames: range) -> Float[np.ndarray, " stretch"]:
    """The samples of some frames, 640 each; silence before the beginning and after the end."""
    start, stop = frames.start * SAMPLES_PER_FRAME, frames.stop * SAMPLES_PER_FRAME
    inside = sound[max(0, start) : max(0, stop)]
    before = min(max(0, -start), stop - start)
    return np.pad(inside, (before, stop - start - before - len(inside))).astype(np.float32)


def agreement_curve(seen: Float[Tensor, "frames dim"], heard: Float[Tensor, "more dim"]) -> Curve:
    """Mean cosine of the two, each about its own mean, at every lag; `heard` has MAX_LAG frames more at either end."""
    num = len(seen)
    still = F.normalize(seen - seen.mean(0), dim=-1)
    curve = []
    for lag in range(2 * MAX_LAG + 1):
        moved = heard[lag : lag + num]
        curve.append(float((still * F.normalize(moved - moved.mean(0), dim=-1)).sum(-1).mean()))
    return np.array(curve)


def offset_of(curve: Curve) -> Offset:
    """The lag of the best agreement, between frames by a parabola through it and its neighbours."""
    best = int(np.argmax(curve))
    elsewhere = np.delete(curve, range(max(0, best - PEAK_HALF_WIDTH), min(len(curve), best + PEAK_HALF_WIDTH + 1)))
    lead = float(curve[best] - elsewhere.max())
    part = 0.0
    if 0 < best < len(curve) - 1:
        before, peak, after = curve[best - 1 : best + 2]
        part = float(0.5 * (before - after) / min(before - 2 * peak + after, -1e-9))
    is_sure = bool(curve[best] >= MIN_AGREEMENT and lead >= MIN_LEAD)
    return Offset(best - MAX_LAG + part, lead, is_sure)
