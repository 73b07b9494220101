"""Expression and pose tracks from emotion and speech, at 25 frames a second.

Ours: the ground truth of everything but the lips. A track is the emotion's target with smooth noise, events (blinks,
saccades, nods) and speech energy, in the units of `corpus/parameters.py`. Every function is pure given its generator.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.ndimage import gaussian_filter1d

from emotivetalk.corpus.parameters import (
    BLINK_RATE_BY_EMOTION,
    EMOTION_TARGETS,
    EXPRESSION,
    LIFT_BY_EMOTION,
    NOD_BY_EMOTION,
    POSE,
    SWAY_BY_EMOTION,
)
from emotivetalk.models.emotion import EMOTIONS
from emotivetalk.timebase import FRAME_RATE_HZ


@dataclass(frozen=True)
class EmotionTransition:
    """A transition at `frame` to an emotion at an intensity in 0..1; it takes `build_s` seconds, centered on `frame`."""

    frame: int
    emotion: int
    intensity: float
    build_s: float = 0.6


def emotion_weights(changes: Sequence[EmotionTransition], num_frames: int) -> Float[np.ndarray, "frames emotions"]:
    """Compute the intensity of each emotion in each frame. The first entry is the state at the start; rows sum to <= 1."""
    time = np.arange(num_frames) + 0.5
    weights = np.zeros((num_frames, len(EMOTIONS)), np.float32)
    for number, change in enumerate(changes):
        target = np.eye(len(EMOTIONS), dtype=np.float32)[change.emotion] * change.intensity
        progress = np.clip((time - change.frame) / (change.build_s * FRAME_RATE_HZ) + 0.5, 0, 1) if number else 1.0
        eased = np.broadcast_to(progress * progress * (3 - 2 * progress), (num_frames,))[:, None]
        weights = (1 - eased) * weights + eased * target
    return weights.astype(np.float32)


def emotion_per_frame(changes: Sequence[EmotionTransition], num_frames: int) -> Int[np.ndarray, "frames"]:
    """Return the index of the emotion in each frame; it switches in the middle of a transition."""
    emotions = np.zeros(num_frames, np.int64)
    for change in changes:
        emotions[change.frame :] = change.emotion
    return emotions


def speech_energy(waveform: Float[np.ndarray, "samples"], num_frames: int) -> Float[np.ndarray, "frames"]:
    """Compute the root mean square of each frame's samples."""
    return np.sqrt(np.square(waveform.reshape(num_frames, -1)).mean(1) + 1e-10)


def z_score(track: Float[np.ndarray, "frames"]) -> Float[np.ndarray, "frames"]:
    """Subtract the mean and divide by the standard deviation; a constant track gives zeros."""
    return (track - track.mean()) / (track.std() + 1e-4)


def smooth_noise(
    num_frames: int, sigma_s: float, rng: np.random.Generator, channels: int = 1
) -> Float[np.ndarray, "frames channels"]:
    """Draw unit-variance noise smoothed by a Gaussian of `sigma_s` seconds; it is stationary up to the edges."""
    sigma = sigma_s * FRAME_RATE_HZ
    margin = int(4 * sigma) + 1
    noise = rng.normal(size=(num_frames + 2 * margin, channels))
    return gaussian_filter1d(noise, sigma, axis=0)[margin:-margin] * np.sqrt(2 * sigma * np.sqrt(np.pi))


BLINKS_PER_S = 0.35
_SHORTEST_PAUSE_S = 0.6
_BLINKS = ((0.5, 1.0, 0.5), (0.5, 1.0, 1.0, 0.5), (0.5, 1.0, 0.9, 0.6, 0.25))


def blinks(num_frames: int, rng: np.random.Generator, rate_per_s: float = BLINKS_PER_S) -> Float[np.ndarray, "frames"]:
    """Draw a lid track, 0 (open) to 1 (closed), with blinks of 3 to 5 frames at an average of `rate_per_s`."""
    lids = np.zeros(num_frames, np.float32)
    start_s = -10.0  # start before the clip, so that its first frames have as many blinks as the others
    while start_s * FRAME_RATE_HZ < num_frames:
        shape = np.array(_BLINKS[rng.integers(len(_BLINKS))], np.float32)
        frames = round(start_s * FRAME_RATE_HZ) + np.arange(len(shape))
        inside = (frames >= 0) & (frames < num_frames)
        lids[frames[inside]] = shape[inside]
        start_s += _SHORTEST_PAUSE_S + rng.exponential(1 / rate_per_s - _SHORTEST_PAUSE_S)
    return lids


def gaze(num_frames: int, rng: np.random.Generator) -> Float[np.ndarray, "frames 2"]:
    """Draw a gaze track around the camera: fixations of 0.25 to 2 s, saccades of at most two frames, a little drift."""
    points = np.zeros((num_frames, 2))
    frame, point = -int(rng.integers(0, 25)), np.zeros(2)
    while frame < num_frames:
        aside = rng.random() < 0.15
        point = rng.normal(size=2) * ((0.3, 0.14) if aside else (0.08, 0.05))
        points[max(frame, 0) :] = point
        frame += 6 + int(rng.exponential(18))
    points[1:] = 0.75 * points[1:] + 0.25 * points[:-1]
    return points + smooth_noise(num_frames, 0.5, rng, 2) * 0.015


