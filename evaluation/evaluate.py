"""Evaluation of a checkpoint: every figure with its interval, its ceiling on true frames, and its floor (ours).

cases -> pipeline -> frames -> reader -> metrics -> EvaluationReport.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import numpy as np
import torch

from emotivetalk.evaluation.ablations import Ablation, apply_ablation, disable_edi, has_edi
from emotivetalk.evaluation.cases import CaseBuilder, EvaluationCase, true_frames
from emotivetalk.evaluation.decoupling import decoupling_figures, retrieval_figure
from emotivetalk.evaluation.emotions import (
    copied_figure,
    edi_figure,
    emotion_confusion,
    emotion_figures,
    level_figures,
)
from emotivetalk.evaluation.figures import (
    Confusion,
    Drift,
    EvaluationReport,
    Figure,
    Lags,
    MotionRow,
    ReportPicture,
    ReportVideo,
    Seam,
)
from emotivetalk.evaluation.latents import clip_latents
from emotivetalk.evaluation.lips import lip_figures, mouth_lags
from emotivetalk.evaluation.measurements import (
    CaseRunner,
    GeneratedVideo,
    Measurement,
    MotionSource,
    Progress,
    open_eyes_frame,
    to_pixels,
)
from emotivetalk.evaluation.motion_statistics import motion_figures, motion_rows
from emotivetalk.evaluation.reader import Reader
from emotivetalk.evaluation.reconstruction import autoencoder_figures
from emotivetalk.evaluation.settings import EvaluationSettings
from emotivetalk.evaluation.stability import border_frames, measure_long_clips
from emotivetalk.evaluation.targets import with_bound
from emotivetalk.evaluation.track_response import track_figures
from emotivetalk.evaluation.true_conditions import driven_figures
from emotivetalk.models.emotion import EMOTIONS
from emotivetalk.models.pipeline import EmotiveTalkPipeline
from emotivetalk.models.sentence_encoder import SentenceEncoderError
from emotivetalk.timebase import FRAME_RATE_HZ


@dataclass
class _Findings:
    """Parts of the report, filled in the order of measurement."""

    figures: list[Figure] = field(default_factory=list)
    lags: list[Lags] = field(default_factory=list)
    confusions: list[Confusion] = field(default_factory=list)
    motions: tuple[MotionRow, ...] = ()
    drift: Drift | None = None
    seams: tuple[Seam, ...] = ()
    pictures: tuple[ReportPicture, ...] = ()
    notes: list[str] = field(default_factory=list)

    def add_lips(self, key: str, title: str, measurements: Sequence[Measurement]) -> None:
        self.figures += lip_figures(key, title, measurements)
        self.lags.append(mouth_lags(title, measurements))

    def add_emotions(self, key: str, measurements: Sequence[Measurement]) -> None:
        title = f"emotion by {key}, {len(EMOTIONS)}-way"
        self.figures += emotion_figures(key, title, measurements)
        self.confusions.append(emotion_confusion(title, measurements))


def evaluate(
    pipeline: EmotiveTalkPipeline,
    reader: Reader,
    corpus: Path,
    settings: EvaluationSettings,
    progress: Progress | None = None,
    ablation: Ablation | None = None,
) -> EvaluationReport:
    """Measure lips, emotion, motion, latents, pictures and stability on held-out people, voices and sentences.

    Args:
        pipeline: pipeline of the checkpoint.
        reader: network that reads the frames, trained by the stage "reader".
        corpus: synthetic corpus with a held-out split; the foreign split is measured if there is one.
        settings: amount of work in each part.
        progress: called with the number of generated frames.
        ablation: ablation to apply while measuring.

    Raises:
        InputError: `corpus` is no corpus or has no held-out avatars; the ablation does not change this checkpoint.
    """
    with ExitStack() as stack:
        generate_motion = None if ablation is None else stack.enter_context(apply_ablation(ablation, pipeline))
        compares_edi = has_edi(pipeline) and (ablation is None or ablation.disabled_part != "edi")
        return _Evaluation(pipeline, reader, corpus, settings, progress, generate_motion, compares_edi).report()


class _Evaluation:
    """One evaluation. It builds all cases first, so that the progress knows the total, then measures part by part."""

    def __init__(
        self,
        pipeline: EmotiveTalkPipeline,
        reader: Reader,
        corpus: Path,
        settings: EvaluationSettings,
        progress: Progress | None,
        generate_motion: MotionSource | None,
        compares_edi: bool,
    ) -> None:
        self.started_s = time.perf_counter()
        self.pipeline, self.settings, self.has_vaid = pipeline, settings, generate_motion is None
        self.builder = builder = CaseBuilder(corpus, pipeline.image_size, settings.clip_frames)
        self.speech_alone = builder.speech_alone(settings.audio_clips)
        self.foreign_speech = builder.foreign_speech(settings.foreign_clips)
        by_label = builder.by_label(settings.label_clips + settings.motion_clips)
        self.labels, self.motion_labels = by_label[: settings.label_clips], by_label[settings.label_clips :]
        self.levels = builder.by_level(settings.level_clips)
        self.labels_without_edi = self.labels[: settings.edi_clips] if compares_edi else []
        self.sources = {
            "image": builder.by_image(settings.image_clips),
            "text": builder.by_text(settings.text_clips),
            "video": builder.by_video(settings.video_clips),
            "speech": builder.by_speech(settings.speech_clips),
        }
        self.tracks = builder.by_track(settings.track_clips, settings.track_keys, settings.track_key_frames)
        self.driven = builder.own_motions(settings.driven_clips)
        num_long = settings.long_clips if settings.long_s else 0
        self.long = [builder.long_case(settings.long_s * FRAME_RATE_HZ, person=k) for k in range(num_long)]
        self.runner = CaseRunner(
            pipeline, reader, settings.num_steps, settings.seed, self._num_frames(), progress, generate_motion
        )

    def report(self) -> EvaluationReport:
        found = _Findings()
        self._measure_speech(found)
        self._measure_labels(found)
        self._measure_sources(found)
        self._measure_levels(found)
        self._measure_tracks(found)
        self._measure_latents(found)
        if self.driven:
            found.figures += driven_figures(
                self.pipeline, self.driven, self.settings.seed, self.settings.num_steps, self.runner.count_frames
            )
        if self.settings.still_frames:
            found.figures += autoencoder_figures(self.pipeline, self.builder, self.settings.still_frames)
        self._measure_long(found)
        return EvaluationReport(
            settings=self.settings,
            figures=tuple(with_bound(figure) for figure in found.figures),
            lags=tuple(found.lags),
            confusions=tuple(found.confusions),
            motions=found.motions,
            drift=found.drift,
            seams=found.seams,
            pictures=found.pictures,
            videos=tuple(_side_by_side(video, self.pipeline.image_size) for video in self.runner.saved_videos),
            notes=tuple(found.notes),
            num_frames=self.runner.num_done,
            seconds=time.perf_counter() - self.started_s,
        )

    def _num_frames(self) -> int:
        """Count the frames that the whole evaluation generates."""
        cases = [*self.speech_alone, *self.foreign_speech, *self.labels, *self.motion_labels, *self.labels_without_edi]
        cases += [*self.tracks, *self.driven, *self.long, *chain(*self.levels, *self.sources.values())]
        num_frames = sum(case.num_frames for case in cases)
        if self.long:
            steps = self.settings.num_steps or self.pipeline.config["num_steps"]
            segment_borders, _ = border_frames(self.pipeline.long_video, self.long[0].num_frames, steps)
            # The two frames at each border are generated once more inside one segment.
            num_frames += 2 * len(segment_borders) * len(self.long)
        return num_frames

    def _measure_speech(self, found: _Findings) -> None:
        if self.speech_alone:
            measurements = self.runner.measure_all(self.speech_alone)
            found.add_lips("held_out", "mouth opening by audio alone", measurements)
        if len(self.foreign_speech) > 1:
            measurements = self.runner.measure_all(self.foreign_speech)
            found.add_lips("foreign", "the same, with a synthesiser's voice never heard", measurements)
        else:
            found.notes.append("foreign voices: not measured")

    def _measure_labels(self, found: _Findings) -> None:
        if not self.labels:
            return
        saved = self.labels[: self.settings.sample_clips]
        names = [f"{k + 1}_{EMOTIONS[case.target_emotion]}" for k, case in enumerate(saved)]
        swapped = self.runner.measure_all(self.labels, names)
        found.add_emotions("label", swapped)
        found.figures.append(copied_figure(swapped))
        if self.labels_without_edi:
            with disable_edi(self.pipeline):
                without = self.runner.measure_all(self.labels_without_edi)
            found.figures.append(edi_figure(swapped[: len(without)], without))
        found.add_lips("swapped", "mouth opening while the emotion is swapped", swapped)
        moving = [*swapped, *self.runner.measure_all(self.motion_labels, first=len(swapped))]
        found.motions = motion_rows(moving)
        found.figures += motion_figures(moving)
        found.pictures = _pictures(swapped[: len(EMOTIONS)])

    def _measure_sources(self, found: _Findings) -> None:
        for key, cases in self.sources.items():
            try:
                measurements = self.runner.measure_all(cases)
            except SentenceEncoderError as error:
                found.notes.append(f"emotion by {key}: not measured, {error}")
                continue
            if measurements:
                found.add_emotions(key, measurements)
            else:
                found.notes.append(f"emotion by {key}: not measured")

    def _measure_levels(self, found: _Findings) -> None:
        if self.levels:
            groups = [[self.runner.measure(case, k) for case in group] for k, group in enumerate(self.levels)]
            found.figures += level_figures(groups)

    def _measure_tracks(self, found: _Findings) -> None:
        if self.tracks:
            names = ["track"] if self.settings.sample_clips else []
            found.figures += track_figures(self.runner.measure_all(self.tracks, names))

    def _measure_latents(self, found: _Findings) -> None:
        if not self.settings.latent_clips or not self.has_vaid:
            return
        cases = self.builder.own_motions(self.settings.latent_clips, whole=True)
        clips = clip_latents(self.pipeline, cases, self.settings.seed)
        found.figures.append(retrieval_figure(clips))
        if len({clip.identity_seed for clip in clips}) > 1:
            found.figures += decoupling_figures(clips)
        else:
            found.notes.append("decoupling: not measured, it needs two people who are held out")

    def _measure_long(self, found: _Findings) -> None:
        if self.long:
            other_person = self.builder.long_case(1, person=len(self.long))
            long = measure_long_clips(self.runner, self.long, other_person.portrait)
            found.figures += long.figures
            found.drift, found.seams = long.drift, long.seams


def _pictures(measurements: Sequence[Measurement]) -> tuple[ReportPicture, ...]:
    """Return three rows: the portraits, a frame of each generated clip, and the true frames."""
    size = len(measurements[0].picture)
    portraits = [
        ReportPicture(
            f"portrait, {EMOTIONS[m.case.portrait_emotion]}",
            to_pixels((m.case.portrait[None] + 1) / 2)[0].numpy(),
        )
        for m in measurements
    ]
    generated = [ReportPicture(f"{EMOTIONS[m.case.target_emotion]} by label", m.picture) for m in measurements]
    true = [
        ReportPicture(f"{EMOTIONS[m.case.target_emotion]}, truth", _true_picture(m.case, size)) for m in measurements
    ]
    return (*portraits, *generated, *true)


def _true_picture(case: EvaluationCase, size: int) -> np.ndarray:
    images = torch.cat(list(true_frames(case, size)))
    return to_pixels(images)[open_eyes_frame(case.expression)].numpy()


def _side_by_side(video: GeneratedVideo, size: int) -> ReportVideo:
    """Join the portrait, the generated frames and the true frames horizontally."""
    true = to_pixels(torch.cat(list(true_frames(video.case, size)))).numpy()
    still = to_pixels((video.case.portrait[None] + 1) / 2).numpy().repeat(len(true), 0)
    return ReportVideo(video.name, np.concatenate([still, video.frames, true], 2), video.case.waveform.numpy())
