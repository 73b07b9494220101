"""Measures a checkpoint: every figure with its interval, the reader's score on true frames, and a broken pairing's (ours).

scenes (what is asked, and the truth) -> pipeline -> frames -> reader -> metrics -> Report.
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

from emotivetalk.evaluation.ablations import Ablation, at_work, without_edi
from emotivetalk.evaluation.decoupling import decoupling_figures, retrieval_figure
from emotivetalk.evaluation.emotions import copied_figure, edi_figure, emotion_confusion, emotion_figure, level_figures
from emotivetalk.evaluation.figures import (
    Confusion,
    Drift,
    Figure,
    Lags,
    MotionRow,
    Movie,
    Picture,
    Report,
    Seam,
    Settings,
)
from emotivetalk.evaluation.latents import clip_latents
from emotivetalk.evaluation.lips import mouth_figure, mouth_lags
from emotivetalk.evaluation.measurements import (
    CaseRunner,
    GeneratedVideo,
    Measurement,
    MotionSource,
    Progress,
    frame_to_show,
    to_pixels,
)
from emotivetalk.evaluation.motion_statistics import liveness_figures, motion_rows
from emotivetalk.evaluation.reader import Reader
from emotivetalk.evaluation.reconstruction import still_figures
from emotivetalk.evaluation.stability import borders, long_findings
from emotivetalk.evaluation.targets import judged
from emotivetalk.evaluation.test_cases import CaseBuilder, TestCase, true_frames
from emotivetalk.evaluation.track_response import track_figures
from emotivetalk.evaluation.true_conditions import driven_figures
from emotivetalk.models.edi import EDI
from emotivetalk.models.emotion import EMOTIONS
from emotivetalk.models.pipeline import EmotiveTalkPipeline
from emotivetalk.models.sentence_encoder import SentenceEncoderError
from emotivetalk.timebase import FRAME_RATE_HZ


@dataclass
class _Findings:
    """What a report is put together from, in the order in which it is found."""

    figures: list[Figure] = field(default_factory=list)
    lags: list[Lags] = field(default_factory=list)
    confusions: list[Confusion] = field(default_factory=list)
    motions: tuple[MotionRow, ...] = ()
    drift: Drift | None = None
    seams: tuple[Seam, ...] = ()
    pictures: tuple[Picture, ...] = ()
    notes: list[str] = field(default_factory=list)

    def lips(self, key: str, title: str, measurements: Sequence[Measurement]) -> None:
        self.figures.append(mouth_figure(key, title, measurements))
        self.lags.append(mouth_lags(title, measurements))

    def emotions(self, key: str, measurements: Sequence[Measurement]) -> None:
        title = f"emotion by {key}, 8-way"
        self.figures.append(emotion_figure(key, title, measurements))
        self.confusions.append(emotion_confusion(title, measurements))


def evaluate(
    pipeline: EmotiveTalkPipeline,
    reader: Reader,
    corpus: Path,
    settings: Settings,
    progress: Progress | None = None,
    ablation: Ablation | None = None,
) -> Report:
    """Measure lips, emotion, motion, latents, pictures and steadiness on people, voices and sentences never met.

    Args:
        pipeline: the checkpoint's.
        reader: the instrument, trained by the stage "reader".
        corpus: a synthetic corpus with a held-out split; its foreign split is measured if there is one.
        settings: how much is measured.
        progress: told of generated frames.
        ablation: what is taken away while measuring.

    Raises:
        InputError: `corpus` is no corpus, or has no held-out avatars; the ablation changes nothing of this checkpoint.
    """
    with ExitStack() as stack:
        generate_motion = None if ablation is None else stack.enter_context(at_work(ablation, pipeline))
        return _Evaluation(pipeline, reader, corpus, settings, progress, generate_motion).report()


class _Evaluation:
    """One run: the scenes are laid out first, so that progress knows its end, then played part by part."""

    def __init__(
        self,
        pipeline: EmotiveTalkPipeline,
        reader: Reader,
        corpus: Path,
        settings: Settings,
        progress: Progress | None,
        generate_motion: MotionSource | None,
    ) -> None:
        self.started_s = time.perf_counter()
        self.pipeline, self.settings, self.has_vaid = pipeline, settings, generate_motion is None
        self.builder = builder = CaseBuilder(corpus, pipeline.image_size, settings.clip_frames)
        self.alone, self.foreign = (
            builder.speech_alone(settings.audio_clips),
            builder.foreign_speech(settings.foreign_clips),
        )
        by_label = builder.by_label(settings.label_clips + settings.motion_clips)
        self.labels, self.more_labels = by_label[: settings.label_clips], by_label[settings.label_clips :]
        self.levels = builder.by_level(settings.level_clips)
        self.plain = self.labels[: settings.edi_clips] if _has_edi(pipeline) else []
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
        asked = [*self.alone, *self.foreign, *self.labels, *self.more_labels, *self.plain]
        asked += [*self.tracks, *self.driven, *self.long, *chain(*self.levels, *self.sources.values())]
        num_frames = sum(case.num_frames for case in asked)
        if self.long:
            steps = settings.num_steps or pipeline.config["num_steps"]
            at, _ = borders(pipeline.long_video, self.long[0].num_frames, steps)
            num_frames += 2 * len(at) * len(self.long)  # each border's two frames once more, inside one segment
        self.runner = CaseRunner(
            pipeline, reader, settings.num_steps, settings.seed, num_frames, progress, generate_motion
        )

    def report(self) -> Report:
        found = _Findings()
        self._spoken(found)
        self._emotional(found)
        self._moving(found)
        if self.settings.latent_clips and self.has_vaid:
            self._latent(found)
        if self.driven:
            steps = self.settings.num_steps
            figures = driven_figures(self.pipeline, self.driven, self.settings.seed, steps, self.runner.heard)
            found.figures += figures
        if self.settings.still_frames:
            found.figures += still_figures(self.pipeline, self.builder, self.settings.still_frames)
        self._long(found)
        return Report(
            settings=self.settings,
            figures=tuple(judged(figure) for figure in found.figures),
            lags=tuple(found.lags),
            confusions=tuple(found.confusions),
            motions=found.motions,
            drift=found.drift,
            seams=found.seams,
            pictures=found.pictures,
            movies=tuple(_movie(sample, self.pipeline.image_size) for sample in self.runner.samples),
            notes=tuple(found.notes),
            num_frames=self.runner.num_done,
            seconds=time.perf_counter() - self.started_s,
        )

    def _spoken(self, found: _Findings) -> None:
        if self.alone:
            found.lips("held_out", "mouth opening by audio alone", self.runner.measure_all(self.alone))
        if len(self.foreign) > 1:
            measurements = self.runner.measure_all(self.foreign)
            found.lips("foreign", "the same, with a synthesiser's voice never heard", measurements)
        else:
            found.notes.append("foreign voices: not measured")

    def _emotional(self, found: _Findings) -> None:
        if self.labels:
            wanted = self.labels[: self.settings.sample_clips]
            names = [f"{k + 1}_{EMOTIONS[case.wanted]}" for k, case in enumerate(wanted)]
            swapped = self.runner.measure_all(self.labels, names)
            found.emotions("label", swapped)
            found.figures.append(copied_figure(swapped))
            if self.plain:
                with without_edi(self.pipeline):
                    without = self.runner.measure_all(self.plain)
                found.figures.append(edi_figure(swapped[: len(without)], without))
            found.lips("swapped", "mouth opening while the emotion is swapped", swapped)
            moving = [*swapped, *self.runner.measure_all(self.more_labels, first=len(swapped))]
            found.motions = motion_rows(moving)
            found.figures += liveness_figures(moving)
            found.pictures = _pictures(swapped[: len(EMOTIONS)])
        for key, cases in self.sources.items():
            try:
                measurements = self.runner.measure_all(cases)
            except SentenceEncoderError as error:
                found.notes.append(f"emotion by {key}: not measured, {error}")
                continue
            if measurements:
                found.emotions(key, measurements)
            else:
                found.notes.append(f"emotion by {key}: not measured")
        if self.levels:
            measurements = [[self.runner.measure(case, k) for case in group] for k, group in enumerate(self.levels)]
            found.figures += level_figures(measurements)

    def _moving(self, found: _Findings) -> None:
        if self.tracks:
            names = ["track"] if self.settings.sample_clips else []
            found.figures += track_figures(self.runner.measure_all(self.tracks, names))

    def _latent(self, found: _Findings) -> None:
        cases = self.builder.own_motions(self.settings.latent_clips, whole=True)
        clips = clip_latents(self.pipeline, cases, self.settings.seed)
        found.figures.append(retrieval_figure(clips))
        if len({clip.identity_seed for clip in clips}) > 1:
            found.figures += decoupling_figures(clips)
        else:
            found.notes.append("decoupling: not measured, it needs two people who are held out")

    def _long(self, found: _Findings) -> None:
        if self.long:
            other = self.builder.long_case(1, person=len(self.long))
            long = long_findings(self.runner, self.long, other.portrait)
            found.figures += long.figures
            found.drift, found.seams = long.drift, long.seams


def _has_edi(pipeline: EmotiveTalkPipeline) -> bool:
    """Not where it is switched off already: an ablation's hooks are on the modules."""
    blocks = [module for module in pipeline.ethd.modules() if isinstance(module, EDI)]
    return bool(blocks) and not any(block._forward_hooks for block in blocks)


