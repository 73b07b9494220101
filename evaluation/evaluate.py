"""Evaluation of a checkpoint: every figure with its interval, its ceiling on true frames, and its floor (ours).

cases -> pipeline -> frames -> reader -> metrics -> EvaluationReport.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import numpy as np
import torch

from emotivetalk.evaluation.ablations import Ablation, apply_ablation, disable_edi, has_edi
from emotivetalk.evaluation.cases import CaseBuilder, EvaluationCase, choose_kinds, true_frames
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
    KindReport,
    Lags,
    MotionRow,
    ReportPicture,
    ReportVideo,
    Seam,
)
from emotivetalk.evaluation.kinds import Kind
from emotivetalk.evaluation.latents import clip_latents
from emotivetalk.evaluation.lips import lip_figures, mouth_lags
from emotivetalk.evaluation.measurements import (
    CaseRunner,
    GeneratedVideo,
    Measurement,
    Progress,
    open_eyes_frame,
    to_pixels,
)
from emotivetalk.evaluation.motion_statistics import motion_figures, motion_rows
from emotivetalk.evaluation.observed_faces import (
    ObservedCase,
    expression_figures,
    face_figures,
    identity_figure,
    mouth_figure,
)
from emotivetalk.evaluation.reader import Reader
from emotivetalk.evaluation.reconstruction import autoencoder_figures
from emotivetalk.evaluation.settings import EvaluationSettings
from emotivetalk.evaluation.stability import border_frames, measure_long_clips
from emotivetalk.evaluation.targets import with_bound
from emotivetalk.evaluation.track_response import track_figures
from emotivetalk.evaluation.true_conditions import driven_figures
from emotivetalk.media.face_observer import FaceObserver
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
    readers: Mapping[Kind, Reader],
    corpus: Path,
    settings: EvaluationSettings,
    progress: Progress | None = None,
    ablation: Ablation | None = None,
    kinds: Sequence[Kind] = (),
    observer: FaceObserver | None = None,
) -> EvaluationReport:
    """Measure lips, emotion, motion, latents, pictures and stability on held-out people, voices and sentences.

    Args:
        pipeline: pipeline of the checkpoint.
        readers: network that reads the frames of each kind, trained by the stage "reader".
        corpus: synthetic corpus with a held-out split; the foreign split is measured if there is one.
        settings: amount of work in each part.
        progress: called with the number of generated frames.
        ablation: ablation to apply while measuring.
        kinds: kinds of people to measure; by default all that the corpus holds out.
        observer: face mesh that looks at the generated and the true frames as well; None leaves its figures out.

    Raises:
        InputError: `corpus` is no corpus or has no held-out people of a kind; the ablation does not change this checkpoint.
    """
    started_s = time.perf_counter()
    with ExitStack() as stack:
        generate_motion = None if ablation is None else stack.enter_context(apply_ablation(ablation, pipeline))
        compares_edi = has_edi(pipeline) and (ablation is None or ablation.disabled_part != "edi")
        parts = [
            _KindEvaluation(pipeline, corpus, settings, kind, compares_edi) for kind in choose_kinds(corpus, kinds)
        ]
        num_frames, num_done = sum(part.num_frames() for part in parts), 0
        reports = []
        for part in parts:
            runner = CaseRunner(
                pipeline,
                readers[part.kind],
                settings.num_steps,
                settings.seed,
                progress=progress,
                num_frames=num_frames,
                num_done=num_done,
                generate_motion=generate_motion,
                observer=observer,
            )
            reports.append(part.report(runner))
            num_done = runner.num_done
    return EvaluationReport(settings, tuple(reports), num_done, time.perf_counter() - started_s)


class _KindEvaluation:
    """The evaluation of one kind of people. It builds all cases first, so the total of frames is known."""

    def __init__(
        self, pipeline: EmotiveTalkPipeline, corpus: Path, settings: EvaluationSettings, kind: Kind, compares_edi: bool
    ) -> None:
        self.pipeline, self.settings = pipeline, settings
        self.kind: Kind = kind
        self.builder = builder = CaseBuilder(corpus, pipeline.image_size, settings.clip_frames, kind)
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

    def report(self, runner: CaseRunner) -> KindReport:
        """Measure all parts with this runner."""
        self.runner, found = runner, _Findings()
        if runner.observer is None:
            found.notes.append("face mesh and identity: not measured, they need --face-mesh-python")
        self._measure_speech(found)
        self._measure_labels(found)
        self._measure_sources(found)
        self._measure_levels(found)
        self._measure_tracks(found)
        self._measure_latents(found)
        if self.driven:
            found.figures += driven_figures(
                self.pipeline, self.driven, self.settings.seed, self.settings.num_steps, runner.count_frames
            )
        if self.settings.still_frames:
            found.figures += autoencoder_figures(self.pipeline, self.builder, self.settings.still_frames)
        self._measure_long(found)
        return KindReport(
            kind=self.kind,
            figures=tuple(with_bound(figure, self.kind) for figure in found.figures),
            lags=tuple(found.lags),
            confusions=tuple(found.confusions),
            motions=found.motions,
            drift=found.drift,
            seams=found.seams,
            pictures=found.pictures,
            videos=tuple(_side_by_side(video, self.pipeline.image_size) for video in runner.saved_videos),
            notes=tuple(found.notes),
        )

    def num_frames(self) -> int:
        """Count the frames that this evaluation generates."""
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
            measurements = self.runner.measure_all(self.speech_alone, num_observed=self.settings.observed_clips)
            found.add_lips("held_out", "mouth opening by audio alone", measurements)
            if observed := _observed(measurements):
                found.figures.append(mouth_figure("held_out", "mouth opening by audio alone", observed))
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
        swapped = self.runner.measure_all(self.labels, names, num_observed=self.settings.observed_clips)
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
        if observed := _observed(swapped):
            found.figures.append(mouth_figure("swapped", "mouth opening while the emotion is swapped", observed))
            found.figures += [*expression_figures(observed), *face_figures([one.faces for one in observed])]
            identity = identity_figure([one.faces for one in observed])
            if identity is None:
                found.notes.append("identity: not measured, the face mesh's environment lacks dlib")
            else:
                found.figures.append(identity)

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
        if not self.settings.latent_clips or self.runner.replaces_vaid:
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


def _observed(measurements: Sequence[Measurement]) -> list[ObservedCase]:
    return [ObservedCase(m.case, m.faces) for m in measurements if m.faces is not None]


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
