"""Make the pictures of README and docs/evaluation.md from the shipped checkpoint: `python scripts/make_pictures.py`.

docs/pictures/emotions.webp: a photograph speaks through the eight emotions. docs/pictures/emotions.png: a frame of each
emotion for the held-out photographs of `examples/` and some held-out avatars, which are in the first column.
"""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from emotivetalk import EmotionLabel, load_pipeline, load_portrait, load_waveform
from emotivetalk.corpus.avatar import Identity
from emotivetalk.corpus.parameters import EMOTION_TARGETS, POSE_AT_REST
from emotivetalk.corpus.renderer import render
from emotivetalk.media.preview import contact_sheet, save_animation
from emotivetalk.models.emotion import EMOTIONS, EmotionKey, EmotionTrack
from emotivetalk.timebase import SAMPLE_RATE_HZ

PICTURES = Path("docs/pictures")
PHOTOGRAPHS = (Path("examples/photograph_1.jpg"), Path("examples/photograph_2.jpg"))
IDENTITY_SEEDS = (1053576, 1053582)
EMOTION_S = 1.6


def main() -> None:
    """Write both pictures."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    pipeline = load_pipeline()
    speech = load_waveform(Path("examples/hello.wav"))
    photographs = [load_portrait(path, pipeline.image_size) for path in PHOTOGRAPHS]

    keys = [EmotionKey(i * EMOTION_S, EmotionLabel(emotion)) for i, emotion in enumerate(EMOTIONS)]
    num_samples = int(len(EMOTIONS) * EMOTION_S * SAMPLE_RATE_HZ)
    looped_speech = speech.repeat(-(-num_samples // len(speech)))[:num_samples]
    frames = torch.cat(list(pipeline(photographs[0], looped_speech, EmotionTrack(tuple(keys)), seed=0)))
    save_animation(frames[::2].numpy(), PICTURES / "emotions.webp", fps=12.5)

    rows, labels = [], []
    for portrait in (*photographs, *(draw_avatar(seed, pipeline.image_size) for seed in IDENTITY_SEEDS)):
        rows.append(((portrait + 1) * 127.5).round().byte().permute(1, 2, 0).numpy())
        labels.append("portrait")
        for emotion in EMOTIONS:
            video = torch.cat(list(pipeline(portrait, speech[:40_000], EmotionLabel(emotion), seed=0)))
            rows.append(video[45].numpy())
            labels.append(emotion)
    contact_sheet(np.stack(rows), len(EMOTIONS) + 1, labels, PICTURES / "emotions.png")


def draw_avatar(seed: int, size: int) -> Float[Tensor, "3 size size"]:
    """Draw the neutral portrait of an avatar, in -1..1."""
    neutral, rest = torch.from_numpy(EMOTION_TARGETS[:1]), torch.from_numpy(POSE_AT_REST)[None]
    rendered = render(Identity.sample(1, seed), torch.zeros(1, 6), neutral, rest, size, supersample=2)
    return rendered.images[0] * 2 - 1


if __name__ == "__main__":
    main()
