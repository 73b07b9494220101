"""Make the pictures of README and docs/evaluation.md from the shipped checkpoint: `python scripts/make_pictures.py`.

docs/pictures/emotions.webp: one portrait speaks through the eight emotions. docs/pictures/emotions.png: a frame of each
emotion for several held-out portraits, which are in the first column.
"""

from pathlib import Path

import numpy as np
import torch

from emotivetalk.corpus.avatar import Identity
from emotivetalk.corpus.parameters import EMOTION_TARGETS, POSE_AT_REST
from emotivetalk.corpus.renderer import render
from emotivetalk.media.audio import load_speech
from emotivetalk.media.checkpoints import find_checkpoint
from emotivetalk.media.image import load_image
from emotivetalk.media.preview import contact_sheet, save_animation
from emotivetalk.models.emotion import EMOTIONS, EmotionKey, EmotionLabel, EmotionTrack
from emotivetalk.models.pipeline import load_pipeline
from emotivetalk.pictures import to_tensor
from emotivetalk.timebase import SAMPLE_RATE_HZ

PICTURES = Path("docs/pictures")
IDENTITY_SEEDS = (1053576, 1053582, 1053583, 1053587)
EMOTION_S = 1.6


def main() -> None:
    """Write both pictures."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    pipeline = load_pipeline(find_checkpoint(None))
    speech = torch.from_numpy(load_speech(Path("examples/hello.wav")).waveform)
    side = pipeline.image_size
    picture = torch.from_numpy(load_image(Path("examples/portrait.png"))).permute(2, 0, 1)[None].float()
    portrait = torch.nn.functional.interpolate(picture, size=(side, side), mode="area")[0] / 127.5 - 1

    keys = [EmotionKey(i * EMOTION_S, EmotionLabel(emotion)) for i, emotion in enumerate(EMOTIONS)]
    num_samples = int(len(EMOTIONS) * EMOTION_S * SAMPLE_RATE_HZ)
    looped_speech = speech.repeat(-(-num_samples // len(speech)))[:num_samples]
    frames = torch.cat(list(pipeline(portrait, looped_speech, EmotionTrack(tuple(keys)))))
    save_animation(frames[::2].numpy(), PICTURES / "emotions.webp", fps=12.5)

    rows, labels = [], []
    for seed in IDENTITY_SEEDS:
        identity = Identity.sample(1, seed)
        neutral = torch.from_numpy(EMOTION_TARGETS[:1])
        rendered = render(
            identity, torch.zeros(1, 6), neutral, torch.from_numpy(POSE_AT_REST)[None], side, supersample=2
        )
        image = (rendered.images[0].permute(1, 2, 0) * 255).round().byte().numpy()
        rows.append(image)
        labels.append("portrait")
        for emotion in EMOTIONS:
            video = torch.cat(list(pipeline(to_tensor(image), speech[:40_000], EmotionLabel(emotion))))
            rows.append(video[45].numpy())
            labels.append(emotion)
    contact_sheet(np.stack(rows), len(EMOTIONS) + 1, labels, PICTURES / "emotions.png")


if __name__ == "__main__":
    main()
