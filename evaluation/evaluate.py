"""Measures a checkpoint: every figure with its interval, the reader's score on true frames, and a broken pairing's (ours).

scenes (what is asked, and the truth) -> pipeline -> frames -> reader -> metrics -> Report.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from corpus.parameters import EMOTION_TARGETS, EXPRESSION, POSE
from evaluation import metrics
from evaluation.figures import Confusion, Figure, Lags, MotionRow, Picture, Report, Settings
from evaluation.metrics import FRAMES_PER_S, Estimate
from evaluation.reader import Reader, Reading, mouth_opening
from evaluation.scenes import LEVELS, Scene, Stage, truth_images
from evaluation.steadiness import long_figures
from evaluation.still import still_figures
from evaluation.takes import Camera, Progress, Take, frame_to_show, to_pixels
from models.emotion import EMOTIONS
from models.pipeline import EmotiveTalkPipeline
from models.sentence_encoder import SentenceEncoderError

MOUTH_R, EMOTION_SHARE = 0.75, 0.50
"""What must hold of mouth opening driven by audio alone, and of emotion swapped as commanded by label."""

_MOVING = (("expression", EXPRESSION, "brow_in"), ("expression", EXPRESSION, "smile"), ("pose", POSE, "yaw"))
_BLINK = EXPRESSION.index("blink")
_STILL_LEAVES = ("blink", "gaze_x", "gaze_y")  # of which an emotion's strength says nothing


def evaluate(
    pipeline: EmotiveTalkPipeline,
    reader: Reader,
    corpus: Path,
    settings: Settings,
    progress: Progress | None = None,
) -> Report:
    """Measure lips, emotion, pictures and steadiness on people, voices and sentences that training never met.

    Args:
        pipeline: the checkpoint's.
        reader: the instrument, trained by the stage "reader".
        corpus: a synthetic corpus with a held-out split; its foreign split is measured if there is one.
        settings: how much is measured.
        progress: told of generated frames.

    Raises:
        InputError: `corpus` is no corpus, or has no held-out avatars.
    """
    started_s = time.perf_counter()
    stage = Stage(corpus, pipeline.image_size, settings.clip_frames)
    alone, foreign = stage.speech_alone(settings.audio_clips), stage.foreign_speech(settings.foreign_clips)
    labels, levels = stage.by_label(settings.label_clips), stage.by_level(settings.level_clips)
    sources = {
        "image": stage.by_image(settings.image_clips),
        "text": stage.by_text(settings.text_clips),
        "video": stage.by_video(settings.video_clips),
        "speech": stage.by_speech(settings.speech_clips),
    }
    long = stage.long_take(settings.long_s * FRAMES_PER_S)
    asked = [*alone, *foreign, *labels, *chain(*levels, *sources.values()), long]
    num_frames = sum(scene.num_frames for scene in asked)
    camera = Camera(pipeline, reader, settings.num_steps, settings.seed, num_frames, progress)

    figures: list[Figure] = []
    lags: list[Lags] = []
    confusions: list[Confusion] = []
    notes: list[str] = []

    def lips(key: str, title: str, takes: Sequence[Take]) -> None:
        figures.append(_mouth_figure(key, title, takes))
        lags.append(_lags(title, takes))

    def emotions(key: str, takes: Sequence[Take], at_least: float | None = None) -> None:
        title = f"emotion by {key}, 8-way"
        figures.append(_emotion_figure(f"emotion.{key}", title, takes, at_least))
        confusions.append(Confusion(title, metrics.confusion(_said(takes), _wanted(takes), len(EMOTIONS))))

    spoken = camera.shoot_all(alone)
    lips("held_out", "mouth opening by audio alone", spoken)
    if len(foreign) > 1:
        lips("foreign", "the same, with a synthesiser's voice never heard", camera.shoot_all(foreign))
    else:
        notes.append("foreign voices: not measured")

    swapped = camera.shoot_all(labels)
    emotions("label", swapped, EMOTION_SHARE)
    figures += [_copied_figure(swapped), _blink_figure(swapped)]
    lips("swapped", "mouth opening while the emotion is swapped", swapped)
    for key, scenes in sources.items():
        try:
            takes = camera.shoot_all(scenes)
        except SentenceEncoderError as error:
            notes.append(f"emotion by {key}: not measured, {error}")
            continue
        if takes:
            emotions(key, takes)
        else:
            notes.append(f"emotion by {key}: not measured")
    if levels:
        figures.append(_level_figure([camera.shoot_all(group) for group in levels]))

    figures += still_figures(pipeline, stage, settings.still_frames)
    steady, drift_db = long_figures(camera, long)
    return Report(
        settings=settings,
        figures=(*figures, *steady),
        lags=tuple(lags),
        confusions=tuple(confusions),
        motions=_motions(swapped),
        drift_db=drift_db,
        pictures=_pictures(swapped[: len(EMOTIONS)]),
        notes=tuple(notes),
        num_frames=camera.num_done,
        seconds=time.perf_counter() - started_s,
    )


# ---------------------------------------------------------------------------------------------------------- lips


def _openings(readings: Sequence[Reading]) -> list[Float[np.ndarray, " frames"]]:
    return [reading.opening.numpy() for reading in readings]


def _true_openings(takes: Sequence[Take]) -> list[Float[np.ndarray, " frames"]]:
    return [mouth_opening(take.scene.lip).numpy() for take in takes]


def _mouth_figure(key: str, title: str, takes: Sequence[Take]) -> Figure:
    """Floor: everybody is compared with the next one's speech."""
    measured, truth = _openings([take.reading for take in takes]), _true_openings(takes)
    pairs = [(a[: len(b)], b[: len(a)]) for a, b in zip(measured, [*truth[1:], truth[0]], strict=True)]
    return Figure(
        key=f"mouth_r.{key}",
        title=f"{title}: r",
        value=metrics.correlation(measured, truth),
        ceiling=metrics.correlation(_openings([take.truth for take in takes]), truth),
        floor=metrics.correlation(*zip(*pairs, strict=True)),
        at_least=MOUTH_R if key == "held_out" else None,
    )