def _pictures(measurements: Sequence[Measurement]) -> tuple[Picture, ...]:
    """Three rows: the portraits, a frame from the middle of each generated clip, and one of the renderer's."""
    size = len(measurements[0].picture)

    def name(emotion: int) -> str:
        return EMOTIONS[emotion]

    portraits = [
        Picture(f"portrait, {name(t.case.shown)}", to_pixels((t.case.portrait[None] + 1) / 2)[0].numpy())
        for t in measurements
    ]
    made = [Picture(f"{name(t.case.wanted)} by label", t.picture) for t in measurements]
    true = [Picture(f"{name(t.case.wanted)}, truth", _true_picture(t.case, size)) for t in measurements]
    return (*portraits, *made, *true)


def _true_picture(case: TestCase, size: int) -> np.ndarray:
    images = torch.cat(list(true_frames(case, size)))
    return to_pixels(images)[frame_to_show(case.expression)].numpy()


def _movie(sample: GeneratedVideo, size: int) -> Movie:
    """The portrait, the generated frames and the renderer's, side by side."""
    true = to_pixels(torch.cat(list(true_frames(sample.case, size)))).numpy()
    still = to_pixels((sample.case.portrait[None] + 1) / 2).numpy().repeat(len(true), 0)
    return Movie(sample.name, np.concatenate([still, sample.frames, true], 2), sample.case.waveform.numpy())
