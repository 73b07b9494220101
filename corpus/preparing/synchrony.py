"""Offset of sound and picture in frames, measured with V-AID's lip latents from video and from audio.

The lip encoder, and the audio encoder with its projector, were trained to give similar latents at the same moment of a
clip and different ones at others (training/stages/lip_sync.py, training/stages/vaid.py). The offset is the lag of the
best agreement; its lead over other lags shows if it is reliable. The starter's encoders were trained on avatars: on other
faces the curve is flat, and no offset is reported.
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
PEAK_HALF_WIDTH = 3  # frames on each side that belong to the peak
MIN_AGREEMENT, MIN_LEAD = 0.35, 0.2  # with mismatched speech, none of 100 avatars had a lead of 0.19
_BATCH_SIZE = 16

Curve = Float[np.ndarray, "lags"]


@dataclass(frozen=True)
class Offset:
    """Offset of the sound.

    Attributes:
        frames: frames by which the sound is late, with fractions; negative if it is early.
        lead: agreement at the best lag less the best agreement away from it, as a confidence.
        is_sure: True if agreement and lead reach their minimums.
    """

    frames: float
    lead: float
    is_sure: bool


def check_sync_checkpoint(checkpoint: Path) -> None:
    """Check that the folder has the networks that measure synchrony; raise InputError otherwise."""
    missing = [name for name in SYNC_NETWORKS if not (checkpoint / name / "config.json").is_file()]
    if missing:
        raise InputError(
            "sync_checkpoint_missing",
            f"{quoted(checkpoint)} has no {missing[0]}/, which is needed to measure synchrony",
            "Give a checkpoint that has lip_encoder/, audio_encoder/ and vaid/, or give --no-sync.",
        )


class SyncMeter:
    """Measurement of synchrony with the networks of a checkpoint.

    Args:
        checkpoint: folder with the networks that `check_sync_checkpoint` checks.
    """

    def __init__(self, checkpoint: Path) -> None:
        self._lip_encoder = load_network(checkpoint, "lip_encoder")
        self._audio_encoder = load_network(checkpoint, "audio_encoder")
        self._projector = load_network(checkpoint, "vaid").projector

    @torch.inference_mode()
    def visual_latents(self, pictures: Sequence[UInt8[np.ndarray, "size size 3"]]) -> Float[Tensor, "frames dim"]:
        """Compute lip latents of cropped faces."""
        batches = []
        for start in range(0, len(pictures), _BATCH_SIZE):
            images = torch.from_numpy(np.stack(pictures[start : start + _BATCH_SIZE])).permute(0, 3, 1, 2)
            batches.append(self._lip_encoder(images.float() / 127.5 - 1).float())
        return torch.cat(batches)

    @torch.inference_mode()
    def audio_latents(self, sound: Float[np.ndarray, " samples"], frames: range) -> Float[Tensor, "frames dim"]:
        """Compute lip latents of the sound at these frames of a file; frames outside the file are silent."""
        context = self._audio_encoder.context_frames
        samples = slice_sound(sound, range(frames.start - context, frames.stop + context))
        latents = self._projector(self._audio_encoder(torch.from_numpy(samples)[None]))[0].float()
        return latents[context : context + len(frames)]

    def curve(
        self, pictures: Sequence[UInt8[np.ndarray, "size size 3"]], sound: Float[np.ndarray, " samples"], frames: range
    ) -> Curve:
        """Compute the agreement of a clip with its file's sound at lags of -15 .. 15 frames.

        Args:
            pictures: cropped faces of the clip.
            sound: sound of the whole file.
            frames: frames of the file that make up the clip.
        """
        with_margin = range(frames.start - MAX_LAG, frames.stop + MAX_LAG)
        return agreement_curve(self.visual_latents(pictures), self.audio_latents(sound, with_margin))


def slice_sound(sound: Float[np.ndarray, " samples"], frames: range) -> Float[np.ndarray, " samples"]:
    """Return the samples of some frames, 640 each, with silence outside the file."""
    start, stop = frames.start * SAMPLES_PER_FRAME, frames.stop * SAMPLES_PER_FRAME
    inside = sound[max(0, start) : max(0, stop)]
    before = min(max(0, -start), stop - start)
    return np.pad(inside, (before, stop - start - before - len(inside))).astype(np.float32)


def agreement_curve(visual: Float[Tensor, "frames dim"], audio: Float[Tensor, "frames_with_margin dim"]) -> Curve:
    """Compute the mean cosine of the latents, each about its mean, at every lag.

    Args:
        audio: latents with MAX_LAG more frames at both ends.
    """
    num = len(visual)
    directions = F.normalize(visual - visual.mean(0), dim=-1)
    curve = []
    for lag in range(2 * MAX_LAG + 1):
        shifted = audio[lag : lag + num]
        curve.append(float((directions * F.normalize(shifted - shifted.mean(0), dim=-1)).sum(-1).mean()))
    return np.array(curve)


def offset_of(curve: Curve) -> Offset:
    """Find the lag of the best agreement, refined by a parabola through the neighboring lags."""
    best = int(np.argmax(curve))
    elsewhere = np.delete(curve, range(max(0, best - PEAK_HALF_WIDTH), min(len(curve), best + PEAK_HALF_WIDTH + 1)))
    lead = float(curve[best] - elsewhere.max())
    fraction = 0.0
    if 0 < best < len(curve) - 1:
        before, peak, after = curve[best - 1 : best + 2]
        fraction = float(0.5 * (before - after) / min(before - 2 * peak + after, -1e-9))
    is_sure = bool(curve[best] >= MIN_AGREEMENT and lead >= MIN_LEAD)
    return Offset(best - MAX_LAG + fraction, lead, is_sure)
