"""Log files of a run: JSON lines for every step and validation, and a plot of the losses."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

VALIDATION_FILE = "validation.jsonl"


@dataclass(frozen=True)
class StepRecord:
    """Record of one step.

    Args:
        step: number of the step, from 0.
        loss, terms: loss and its terms, averaged over micro-batches and workers.
        learning_rate: learning rate of the step.
        gradient_norm: gradient norm before clipping; it may be infinite or NaN for a skipped step.
        seconds: wall time, including the wait for the batch.
        cpu_seconds: CPU time of all threads in that time.
        samples_per_second: samples over all workers per second of wall time.
        wait_seconds: part of `seconds` spent waiting for the batch.
        memory_bytes: memory of each worker by rank: resident memory of the process, or peak memory of the GPU.
        skipped: True if the loss or the gradient diverged and the weights were left unchanged.
    """

    step: int
    loss: float
    terms: dict[str, float]
    learning_rate: float
    gradient_norm: float
    seconds: float
    cpu_seconds: float
    samples_per_second: float
    wait_seconds: float = 0.0
    memory_bytes: tuple[int, ...] = ()
    skipped: bool = False


@dataclass(frozen=True)
class ValidationRecord:
    """Metrics of the averaged weights after `step` steps."""

    step: int
    metrics: dict[str, float]


class RunLog:
    """Files `steps.jsonl`, `validation.jsonl` and `losses.png` in a run's folder.

    Args:
        folder: existing folder of the run.
        num_done: number of steps done. Lines of later steps are dropped, because an interrupted run repeats them.
    """

    def __init__(self, folder: Path, num_done: int) -> None:
        self.steps_file = folder / "steps.jsonl"
        self.validation_file = folder / VALIDATION_FILE
        self.plot_file = folder / "losses.png"
        _keep_lines(self.steps_file, num_done - 1)
        _keep_lines(self.validation_file, num_done)

    def step(self, record: StepRecord) -> None:
        """Append a step's line."""
        _append(self.steps_file, asdict(record))

    def validation(self, record: ValidationRecord) -> None:
        """Append a validation's line."""
        _append(self.validation_file, asdict(record))

    def preview(self, folder: Path, step: int) -> None:
        """Handle a preview that the stage has written after `step` steps; this log does nothing with it."""

    def plot(self) -> None:
        """Plot the losses, raw and smoothed, and the validation metrics."""
        steps = [StepRecord(**line) for line in _lines(self.steps_file)]
        validations = [ValidationRecord(**line) for line in _lines(self.validation_file)]
        if steps:
            _plot(steps, validations, self.plot_file)


def metrics_at(folder: Path, num_done: int) -> dict[str, float] | None:
    """Return the metrics of a run's validation after `num_done` steps; None if there was none."""
    metrics = [line["metrics"] for line in _lines(folder / VALIDATION_FILE) if line["step"] == num_done]
    return metrics[-1] if metrics else None


def _lines(file: Path) -> list[dict]:
    """Parse a file of JSON lines, ignoring a last line that a crash has cut off."""
    if not file.exists():
        return []
    whole = [line for line in file.read_text(encoding="utf-8").splitlines(keepends=True) if line.endswith("\n")]
    return [json.loads(line) for line in whole]


def _append(file: Path, line: dict[str, object]) -> None:
    with file.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(line) + "\n")


def _keep_lines(file: Path, last_step: int) -> None:
    kept = [line for line in _lines(file) if line["step"] <= last_step]
    temporary = file.with_suffix(".unfinished")
    temporary.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
    temporary.replace(file)


def smoothed(values: np.ndarray, window: int) -> np.ndarray:
    """Average over a window centred on each value, shortened at both ends.

    Args:
        values: the values, [num].
        window: number of values; an even number is rounded up to an odd one.
    """
    half = window // 2
    sums = np.concatenate([[0.0], np.cumsum(values)])
    index = np.arange(len(values))
    low, high = np.maximum(index - half, 0), np.minimum(index + half + 1, len(values))
    return (sums[high] - sums[low]) / (high - low)


def _plot(steps: list[StepRecord], validations: list[ValidationRecord], file: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # slow to import, and needed rarely
    from matplotlib.figure import Figure

    curves = {"loss": np.array([record.loss for record in steps])}
    for name in steps[-1].terms:
        curves[name] = np.array([record.terms.get(name, np.nan) for record in steps])
    metrics = sorted({name for record in validations for name in record.metrics})
    num_panels = 1 + len(metrics)
    num_rows = -(-num_panels // 2) if metrics else 1
    figure = Figure(figsize=(12 if metrics else 8, 4 * num_rows), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(num_rows, 2 if metrics else 1, squeeze=False).ravel()

    x = np.array([record.step for record in steps])
    window = max(1, len(steps) // 50)
    for number, (name, values) in enumerate(curves.items()):
        axes[0].plot(x, values, color=f"C{number}", alpha=0.2, linewidth=0.6)
        axes[0].plot(x, smoothed(values, window), color=f"C{number}", linewidth=1.5, label=name)
    is_positive = all(np.nanmin(values) > 0 for values in curves.values())
    axes[0].set_yscale("log" if is_positive else "symlog", **({} if is_positive else {"linthresh": 1e-3}))
    axes[0].set_title(f"training losses (mean of {window} steps)")
    axes[0].legend(fontsize="small")
    for axis, name in zip(axes[1 : 1 + len(metrics)], metrics, strict=True):
        points = [(record.step, record.metrics[name]) for record in validations if name in record.metrics]
        axis.plot(*zip(*points, strict=True), marker="o", markersize=3)
        axis.set_title(f"validation: {name}")
    for axis in axes[:num_panels]:
        axis.set_xlabel("step")
        axis.grid(alpha=0.3)
    for axis in axes[num_panels:]:
        axis.set_visible(False)
    temporary = file.with_name(f".{file.name}")
    figure.savefig(temporary, format="png", dpi=100)
    temporary.replace(file)