def _lags(title: str, takes: Sequence[Take]) -> Lags:
    truth = _true_openings(takes)
    return Lags(
        title,
        metrics.lag_curve(_openings([take.reading for take in takes]), truth),
        metrics.lag_curve(_openings([take.truth for take in takes]), truth),
    )


# ------------------------------------------------------------------------------------------------------- emotion


def _said(takes: Sequence[Take]) -> np.ndarray:
    return np.array([take.reading.clip_emotion for take in takes])


def _wanted(takes: Sequence[Take]) -> np.ndarray:
    return np.array([take.scene.wanted for take in takes])


def _emotion_figure(key: str, title: str, takes: Sequence[Take], at_least: float | None) -> Figure:
    """Floor: what was said, against what was asked of every other clip."""
    said, wanted = _said(takes), _wanted(takes)
    agree = said[:, None] == wanted
    others = (agree.sum(1) - agree.diagonal()) / max(1, len(takes) - 1)
    return Figure(
        key=key,
        title=title,
        value=metrics.accuracy(said, wanted),
        ceiling=metrics.accuracy(np.array([take.truth.clip_emotion for take in takes]), wanted),
        floor=metrics.mean_estimate(others),
        at_least=at_least,
    )


def _copied_figure(takes: Sequence[Take]) -> Figure:
    """What a network that copies the portrait's expression is found by."""
    shown = np.array([take.scene.shown for take in takes])
    return Figure(
        key="emotion.copied",
        title="the portrait's own emotion is read instead",
        value=metrics.accuracy(_said(takes), shown),
        ceiling=metrics.accuracy(np.array([take.truth.clip_emotion for take in takes]), shown),
    )


def _strength(reading: Reading, emotion: int) -> float:
    """How far the clip's mean expression has gone from neutral to the emotion's face: 0 to 1."""
    counts = torch.tensor([name not in _STILL_LEAVES for name in EXPRESSION])
    targets = torch.from_numpy(EMOTION_TARGETS)
    way = (targets[emotion] - targets[0]) * counts
    return float((reading.expression.mean(0) - targets[0]) @ way / way.square().sum())


def _level_figure(groups: Sequence[Sequence[Take]]) -> Figure:
    """Spearman's correlation of commanded and read intensity; floor: the read ones shuffled."""
    wanted = np.array([[take.scene.level for take in group] for group in groups])
    read = np.array([[_strength(take.reading, take.scene.wanted) for take in group] for group in groups])
    true = np.array([[_strength(take.truth, take.scene.wanted) for take in group] for group in groups])
    shuffled = np.random.default_rng(0).permuted(read, axis=1)

    def ranked(values: np.ndarray) -> Estimate:
        return metrics.bootstrap(
            lambda index: metrics.rank_correlation(values[index].ravel(), wanted[index].ravel()), len(values)
        )

    title = f"intensity of {len(LEVELS)} levels, rank correlation"
    return Figure("intensity", title, ranked(read), ranked(true), ranked(shuffled))


# ----------------------------------------------------------------------------------------------- motion, pictures


def _blink_figure(takes: Sequence[Take]) -> Figure:
    """The renderer's rate is no ceiling, but what to come near to."""

    def rates(readings: Sequence[Reading]) -> Estimate:
        return metrics.mean_estimate([metrics.blink_rate([r.expression[:, _BLINK].numpy()]) for r in readings])

    generated, true = rates([take.reading for take in takes]), rates([take.truth for take in takes])
    return Figure("motion.blinks", "blinks a second (true frames: as many as there should be)", generated, true)


def _motions(takes: Sequence[Take]) -> tuple[MotionRow, ...]:
    def tracks(readings: Sequence[Reading], group: str, column: int) -> list[np.ndarray]:
        return [getattr(reading, group)[:, column].numpy() for reading in readings]

    generated, true = [take.reading for take in takes], [take.truth for take in takes]
    rows = [MotionRow("mouth opening", metrics.motion(_openings(generated)), metrics.motion(_openings(true)))]
    for group, names, name in _MOVING:
        column = names.index(name)
        pair = (metrics.motion(tracks(readings, group, column)) for readings in (generated, true))
        rows.append(MotionRow(name, *pair))
    return tuple(rows)


def _pictures(takes: Sequence[Take]) -> tuple[Picture, ...]:
    """Three rows: the portraits, a frame from the middle of each generated clip, and one of the renderer's."""
    size = len(takes[0].picture)

    def name(emotion: int) -> str:
        return EMOTIONS[emotion]

    portraits = [
        Picture(f"portrait, {name(t.scene.shown)}", to_pixels((t.scene.portrait[None] + 1) / 2)[0].numpy())
        for t in takes
    ]
    made = [Picture(f"{name(t.scene.wanted)} by label", t.picture) for t in takes]
    true = [Picture(f"{name(t.scene.wanted)}, truth", _true_picture(t.scene, size)) for t in takes]
    return (*portraits, *made, *true)


def _true_picture(scene: Scene, size: int) -> np.ndarray:
    images = torch.cat(list(truth_images(scene, size)))
    return to_pixels(images)[frame_to_show(scene.expression)].numpy()
