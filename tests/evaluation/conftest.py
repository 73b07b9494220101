"""A small corpus, scenes, and a stand-in for the pipeline that cannot do better: it draws the truth."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from emotivetalk.evaluation.figures import Settings
from emotivetalk.evaluation.latents import seen_expressions, seen_lips
from emotivetalk.evaluation.measurements import to_pixels
from emotivetalk.evaluation.reader import Reader
from emotivetalk.evaluation.test_cases import CaseBuilder, TestCase, true_frames
from emotivetalk.models.autoencoder import PortraitAutoencoder
from emotivetalk.models.emotion import EmotionSource
from emotivetalk.models.encoders import MOTION_SIZE
from emotivetalk.models.long_video_plan import LongVideoConfig
from emotivetalk.models.pipeline import MotionSequence
from tests.models import debug as debug_models
from tests.training import debug as debug_training

SETTINGS = Settings(
    clip_frames=12,
    audio_clips=2,
    foreign_clips=0,
    label_clips=8,
    motion_clips=2,
    edi_clips=2,
    image_clips=1,
    text_clips=1,
    video_clips=1,
    speech_clips=1,
    level_clips=2,
    track_clips=2,
    track_keys=2,
    track_key_frames=16,
    driven_clips=2,
    latent_clips=2,
    still_frames=2,
    long_s=2,
    long_clips=1,
    sample_clips=1,
)


def cases_of(builder: CaseBuilder, settings: Settings) -> list[TestCase]:
    """All that `evaluate` asks for."""
    return [
        *builder.speech_alone(settings.audio_clips),
        *builder.by_label(settings.label_clips + settings.motion_clips),
        *builder.by_image(settings.image_clips),
        *builder.by_text(settings.text_clips),
        *builder.by_video(settings.video_clips),
        *builder.by_speech(settings.speech_clips),
        *(case for group in builder.by_level(settings.level_clips) for case in group),
        *builder.by_track(settings.track_clips, settings.track_keys, settings.track_key_frames),
        *builder.own_motions(settings.driven_clips),
        *(builder.long_case(settings.long_s * 25, person=k) for k in range(settings.long_clips)),
    ]


class TruthTalker:
    """Finds the scene that it is asked to play, and gives the renderer's frames."""

    image_size = MOTION_SIZE
    long_video = LongVideoConfig(chunk_frames=8, segment_chunks=3, pinned_frames=2, shift_stride=3)
    config: dict[str, Any] = {"num_steps": 2}  # noqa: RUF012 as a pipeline's

    def __init__(self, cases: list[TestCase]) -> None:
        self._networks = debug_models.pipeline()
        self.vae: PortraitAutoencoder = self._networks.vae
        self.ethd = self._networks.ethd
        self.lip_encoder, self.expression_encoder = self._networks.lip_encoder, self._networks.expression_encoder
        self.motion_generator = self._networks.motion_generator
        self._last: TestCase | None = None
        self._scenes = {_key(s.portrait, s.waveform, s.emotion): s for s in cases}

    def __call__(
        self,
        portrait: Tensor,
        waveform: Tensor,
        emotion: EmotionSource = None,
        *,
        seed: int = 0,
        num_steps: int | None = None,
    ) -> Iterator[Tensor]:
        for images in true_frames(self._scenes[_key(portrait, waveform, emotion)], self.image_size):
            yield to_pixels(images)

    def generate_motion(self, portrait: Tensor, waveform: Tensor, emotion: EmotionSource = None, *, seed: int = 0):
        """Of the random networks: V-AID's latents are not what this stand-in is perfect at."""
        self._last = self._scenes.get(_key(portrait, waveform, emotion))
        small = torch.nn.functional.interpolate(portrait[None], size=self._networks.image_size)[0]
        return self._networks.generate_motion(small, waveform, emotion, seed=seed)

    def excerpts(self, motion: MotionSequence, spans: Sequence[range], *, seed: int = 0, num_steps: int | None = None):
        """Of the scene that was performed last."""
        assert self._last is not None
        frames = torch.cat(list(true_frames(self._last, self.image_size)))
        yield from (to_pixels(frames[span.start : span.stop]) for span in spans)

    def render(self, motion: MotionSequence, *, seed: int = 0, num_steps: int | None = None) -> Iterator[Tensor]:
        """The frames of the scene whose lips and expressions these are."""
        for case in self._scenes.values():
            if not torch.equal(case.portrait, motion.portrait) or case.num_frames != len(motion.lip):
                continue
            if torch.equal(seen_lips(self, case), motion.lip) and torch.equal(
                seen_expressions(self, case), motion.expression
            ):
                yield from (to_pixels(images) for images in true_frames(case, self.image_size))
                return


def _key(portrait: Tensor, waveform: Tensor, emotion: EmotionSource) -> tuple[object, ...]:
    said = repr(emotion) if type(emotion).__eq__ is not object.__eq__ else type(emotion).__name__
    return float(portrait.sum()), float(waveform.square().sum()), len(waveform), said


@pytest.fixture(scope="session")
def corpus(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    debug_training.write_corpus(folder)
    return folder


@pytest.fixture(scope="session")
def builder(corpus) -> CaseBuilder:
    return CaseBuilder(corpus, MOTION_SIZE, SETTINGS.clip_frames)


@pytest.fixture(scope="session")
def reader() -> Reader:
    """Untrained: it reads something, and the same from the same frames."""
    torch.manual_seed(1)
    return Reader((16, 32, 32), 32).eval()