_BROW_IN, _BROW_OUT, _EYE_WIDE, _BLINK = (EXPRESSION.index(n) for n in ("brow_in", "brow_out", "eye_wide", "blink"))
_ASYM, _GAZE_X, _GAZE_Y = (EXPRESSION.index(n) for n in ("asym", "gaze_x", "gaze_y"))
_NEVER_NEGATIVE = [EXPRESSION.index(n) for n in ("furrow", "squint", "sneer")]
# Rise of brows and lids on a stressed syllable.
_LIFT = {_BROW_IN: 0.06, _BROW_OUT: 0.06, _EYE_WIDE: 0.03}
_WANDER = np.full(len(EXPRESSION), 0.05)
_WANDER[[_BROW_IN, _BROW_OUT]] = 0.11  # brows also move independently of speech
_WANDER[[_BLINK, _ASYM, _GAZE_X, _GAZE_Y]] = 0


def expression_track(
    weights: Float[np.ndarray, "frames emotions"], energy: Float[np.ndarray, "frames"], rng: np.random.Generator
) -> Float[np.ndarray, "frames 12"]:
    """Draw expression parameters (order of EXPRESSION) around the emotions' targets.

    The targets are scaled by an envelope in 0.5 .. 1.5 that varies by about 10 % and follows the loudness. Brows rise on
    stressed syllables (correlation with `energy` about 0.4).
    """
    num_frames = len(weights)
    swell = z_score(gaussian_filter1d(energy, 3))
    stress = np.clip(z_score(gaussian_filter1d(energy, 1.2)), -0.5, 2.0) + 0.5
    envelope = 1 + 0.10 * smooth_noise(num_frames, 0.5, rng)[:, 0] + 0.08 * swell
    track = weights @ EMOTION_TARGETS * np.clip(envelope, 0.5, 1.5)[:, None]

    track += smooth_noise(num_frames, 0.3, rng, len(EXPRESSION)) * _WANDER
    lift = _by_emotion(LIFT_BY_EMOTION, weights)
    for column, height in _LIFT.items():
        track[:, column] += height * lift * stress

    rate_per_s = BLINKS_PER_S * float(_by_emotion(BLINK_RATE_BY_EMOTION, weights).mean())
    track[:, _BLINK] = np.maximum(track[:, _BLINK], blinks(num_frames, rng, rate_per_s))
    track[:, [_GAZE_X, _GAZE_Y]] += gaze(num_frames, rng)
    track[:, _NEVER_NEGATIVE] = np.clip(track[:, _NEVER_NEGATIVE], 0, 1.3)
    return track.astype(np.float32)


# Pose at rest, and standard deviations of the sway (order of POSE: tx, ty, rot, scale, yaw, pitch).
_REST = np.eye(len(POSE))[POSE.index("scale")]
_SLOW_SWAY = np.array([0.016, 0.012, 0.030, 0.011, 0.20, 0.15])
_QUICK_SWAY = np.array([0.006, 0.006, 0.012, 0.003, 0.07, 0.06])
_NOD = np.array([0.0, 0.006, 0.0, 0.002, 0.0, 0.10])  # displacement by a nod: down and towards the camera
_LIMITS = np.array([0.06, 0.06, 0.11, 0.04, 0.75, 0.75])


def pose_track(
    weights: Float[np.ndarray, "frames emotions"], energy: Float[np.ndarray, "frames"], rng: np.random.Generator
) -> Float[np.ndarray, "frames 6"]:
    """Draw pose parameters (order of POSE): slow sway, faster sway during speech, and nods on stressed syllables.

    Standard deviations: about 0.02 for tx and ty, 0.035 rad for rot, 0.012 around 1 for scale, 0.25 for yaw, 0.2 for
    pitch. The slow sway continues in pauses.
    """
    num_frames = len(weights)
    speaking = np.clip(gaussian_filter1d(energy, 6) / (energy.max() + 1e-4) * 4, 0.3, 1)
    nods = (
        gaussian_filter1d(_nods(energy, rng), 2.0) * 2.0 * np.sqrt(2 * np.pi)
    )  # the peak of a nod equals its strength
    sway = _SLOW_SWAY * smooth_noise(num_frames, 0.6, rng, len(POSE))
    sway += _QUICK_SWAY * smooth_noise(num_frames, 0.2, rng, len(POSE)) * speaking[:, None]
    offset = sway * _by_emotion(SWAY_BY_EMOTION, weights)[:, None]
    offset += _NOD * (nods * _by_emotion(NOD_BY_EMOTION, weights))[:, None]
    return (_REST + np.clip(offset, -_LIMITS, _LIMITS)).astype(np.float32)


def _nods(energy: Float[np.ndarray, "frames"], rng: np.random.Generator) -> Float[np.ndarray, "frames"]:
    """Draw impulses of random strength on half of the stressed syllables, which are the clear peaks of the energy."""
    smooth = gaussian_filter1d(energy, 1.5)
    peaks = (smooth[1:-1] > smooth[:-2]) & (smooth[1:-1] >= smooth[2:]) & (z_score(smooth)[1:-1] > 0.4)
    impulses = np.zeros(len(energy))
    impulses[1:-1] = peaks * (rng.random(len(peaks)) < 0.5) * rng.uniform(0.5, 1.5, len(peaks))
    return impulses


def _by_emotion(
    values: Float[np.ndarray, " emotions"], weights: Float[np.ndarray, "frames emotions"]
) -> Float[np.ndarray, "frames"]:
    """Interpolate a value per emotion in each frame, from neutral's towards each emotion's by its weight."""
    return values[0] + weights @ (values - values[0])
