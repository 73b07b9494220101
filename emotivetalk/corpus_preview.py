"""Preview a corpus: a contact sheet of its people and a few of its clips as videos."""

from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from torch import Tensor

from emotivetalk.corpus.drawing import draw_clip
from emotivetalk.corpus.records import Clip, read_corpus
from emotivetalk.media.mux import VideoWriter
from emotivetalk.media.preview import contact_sheet
from emotivetalk.models.emotion import EMOTIONS

NUM_PEOPLE = 24
NUM_VIDEOS = 4
COLUMNS = 8


def write_preview(folder: Path, size: int = 256) -> list[Path]:
    """Write `preview/people.png` and a few `preview/<clip>.mp4` into a corpus folder, and return their paths.

    The people are spread evenly over the training split; each picture is the middle frame of a clip.
    """
    clips = read_corpus(folder, "train")
    chosen = [
        clips[index] for index in np.linspace(0, len(clips) - 1, min(NUM_PEOPLE, len(clips))).astype(int).tolist()
    ]
    preview = folder / "preview"
    preview.mkdir(exist_ok=True)
    sheet = preview / "people.png"
    faces = [_pixels(draw_clip(clip, [clip.num_frames // 2], size).images)[0] for clip in chosen]
    contact_sheet(np.stack(faces), COLUMNS, [_label(clip) for clip in chosen], sheet)
    paths = [sheet]
    for clip in chosen[:: max(1, len(chosen) // NUM_VIDEOS)][:NUM_VIDEOS]:
        paths.append(preview / f"{clip.clip_id}-{EMOTIONS[clip.emotion]}.mp4")
        with VideoWriter(paths[-1], size, size, waveform=clip.waveform) as writer:
            writer.write(_pixels(draw_clip(clip, size=size).images))
    return paths


def _label(clip: Clip) -> str:
    return f"{EMOTIONS[clip.emotion]} {clip.intensity:.1f}"


def _pixels(images: Float[Tensor, "frames 3 size size"]) -> UInt8[np.ndarray, "frames size size 3"]:
    """Convert RGB in 0..1 to RGB in 0..255."""
    return (images.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).contiguous().numpy()
