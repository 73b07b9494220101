"""A small corpus, scenes, and a stand-in for the pipeline that cannot do better: it draws the truth."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from evaluation.figures import Settings
from evaluation.latents import seen_expressions, seen_lips
from evaluation.reader import Reader
from evaluation.scenes import Scene, Stage, truth_images
from evaluation.takes import to_pixels
from models.autoencoder import PortraitAutoencoder
from models.emotion import EmotionSource
from models.encoders import MOTION_SIZE
from models.long_video_plan import LongVideoConfig
from models.pipeline import Performance
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


def scenes_of(stage: Stage, settings: Settings) -> list[Scene]:
    """All that `evaluate` asks for."""
    return [
        *stage.speech_alone(settings.audio_clips),
        *stage.by_label(settings.label_clips + settings.motion_clips),
        *stage.by_image(settings.image_clips),
        *stage.by_text(settings.text_clips),
        *stage.by_video(settings.video_clips),
        *stage.by_speech(settings.speech_clips),
        *(scene for group in stage.by_level(settings.level_clips) for scene in group),
        *stage.by_track(settings.track_clips, settings.track_keys, settings.track_key_frames),
        *stage.own_performances(settings.driven_clips),
        *(stage.long_take(settings.long_s * 25, person=k) for k in range(settings.long_clips)),
    ]


class TruthTalker:
    """Finds the scene that it is asked to play, and gives the renderer's frames."""

    image_size = MOTION_SIZE
    long_video = LongVideoConfig(chunk_frames=8, segment_chunks=3, pinned_frames=2, shift_stride=3)
    config: dict[str, Any] = {"num_steps": 2}  # noqa: RUF012 as a pipeline's

    def __init__(self, scenes: list[Scene]) -> None:
        self._networks = debug_models.pipeline()
        self.vae: PortraitAutoencoder = self._networks.vae
        self.ethd = self._networks.ethd
        self.lip_encoder, self.expression_encoder = self._networks.lip_encoder, self._networks.expression_encoder
        self.performer = self._networks.performer
        self._last: Scene | None = None
        self._scenes = {_key(s.portrait, s.waveform, s.emotion): s for s in scenes}

    def __call__(
        self,
        portrait: Tensor,
        waveform: Tensor,
        emotion: EmotionSource = None,
        *,
        seed: int = 0,
        num_steps: int | None = None,
    ) -> Iterator[Tensor]:
        for images in truth_images(self._scenes[_key(portrait, waveform, emotion)], self.image_size):
            yield to_pixels(images)

    def perform(self, portrait: Tensor, waveform: Tensor, emotion: EmotionSource = None, *, seed: int = 0):
        """Of the random networks: V-AID's latents are not what this stand-in is perfect at."""
        self._last = self._scenes.get(_key(portrait, waveform, emotion))
        small = torch.nn.functional.interpolate(portrait[None], size=self._networks.image_size)[0]
        return self._networks.perform(small, waveform, emotion, seed=seed)

    def excerpts(
        self, performance: Performance, spans: Sequence[range], *, seed: int = 0, num_steps: int | None = None
    ):
        """Of the scene that was performed last."""
        assert self._last is not None
        frames = torch.cat(list(truth_images(self._last, self.image_size)))
        yield from (to_pixels(frames[span.start : span.stop]) for span in spans)

    def render(self, performance: Performance, *, seed: int = 0, num_steps: int | None = None) -> Iterator[Tensor]:
        """The frames of the scene whose lips and expressions these are."""
        for scene in self._scenes.values():
            if not torch.equal(scene.portrait, performance.portrait) or scene.num_frames != len(performance.lip):
                continue
            if torch.equal(seen_lips(self, scene), performance.lip) and torch.equal(
                seen_expressions(self, scene), performance.expression
            ):
                yield from (to_pixels(images) for images in truth_images(scene, self.image_size))
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
def stage(corpus) -> Stage:
    return Stage(corpus, MOTION_SIZE, SETTINGS.clip_frames)


@pytest.fixture(scope="session")
def reader() -> Reader:
    """Untrained: it reads something, and the same from the same frames."""
    torch.manual_seed(1)
    return Reader((16, 32, 32), 32).eval()
