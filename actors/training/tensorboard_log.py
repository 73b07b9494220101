"""The run's log in TensorBoard: scalars, sample images and sample videos."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image, ImageSequence
from tensorboard.compat.proto.summary_pb2 import Summary  # pyright: ignore[reportAttributeAccessIssue] protobuf makes it
from torch.utils.tensorboard import SummaryWriter

from emotivetalk.timebase import FRAME_RATE_HZ
from emotivetalk.training.run.log import RunLog, StepRecord, ValidationRecord

GIF_FRAME_MS = 1000 // FRAME_RATE_HZ


class BoardLog(RunLog):
    """`RunLog` that also writes event files to the run's `tensorboard/`.

    Args:
        folder, num_done: as for `RunLog`. Later steps of an earlier, interrupted run are hidden.
        num_workers: number of workers.
    """

    def __init__(self, folder: Path, num_done: int, num_workers: int) -> None:
        super().__init__(folder, num_done)
        self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=num_done or None)
        self._writer.add_scalar("workers", num_workers, num_done)

    def step(self, record: StepRecord) -> None:
        super().step(record)
        scalars = {
            "train/loss": record.loss,
            **{f"train/terms/{name}": value for name, value in record.terms.items()},
            "train/gradient_norm": record.gradient_norm,
            "train/learning_rate": record.learning_rate,
            "train/skipped": float(record.skipped),
            "speed/samples_per_second": record.samples_per_second,
            "speed/seconds_per_step": record.seconds,
            "speed/data_wait_s": record.wait_seconds,
            **{f"memory_gb/worker_{rank}": size / 1e9 for rank, size in enumerate(record.memory_bytes)},
        }
        for name, value in scalars.items():
            self._writer.add_scalar(name, value, record.step)

    def validation(self, record: ValidationRecord) -> None:
        super().validation(record)
        for name, value in record.metrics.items():
            self._writer.add_scalar(f"validation/{name}", value, record.step)
        self._writer.flush()

    def preview(self, folder: Path, step: int) -> None:
        """Add the images, videos and texts whose names contain the step, under Images and Text."""
        super().preview(folder, step)
        for file in sorted(folder.glob(f"*{step:06d}*")):
            if file.suffix == ".txt":
                self._writer.add_text("preview/text", file.read_text(encoding="utf-8"), step)
            else:
                self._add_picture(file, step)
        self._writer.flush()

    def _add_picture(self, file: Path, step: int) -> None:
        """Add an image, or a video as an animated GIF, as `add_video` does, which requires moviepy."""
        stream = io.BytesIO()
        with Image.open(file) as picture:
            width, height = picture.size
            is_video = getattr(picture, "n_frames", 1) > 1
            if is_video:
                first, *others = [frame.convert("RGB") for frame in ImageSequence.Iterator(picture)]
                pause = picture.info.get("duration", GIF_FRAME_MS)
                first.save(stream, "GIF", save_all=True, append_images=others, duration=pause, loop=0)
            else:
                picture.convert("RGB").save(stream, "PNG")
        image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=stream.getvalue())
        tag = "preview/video" if is_video else "preview/picture"
        file_writer = self._writer._get_file_writer()
        file_writer.add_summary(Summary(value=[Summary.Value(tag=tag, image=image)]), step)

    def plot(self) -> None:
        super().plot()
        self._writer.flush()
