"""Files of an evaluation: `report.md`, `report.json`, plots, a contact sheet and videos (ours)."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np

from emotivetalk.evaluation.ablations import Ablation
from emotivetalk.evaluation.figures import EvaluationReport, Figure, ReportVideo
from emotivetalk.evaluation.metrics import Estimate, MotionStatistics
from emotivetalk.evaluation.plots import plot_confusions, plot_drift, plot_lags, plot_seams
from emotivetalk.evaluation.targets import MUST_HOLD
from emotivetalk.media.mux import VideoWriter
from emotivetalk.media.preview import contact_sheet
from emotivetalk.models.emotion import EMOTIONS

REPORT_FILE, DATA_FILE = "report.md", "report.json"
LAGS_FILE, CONFUSIONS_FILE, PICTURES_FILE = "lags.png", "confusion.png", "emotions.png"
DRIFT_FILE, SEAMS_FILE, VIDEOS_FOLDER = "drift.png", "seams.png", "videos"


def write_report(report: EvaluationReport, checkpoint: str, folder: Path, ablation: Ablation | None = None) -> Path:
    """Write the report's files into a folder; overwrite those of an earlier report.

    Args:
        report: result of `emotivetalk.evaluation.evaluate`.
        checkpoint: name of the checkpoint, for the heading.
        folder: created if it does not exist.
        ablation: ablation that was applied, if any.

    Returns:
        Path of the Markdown file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if report.lags:
        plot_lags(report.lags, folder / LAGS_FILE)
    if report.confusions:
        plot_confusions(report.confusions, folder / CONFUSIONS_FILE)
    if report.drift is not None:
        plot_drift(report.drift, MUST_HOLD["long.drift"].at_least or 0.0, folder / DRIFT_FILE)
    if report.seams:
        plot_seams(report.seams, MUST_HOLD["long.seam_chunks"].at_most or 0.0, folder / SEAMS_FILE)
    if report.pictures:
        images = np.stack([picture.image for picture in report.pictures])
        labels = [picture.label for picture in report.pictures]
        contact_sheet(images, len(images) // 3, labels, folder / PICTURES_FILE)
    for video in report.videos:
        _write_video(video, folder / VIDEOS_FOLDER / f"{video.name}.mp4")
    data = as_json(report, checkpoint, ablation)
    (folder / DATA_FILE).write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
    path = folder / REPORT_FILE
    path.write_text(as_markdown(report, checkpoint, ablation), encoding="utf-8")
    return path


def _write_video(video: ReportVideo, path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    height, width = video.frames.shape[1:3]
    with VideoWriter(path, width, height, waveform=video.waveform) as writer:
        writer.write(video.frames)


def as_json(report: EvaluationReport, checkpoint: str, ablation: Ablation | None = None) -> dict[str, object]:
    """Return all numbers of a report."""
    figures = {
        figure.key: {
            "title": figure.title,
            "unit": figure.unit,
            "holds": figure.holds,
            "at_least": figure.at_least,
            "at_most": figure.at_most,
            "is_better_higher": figure.is_better_higher,
            **{
                name: None if estimate is None else asdict(estimate)
                for name, estimate in (("value", figure.value), ("ceiling", figure.ceiling), ("floor", figure.floor))
            },
        }
        for figure in report.figures
    }
    return {
        "checkpoint": checkpoint,
        "ablation": None if ablation is None else ablation.name,
        "settings": report.settings.model_dump(),
        "figures": figures,
        "lags": {
            item.title: {"lags": item.curve.lags, "r": item.curve.r, "ceiling": item.ceiling.r} for item in report.lags
        },
        "emotions": EMOTIONS,
        "confusions": {item.title: item.counts.tolist() for item in report.confusions},
        "motions": {
            row.name: {"generated": asdict(row.generated), "truth": asdict(row.truth)} for row in report.motions
        },
        "drift_db": [] if report.drift is None else [round(float(value), 2) for value in report.drift.generated_db],
        "seams": {
            seam.title: {"offsets": seam.offsets, "generated": seam.generated, "truth": seam.truth}
            for seam in report.seams
        },
        "notes": report.notes,
        "num_frames": report.num_frames,
        "seconds": round(report.seconds, 1),
    }


def as_markdown(report: EvaluationReport, checkpoint: str, ablation: Ablation | None = None) -> str:
    """Return the report as Markdown."""
    return "\n".join(_lines(report, checkpoint, ablation)) + "\n"


def _lines(report: EvaluationReport, checkpoint: str, ablation: Ablation | None) -> Iterator[str]:
    steps = report.settings.num_steps
    yield f"# Evaluation of {checkpoint}"
    yield ""
    if ablation is not None:
        yield f"Ablation `{ablation.name}`: {ablation.title}."
        yield ""
    yield (
        f"{report.num_frames} generated frames, seed {report.settings.seed}, "
        f"{'default number of steps' if steps is None else f'{steps} steps'}, {report.seconds:.0f} s. "
        "People, voices and sentences are held out."
    )
    yield ""
    yield (
        "A small network reads the frames (`evaluation/reader.py`). *Ceiling* is its score on the renderer's own frames, "
        "*floor* the score of a mismatched pairing: another clip's speech, another command, the portrait as the frame. "
        "In brackets: 95 % intervals over clips."
    )
    yield ""
    yield "| figure | value | ceiling | floor | must hold | |"
    yield "|---|---|---|---|---|---|"
    for figure in report.figures:
        mark = {True: "yes", False: "**no**", None: ""}[figure.holds]
        cells = [estimate_text(estimate, figure.unit) for estimate in (figure.value, figure.ceiling, figure.floor)]
        yield f"| {figure.title} | {' | '.join(cells)} | {_bound(figure)} | {mark} |"
    yield ""
    yield from _lags(report)
    yield from _emotions(report)
    yield from _motions(report)
    if report.drift is not None:
        yield "## A long clip"
        yield ""
        yield f"![Drift over time]({DRIFT_FILE})"
        if report.seams:
            yield f"![Change around borders of segments and chunks]({SEAMS_FILE})"
        yield ""
    if report.videos:
        yield "## Videos"
        yield ""
        yield "The portrait, the generated video and the true video, side by side, with the speech."
        yield ""
        yield from (f"- [{video.name}]({VIDEOS_FOLDER}/{video.name}.mp4)" for video in report.videos)
        yield ""
    if report.notes:
        yield "## Not measured"
        yield ""
        yield from (f"- {note}" for note in report.notes)


def _lags(report: EvaluationReport) -> Iterator[str]:
    if not report.lags:
        return
    yield "## Lips over time"
    yield ""
    yield "| | peak at lag | true frames |"
    yield "|---|---|---|"
    for item in report.lags:
        yield f"| {item.title} | {item.curve.peak_lag} | {item.ceiling.peak_lag} |"
    yield ""
    yield f"![Correlation over lags]({LAGS_FILE})"
    yield ""


def _emotions(report: EvaluationReport) -> Iterator[str]:
    if not report.confusions:
        return
    yield "## Emotions"
    yield ""
    yield f"![Target and recognized emotion]({CONFUSIONS_FILE})"
    if report.pictures:
        yield ""
        yield f"![Portraits, generated frames and true frames]({PICTURES_FILE})"
    yield ""


def _motions(report: EvaluationReport) -> Iterator[str]:
    if not report.motions:
        return
    yield "## Motion"
    yield ""
    yield "Generated / true frames. Velocity in standard deviations a frame (white noise: 1.13); shares of power."
    yield ""
    yield "| read | velocity | below 1.5 Hz | to 5 Hz | above | variance over the truth's |"
    yield "|---|---|---|---|---|---|"
    for row in report.motions:
        yield f"| {row.name} | {' | '.join(_motion(row.generated, row.truth))} |"
    yield ""


def estimate_text(estimate: Estimate | None, unit: str) -> str:
    """Format a value with its interval for a table; an empty string for None."""
    if estimate is None:
        return ""
    digits = 1 if unit == "dB" else 2
    value = f"{estimate.value:.{digits}f}" + (f" {unit}" if unit else "")
    if math.isclose(estimate.low, estimate.high):
        return value
    return f"{value} ({estimate.low:.{digits}f} to {estimate.high:.{digits}f})"


def _bound(figure: Figure) -> str:
    if figure.at_least is not None:
        return f"≥ {figure.at_least:g}"
    return "" if figure.at_most is None else f"≤ {figure.at_most:.3g}"


def _motion(generated: MotionStatistics, truth: MotionStatistics) -> Iterator[str]:
    for name in ("velocity", "low", "middle", "high"):
        yield f"{getattr(generated, name):.2f} / {getattr(truth, name):.2f}"
    yield f"{generated.variance / max(truth.variance, 1e-9):.2f}"
