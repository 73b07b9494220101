"""The run's log, and the same numbers for TensorBoard."""

from __future__ import annotations

from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from training.run_log import RunLog, StepRecord, ValidationRecord


class ScalarLog(RunLog):
    """`RunLog`, and event files in the run's `tensorboard/`.

    Args:
        folder, num_done: as for `RunLog`; what an earlier, cut off run wrote of later steps is hidden.
        num_workers: that share the work.
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

    def plot(self) -> None:
        super().plot()
        self._writer.flush()
