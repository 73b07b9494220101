"""Corpus and checkpoint of debug size, made without a synthesiser and identical on every machine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from emotivetalk.corpus.parameters import EMOTION_TARGETS, LIP, POSE, POSE_AT_REST
from emotivetalk.corpus.records import Clip, Split, write_shards
from emotivetalk.corpus.synthesize import FIRST_HELD_OUT_IDENTITY
from emotivetalk.models.emotion import EMOTIONS
from emotivetalk.timebase import SAMPLES_PER_FRAME
from tests.corpus.drawn_face import write_portraits
from tests.models import debug

CONFIGS = Path(__file__).resolve().parents[2] / "train_configs"
NUM_FRAMES = 32


def clip(split: Split, identity: int, emotion: int, seed: int) -> Clip:
    """Make a clip whose speech is noise as loud as the jaw is open, on a face that shows the emotion."""
    generator = np.random.default_rng([identity, emotion, seed])
    time = np.arange(NUM_FRAMES)
    jaw = np.clip(0.5 + 0.5 * np.sin(time * generator.uniform(0.5, 1.2) + generator.uniform(0, 6)), 0, 1)
    lip = np.zeros((NUM_FRAMES, len(LIP)), np.float32)
    lip[:, LIP.index("jaw")], lip[:, LIP.index("wide")] = jaw, 0.3 * (1 - jaw)
    loud = np.repeat(jaw, SAMPLES_PER_FRAME).astype(np.float32)
    waveform = 0.3 * loud * generator.standard_normal(len(loud)).astype(np.float32)
    sway = 0.2 * np.sin(time / 7 + identity)[:, None]
    expression = EMOTION_TARGETS[emotion] * (1 + sway)
    pose = np.tile(POSE_AT_REST, (NUM_FRAMES, 1))
    pose[:, POSE.index("yaw")] += sway[:, 0]
    return Clip(
        clip_id=f"{split}-{identity}-{emotion}",
        split=split,
        identity_seed=identity,
        speaker=str(identity),
        text="",
        engine="none",
        voice="none",
        emotion=emotion,
        emotion_per_frame=np.full(NUM_FRAMES, emotion, np.int8),
        intensity=(1 / 3, 2 / 3, 1.0)[seed % 3],
        waveform=np.clip(waveform, -1, 1),
        lip=lip,
        expression=expression.astype(np.float32),
        pose=pose.astype(np.float32),
        seed=seed,
    )


def write_corpus(folder: Path) -> None:
    """Write clips of three people with all emotions and levels for training, and of one held-out person."""
    clips = [
        clip("train", identity, emotion, seed=level)
        for identity in range(3)
        for emotion in range(len(EMOTIONS))
        for level in range(3)
    ]
    clips += [clip("held_out", FIRST_HELD_OUT_IDENTITY, emotion, seed=2) for emotion in range(len(EMOTIONS))]
    write_shards(clips, folder)


def write_checkpoint(folder: Path) -> None:
    """Write a pipeline with random weights, for stages that need the networks of earlier ones."""
    torch.manual_seed(0)
    debug.pipeline().save_pretrained(folder)


def write_photographs(folder: Path) -> None:
    """Write portraits of three drawn people, one of whom is held out."""
    write_portraits(folder, num=3, num_held_out=1)


def overrides(name: str, workplace: Path, output: Path) -> list[str]:
    """Return overrides that move a config's paths into the test's folder."""
    changes = [f"output={output}", f"checkpoint={output / 'checkpoint'}"]
    if name == "photograph_encoders":
        places = {"photographs": workplace / "photographs", "checkpoint": workplace / "checkpoint"}
        return [*changes, *(f"stage.{key}={place}" for key, place in places.items())]
    if name != "autoencoder":
        changes.append(f"stage.corpus={workplace / 'corpus'}")
    if name in ("audio_encoder", "vaid", "projector", "ethd", "emotion_sources"):
        frozen = "encoders" if name == "emotion_sources" else "checkpoint"
        changes += [f"stage.{frozen}={workplace / 'checkpoint'}", f"stage.cache={workplace / 'cache'}"]
    return changes
