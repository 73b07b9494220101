"""Previews of rank 0 are written to TensorBoard: pictures, animated videos and texts."""

from __future__ import annotations

import io
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from emotivetalk.actors.training.tensorboard_log import BoardLog
from emotivetalk.media.preview import contact_sheet, save_animation
from emotivetalk.training.run.loop import run
from emotivetalk.training.run.trainer import Trainer
from tests.actors.training.runs import toy_config
from tests.actors.training.toys import ToyStage
from tests.consoles import text_console

NUM_FRAMES = 5


class PreviewStage(ToyStage):
    """Writes a picture and a video, as ETHD's stage does."""

    def preview(self, module: nn.Module, folder: Path, step: int) -> None:
        frames = np.random.default_rng(step).integers(0, 255, (NUM_FRAMES, 32, 48, 3), np.uint8)
        contact_sheet(frames, NUM_FRAMES, None, folder / f"{step:06d}.png")
        save_animation(frames, folder / f"{step:06d}.webp", fps=25)
        (folder / f"{step:06d}.txt").write_text(f"after {step} steps", encoding="utf-8")


def test_previews_are_logged_and_videos_are_animated(tmp_path: Path) -> None:
    config = toy_config(tmp_path, steps=4, preview_every=2)
    torch.manual_seed(config.seed)
    run(Trainer(PreviewStage(config.stage), config), None, text_console(), partial(BoardLog, num_workers=1))

    events = EventAccumulator(str(tmp_path / "tensorboard"), size_guidance={"images": 0, "tensors": 0})
    events.Reload()
    assert set(events.Tags()["images"]) == {"preview/picture", "preview/video"}
    videos = events.Images("preview/video")
    assert [video.step for video in videos] == [2, 4]
    for video in videos:
        assert (video.width, video.height) == (48, 32)
        with Image.open(io.BytesIO(video.encoded_image_string)) as animation:
            assert animation.format == "GIF"
            assert animation.n_frames == NUM_FRAMES
            assert animation.info["duration"] == 40
            assert animation.info["loop"] == 0
    for sheet in events.Images("preview/picture"):
        with Image.open(io.BytesIO(sheet.encoded_image_string)) as picture:
            assert picture.size == (sheet.width, sheet.height)
            with Image.open(tmp_path / "preview" / f"{sheet.step:06d}.png") as file:
                assert np.array_equal(np.asarray(picture), np.asarray(file.convert("RGB")))
    texts = [event.tensor_proto.string_val[0].decode() for event in events.Tensors("preview/text/text_summary")]
    assert texts == ["after 2 steps", "after 4 steps"]
