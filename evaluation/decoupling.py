"""Figures of V-AID's latents: lips that know their moment, and neither side telling of the other (ours).

True lips and true expressions tell a little of each other: one speaks in another rhythm when sad, brows rise with the
voice. So what latents tell is held against what the truth tells, by the same probe.
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
from emotivetalk.evaluation.probes import KINDS, Kind, read_classes, read_number
from emotivetalk.evaluation.retrieval import retrieved_share
from emotivetalk.models.emotion import EMOTIONS

WINDOW_FRAMES, NUM_CANDIDATES = 9, 16
_JAW = LIP.index("jaw")

Select = Callable[[ClipLatents], Tensor]


def retrieval_figure(clips: Sequence[ClipLatents]) -> Figure:
    """Lip latents from audio find their window of 9 frames among 16 of the clip's lip latents from video.

    Ceiling: lip latents from the video of somebody else who says the same. Floor: another clip's speech.
    """
    others = [*clips[1:], clips[0]]

    def found(queries: Sequence[Tensor]) -> Estimate:
        generator = torch.Generator().manual_seed(0)
        shares = []
        for query, clip in zip(queries, clips, strict=True):
            num = min(len(query), len(clip.lip_visual))
            window = min(WINDOW_FRAMES, num)
            shares.append(
                retrieved_share(query[:num], clip.lip_visual[:num], NUM_CANDIDATES, window, generator=generator)
            )
        return metrics.mean_estimate(shares)

    return Figure(
        "retrieval",
        f"lip latents from audio retrieve their window of {WINDOW_FRAMES} frames, 1 of {NUM_CANDIDATES}",
        found([clip.lip_audio for clip in clips]),
        found([clip.lip_another for clip in clips]),
        found([clip.lip_audio for clip in others]),
    )


def decoupling_figures(clips: Sequence[ClipLatents]) -> list[Figure]:
    """Emotion from lip latents (share of frames), the jaw from expression latents (r within clips), by both probes.

    Here the ceiling is what the truth's own parameters give, and what must hold is to give no more: not beyond the upper
    end of the ceiling's interval. Floor: the targets of other clips.

    Raises:
        ValueError: all clips are of one person.
    """
    others_emotions, jaws = _with_others_emotions(clips), _jaws(clips)
    figures = []
    for kind in KINDS:
        emotion = Figure(
            f"decoupling.emotion_in_lips.{kind}",
            f"emotion read from lip latents, {kind} probe (ceiling: from true lips)",
            emotion_read(kind, clips, lambda clip: clip.lip_audio),
            emotion_read(kind, clips, lambda clip: clip.lip),
            emotion_read(kind, others_emotions, lambda clip: clip.lip_audio),
        )
        jaw = Figure(
            f"decoupling.jaw_in_expressions.{kind}",
            f"jaw read from expression latents, {kind} probe: r (ceiling: from true expressions)",
            jaw_read(kind, clips, lambda clip: clip.expression_audio),
            jaw_read(kind, clips, lambda clip: clip.expression),
            jaw_read(kind, clips, lambda clip: clip.expression_audio, jaws[1:] + jaws[:1]),
        )
        figures += [_no_more(emotion), _no_more(jaw)]
    return figures


def emotion_read(kind: Kind, clips: Sequence[ClipLatents], of: Select) -> Estimate:
    """Share of frames whose emotion a probe reads from these latents; intervals over clips."""
    targets = torch.cat([torch.full((len(of(clip)),), clip.emotion) for clip in clips])
    said = read_classes(kind, torch.cat([of(clip) for clip in clips]), targets, _people(clips, of), len(EMOTIONS))
    right = _by_clip((said == targets.numpy()).astype(float), clips, of)
    return metrics.bootstrap(lambda index: float(np.concatenate([right[i] for i in index]).mean()), len(clips))


def jaw_read(
    kind: Kind, clips: Sequence[ClipLatents], of: Select, jaws: Sequence[Float[Tensor, " frames"]] | None = None
) -> Estimate:
    """Pearson's r within clips between the jaw and what a probe reads of it in these latents.

    Args:
        jaws: a track for each clip instead of the clips' own, cut or repeated to the clips' lengths.
    """
    tracks = [_as_long(track, len(of(clip))) for track, clip in zip(jaws or _jaws(clips), clips, strict=True)]
    read = read_number(kind, torch.cat([of(clip) for clip in clips]), torch.cat(tracks), _people(clips, of))
    return metrics.correlation(_by_clip(read, clips, of), [track.numpy() for track in tracks])


def _no_more(figure: Figure) -> Figure:
    assert figure.ceiling is not None
    return replace(figure, at_most=figure.ceiling.high)


def _jaws(clips: Sequence[ClipLatents]) -> list[Float[Tensor, " frames"]]:
    return [clip.lip[:, _JAW] for clip in clips]


def _with_others_emotions(clips: Sequence[ClipLatents]) -> list[ClipLatents]:
    shuffled = np.random.default_rng(0).permutation([clip.emotion for clip in clips])
    return [replace(clip, emotion=int(emotion)) for clip, emotion in zip(clips, shuffled, strict=True)]


def _as_long(track: Float[Tensor, " frames"], num: int) -> Float[Tensor, " num"]:
    return track[torch.arange(num) % len(track)]


def _people(clips: Sequence[ClipLatents], of: Select) -> list[int]:
    return [clip.identity_seed for clip in clips for _ in range(len(of(clip)))]


def _by_clip(rows: Float[np.ndarray, " rows"], clips: Sequence[ClipLatents], of: Select) -> list[np.ndarray]:
    ends: Int[np.ndarray, " clips"] = np.cumsum([len(of(clip)) for clip in clips])
    return np.split(rows, ends[:-1])
