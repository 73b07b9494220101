"""What a run tells: JSON lines for every step and validation, and a picture of the losses."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

VALIDATION_FILE = "validation.jsonl"


@dataclass(frozen=True)
class StepRecord:
    """One step. `seconds` is wall time, `cpu_seconds` that of all threads; both with the wait for the batch.

    `gradient_norm` is the norm before clipping; of a step that was `skipped` (its loss or its gradient was no good) it
    may be infinite. `wait_seconds` is the part of `seconds` spent waiting for the batch; `memory_bytes` what each worker
    holds, by rank (the process's resident memory, or the GPU's peak).
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
    """The metrics of the averaged weights after `step` steps are done."""

    step: int
    metrics: dict[str, float]


class RunLog:
    """The files `steps.jsonl`, `validation.jsonl` and `losses.png` of a run's folder.

    Args:
        folder: the run's; it exists.
        num_done: the steps done so far. Lines of later ones are dropped: that run was cut off and is done again.
    """

    def __init__(self, folder: Path, num_done: int) -> None:
        self.steps_file = folder / "steps.jsonl"
        self.validation_file = folder / VALIDATION_FILE
        self.plot_file = folder / "losses.png"
        _keep_lines(self.steps_file, num_done - 1)
        _keep_lines(self.validation_file, num_done)

    def step(self, record: StepRecord) -> None:
        """Appends a step's line."""
        _append(self.steps_file, asdict(record))

    def validation(self, record: ValidationRecord) -> None:
        """Appends a validation's line."""
        _append(self.validation_file, asdict(record))

    def preview(self, folder: Path, step: int) -> None:
        """Is told where the stage has written its preview after `step` steps; the files are enough here."""

    def plot(self) -> None:
        """Draws the losses so far, raw and smoothed, and the validation's metrics beside them."""
        steps = [StepRecord(**line) for line in _lines(self.steps_file)]
        validations = [ValidationRecord(**line) for line in _lines(self.validation_file)]
        if steps:
            _plot(steps, validations, self.plot_file)


def metrics_at(folder: Path, num_done: int) -> dict[str, float] | None:
    """What a run's validation after so many steps gave; nothing if it wasn't validated then."""
    found = [line["metrics"] for line in _lines(folder / VALIDATION_FILE) if line["step"] == num_done]
    return found[-1] if found else None


def _lines(file: Path) -> list[dict]:
    """The objects of a file of JSON lines; of a last line that a crash cut off, nothing."""
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
    """The mean over a window centred on each value, shorter at both ends.

    Args:
        values: [num].
        window: how many values, made odd.
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
