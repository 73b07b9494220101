"""Figures of V-AID's latents: retrieval of the right moment, and decoupling of lips and expressions (ours).

True lips and true expressions are not independent: a sad person speaks with another rhythm, and brows rise with the
voice. So the information that a probe finds in latents is compared with what it finds in the true parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from emotivetalk.corpus.parameters import LIP
from emotivetalk.evaluation import metrics
from emotivetalk.evaluation.figures import Figure
from emotivetalk.evaluation.latents import ClipLatents
from emotivetalk.evaluation.metrics import Estimate
from emotivetalk.evaluation.probes import PROBE_KINDS, ProbeKind, predict_classes, predict_values
from emotivetalk.evaluation.retrieval import retrieved_share
from emotivetalk.models.emotion import EMOTIONS

WINDOW_FRAMES, NUM_CANDIDATES = 9, 16
_JAW = LIP.index("jaw")

Select = Callable[[ClipLatents], Tensor]


def retrieval_figure(clips: Sequence[ClipLatents]) -> Figure:
    """Return how often lip latents from audio retrieve their window of 9 frames among 16 windows of visual latents.

    Ceiling: visual lip latents of another person with the same lips. Floor: the speech of another clip.
    """
    mismatched = [*clips[1:], clips[0]]

    def share(queries: Sequence[Tensor]) -> Estimate:
        generator = torch.Generator().manual_seed(0)
        shares = []
        for query, clip in zip(queries, clips, strict=True):
            num = min(len(query), len(clip.lip_visual))
            window = min(WINDOW_FRAMES, num)
            keys = clip.lip_visual[:num]
            shares.append(retrieved_share(query[:num], keys, NUM_CANDIDATES, window, generator=generator))
        return metrics.mean_estimate(shares)

    return Figure(
        "retrieval",
        f"lip latents from audio retrieve their window of {WINDOW_FRAMES} frames, 1 of {NUM_CANDIDATES}",
        share([clip.lip_audio for clip in clips]),
        share([clip.lip_visual_other for clip in clips]),
        share([clip.lip_audio for clip in mismatched]),
    )


def decoupling_figures(clips: Sequence[ClipLatents]) -> list[Figure]:
    """Probe lip latents for the emotion (share of frames) and expression latents for the jaw (r within clips).

    Latents should not reveal more than the true parameters do. So the ceiling is the probe's score on the true
    parameters, and the upper end of its interval is the bound. The floor uses the targets of other clips.

    Raises:
        ValueError: all clips are of one person.
    """
    shuffled, jaws = _with_shuffled_emotions(clips), _jaws(clips)
    figures = []
    for kind in PROBE_KINDS:
        emotion = Figure(
            f"decoupling.emotion_in_lips.{kind}",
            f"emotion read from lip latents, {kind} probe (ceiling: from true lips)",
            emotion_accuracy(kind, clips, lambda clip: clip.lip_audio),
            emotion_accuracy(kind, clips, lambda clip: clip.lip),
            emotion_accuracy(kind, shuffled, lambda clip: clip.lip_audio),
        )
        jaw = Figure(
            f"decoupling.jaw_in_expressions.{kind}",
            f"jaw read from expression latents, {kind} probe: r (ceiling: from true expressions)",
            jaw_correlation(kind, clips, lambda clip: clip.expression_audio),
            jaw_correlation(kind, clips, lambda clip: clip.expression),
            jaw_correlation(kind, clips, lambda clip: clip.expression_audio, jaws[1:] + jaws[:1]),
        )
        figures += [_bounded_by_ceiling(emotion), _bounded_by_ceiling(jaw)]
    return figures


def emotion_accuracy(kind: ProbeKind, clips: Sequence[ClipLatents], select: Select) -> Estimate:
    """Return the share of frames whose emotion a probe predicts from the selected latents; intervals are over clips."""
    targets = torch.cat([torch.full((len(select(clip)),), clip.emotion) for clip in clips])
    inputs = torch.cat([select(clip) for clip in clips])
    predicted = predict_classes(kind, inputs, targets, _people(clips, select), len(EMOTIONS))
    correct = _by_clip((predicted == targets.numpy()).astype(float), clips, select)
    return metrics.bootstrap(lambda index: float(np.concatenate([correct[i] for i in index]).mean()), len(clips))


def jaw_correlation(
    kind: ProbeKind,
    clips: Sequence[ClipLatents],
    select: Select,
    jaws: Sequence[Float[Tensor, " frames"]] | None = None,
) -> Estimate:
    """Return Pearson's r within clips between the jaw and a probe's prediction of it from the selected latents.

    Args:
        jaws: tracks to predict instead of the clips' own; each is cut or repeated to the length of its clip.
    """
    tracks = [_to_length(track, len(select(clip))) for track, clip in zip(jaws or _jaws(clips), clips, strict=True)]
    inputs = torch.cat([select(clip) for clip in clips])
    predicted = predict_values(kind, inputs, torch.cat(tracks), _people(clips, select))
    return metrics.correlation(_by_clip(predicted, clips, select), [track.numpy() for track in tracks])


def _bounded_by_ceiling(figure: Figure) -> Figure:
    assert figure.ceiling is not None
    return replace(figure, at_most=figure.ceiling.high)


def _jaws(clips: Sequence[ClipLatents]) -> list[Float[Tensor, " frames"]]:
    return [clip.lip[:, _JAW] for clip in clips]


def _with_shuffled_emotions(clips: Sequence[ClipLatents]) -> list[ClipLatents]:
    shuffled = np.random.default_rng(0).permutation([clip.emotion for clip in clips])
    return [replace(clip, emotion=int(emotion)) for clip, emotion in zip(clips, shuffled, strict=True)]


def _to_length(track: Float[Tensor, " frames"], num: int) -> Float[Tensor, " num"]:
    return track[torch.arange(num) % len(track)]


def _people(clips: Sequence[ClipLatents], select: Select) -> list[int]:
    return [clip.identity_seed for clip in clips for _ in range(len(select(clip)))]


def _by_clip(rows: Float[np.ndarray, " rows"], clips: Sequence[ClipLatents], select: Select) -> list[np.ndarray]:
    ends: Int[np.ndarray, " clips"] = np.cumsum([len(select(clip)) for clip in clips])
    return np.split(rows, ends[:-1])
