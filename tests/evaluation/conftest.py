"""A small corpus, and a fake pipeline that returns the true frames of a known case."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from emotivetalk.corpus.photo_people import FIRST_PHOTOGRAPH_IDENTITY, PhotoPeople
from emotivetalk.corpus.portraits import read_portraits
from emotivetalk.corpus.records import write_shards
from emotivetalk.corpus.synthesize import FIRST_HELD_OUT_IDENTITY, synthesize_clip
from emotivetalk.evaluation.cases import CaseBuilder, EvaluationCase, true_frames
from emotivetalk.evaluation.kinds import KINDS, Kind
from emotivetalk.evaluation.latents import visual_expression_latents, visual_lip_latents
from emotivetalk.evaluation.measurements import to_pixels
from emotivetalk.evaluation.reader import Reader
from emotivetalk.evaluation.settings import EvaluationSettings
from emotivetalk.models.autoencoder import PortraitAutoencoder
from emotivetalk.models.emotion import EmotionSource
from emotivetalk.models.encoders import MOTION_SIZE
from emotivetalk.models.long_video_plan import LongVideoConfig
from emotivetalk.models.pipeline import MotionSequence
from tests.corpus.drawn_face import write_portraits
from tests.models import debug as debug_models
from tests.training import debug as debug_training

SETTINGS = EvaluationSettings(
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


def cases_of(builder: CaseBuilder, settings: EvaluationSettings) -> list[EvaluationCase]:
    """Build all cases that `evaluate` builds with these settings."""
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


class TruthPipeline:
    """Fake pipeline that looks its inputs up among known cases, and returns the true frames."""

    image_size = MOTION_SIZE
    long_video = LongVideoConfig(chunk_frames=8, segment_chunks=3, pinned_frames=2, shift_stride=3)
    config: dict[str, Any] = {"num_steps": 2}  # noqa: RUF012 as a pipeline's

    def __init__(self, cases: list[EvaluationCase]) -> None:
        self._networks = debug_models.pipeline()
        self.vae: PortraitAutoencoder = self._networks.vae
        self.ethd = self._networks.ethd
        self.lip_encoder, self.expression_encoder = self._networks.lip_encoder, self._networks.expression_encoder
        self.motion_generator = self._networks.motion_generator
        self._last: EvaluationCase | None = None
        self._cases = {_key(case.portrait, case.waveform, case.emotion): case for case in cases}

    def __call__(
        self,
        portrait: Tensor,
        waveform: Tensor,
        emotion: EmotionSource = None,
        *,
        seed: int = 0,
        num_steps: int | None = None,
    ) -> Iterator[Tensor]:
        for images in true_frames(self._cases[_key(portrait, waveform, emotion)], self.image_size):
            yield to_pixels(images)

    def generate_motion(self, portrait: Tensor, waveform: Tensor, emotion: EmotionSource = None, *, seed: int = 0):
        """Generate latents with random networks; only the frames of this fake are the true ones."""
        self._last = self._cases.get(_key(portrait, waveform, emotion))
        small = torch.nn.functional.interpolate(portrait[None], size=self._networks.image_size)[0]
        return self._networks.generate_motion(small, waveform, emotion, seed=seed)

    def excerpts(self, motion: MotionSequence, spans: Sequence[range], *, seed: int = 0, num_steps: int | None = None):
        """Return true frames of the last case whose motion was generated."""
        assert self._last is not None
        frames = torch.cat(list(true_frames(self._last, self.image_size)))
        yield from (to_pixels(frames[span.start : span.stop]) for span in spans)

    def render(self, motion: MotionSequence, *, seed: int = 0, num_steps: int | None = None) -> Iterator[Tensor]:
        """Return the true frames of the case with these lips and expressions."""
        for case in self._cases.values():
            if not torch.equal(case.portrait, motion.portrait) or case.num_frames != len(motion.lip):
                continue
            if torch.equal(visual_lip_latents(self, case), motion.lip) and torch.equal(
                visual_expression_latents(self, case), motion.expression
            ):
                yield from (to_pixels(images) for images in true_frames(case, self.image_size))
                return


def _key(portrait: Tensor, waveform: Tensor, emotion: EmotionSource) -> tuple[object, ...]:
    source = repr(emotion) if type(emotion).__eq__ is not object.__eq__ else type(emotion).__name__
    return float(portrait.sum()), float(waveform.square().sum()), len(waveform), source


@pytest.fixture(scope="session")
def corpus(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    debug_training.write_corpus(folder)
    return folder


@pytest.fixture(scope="session")
def mixed_corpus(tmp_path_factory) -> Path:
    """Write a corpus of two held-out avatars and two held-out photographs, with eight clips each."""
    folder = tmp_path_factory.mktemp("mixed")
    portraits = write_portraits(tmp_path_factory.mktemp("portraits"), num=3, num_held_out=2)
    first_photograph = FIRST_PHOTOGRAPH_IDENTITY + FIRST_HELD_OUT_IDENTITY
    seeds = [FIRST_HELD_OUT_IDENTITY, FIRST_HELD_OUT_IDENTITY + 1, first_photograph, first_photograph + 1]
    clips = [
        synthesize_clip(8 * k + emotion, "held_out", seed, emotion, (1.0, 2 / 3)[(k + emotion) % 2], num_frames=24)
        for k, seed in enumerate(seeds)
        for emotion in range(8)
    ]
    write_shards(clips, folder)
    PhotoPeople(read_portraits(portraits)).write_listing(folder, seeds[2:])
    return folder


@pytest.fixture(scope="session")
def builder(corpus) -> CaseBuilder:
    return CaseBuilder(corpus, MOTION_SIZE, SETTINGS.clip_frames)


@pytest.fixture(scope="session")
def reader() -> Reader:
    """Return an untrained reader; equal frames give equal readings."""
    torch.manual_seed(1)
    return Reader((16, 32, 32), 32).eval()


@pytest.fixture(scope="session")
def readers(reader) -> dict[Kind, Reader]:
    return dict.fromkeys(KINDS, reader)
