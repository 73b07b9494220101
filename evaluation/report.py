"""Files of an evaluation: `report.md`, `report.json`, plots, a contact sheet and videos (ours).

Plots, sheet and videos of photographs have names that begin with "photographs_".
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from emotivetalk.evaluation.ablations import Ablation
from emotivetalk.evaluation.figures import EvaluationReport, Figure, KindReport, ReportVideo
from emotivetalk.evaluation.kinds import Kind
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
    for part in report.kinds:
        _write_pictures(part, folder)
    data = as_json(report, checkpoint, ablation)
    (folder / DATA_FILE).write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
    path = folder / REPORT_FILE
    path.write_text(as_markdown(report, checkpoint, ablation), encoding="utf-8")
    return path


def prefix(kind: Kind) -> str:
    """Return the start of the names of a kind's files."""
    return "" if kind == "avatars" else f"{kind}_"


def _write_pictures(part: KindReport, folder: Path) -> None:
    bounds, start = MUST_HOLD[part.kind], prefix(part.kind)
    if part.lags:
        plot_lags(part.lags, folder / f"{start}{LAGS_FILE}")
    if part.confusions:
        plot_confusions(part.confusions, folder / f"{start}{CONFUSIONS_FILE}")
    if part.drift is not None:
        plot_drift(part.drift, bounds["long.drift"].at_least or 0.0, folder / f"{start}{DRIFT_FILE}")
    if part.seams:
        plot_seams(part.seams, bounds["long.seam_chunks"].at_most or 0.0, folder / f"{start}{SEAMS_FILE}")
    if part.pictures:
        images = np.stack([picture.image for picture in part.pictures])
        labels = [picture.label for picture in part.pictures]
        contact_sheet(images, len(images) // 3, labels, folder / f"{start}{PICTURES_FILE}")
    for video in part.videos:
        _write_video(video, folder / VIDEOS_FOLDER / f"{start}{video.name}.mp4")


def _write_video(video: ReportVideo, path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    height, width = video.frames.shape[1:3]
    with VideoWriter(path, width, height, waveform=video.waveform) as writer:
        writer.write(video.frames)


def as_json(report: EvaluationReport, checkpoint: str, ablation: Ablation | None = None) -> dict[str, object]:
    """Return all numbers of a report."""
    return {
        "checkpoint": checkpoint,
        "ablation": None if ablation is None else ablation.name,
        "settings": report.settings.model_dump(),
        "emotions": EMOTIONS,
        "kinds": {part.kind: _kind_as_json(part) for part in report.kinds},
        "num_frames": report.num_frames,
        "seconds": round(report.seconds, 1),
    }


def _kind_as_json(part: KindReport) -> dict[str, object]:
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
        for figure in part.figures
    }
    return {
        "figures": figures,
        "lags": {
            item.title: {"lags": item.curve.lags, "r": item.curve.r, "ceiling": item.ceiling.r} for item in part.lags
        },
        "confusions": {item.title: item.counts.tolist() for item in part.confusions},
        "motions": {row.name: {"generated": asdict(row.generated), "truth": asdict(row.truth)} for row in part.motions},
        "drift_db": [] if part.drift is None else [round(float(value), 2) for value in part.drift.generated_db],
        "seams": {
            seam.title: {"offsets": seam.offsets, "generated": seam.generated, "truth": seam.truth}
            for seam in part.seams
        },
        "notes": part.notes,
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
    yield from _figures(report.kinds)
    for part in report.kinds:
        heading = f": {part.kind}" if len(report.kinds) > 1 else ""
        yield from _lags(part, heading)
        yield from _emotions(part, heading)
        yield from _motions(part, heading)
        yield from _long_clips(part, heading)
    if any(part.videos for part in report.kinds):
        yield "## Videos"
        yield ""
        yield "The portrait, the generated video and the true video, side by side, with the speech."
        yield ""
        for part in report.kinds:
            names = [f"{prefix(part.kind)}{video.name}" for video in part.videos]
            yield from (f"- [{name}]({VIDEOS_FOLDER}/{name}.mp4)" for name in names)
        yield ""
    notes = {
        note: [part.kind for part in report.kinds if note in part.notes] for part in report.kinds for note in part.notes
    }
    if notes:
        yield "## Not measured"
        yield ""
        for note, kinds in notes.items():
            yield f"- {note}" if len(kinds) == len(report.kinds) else f"- {', '.join(kinds)}: {note}"


def _figures(parts: Sequence[KindReport]) -> Iterator[str]:
    """Write the table of all figures: one row for each key, one group of columns for each kind."""
    names = [part.kind for part in parts] if len(parts) > 1 else ["value"]
    yield "| figure |" + "".join(f" {name} | ceiling | floor | must hold | |" for name in names)
    yield "|---|" + "---|---|---|---|---|" * len(parts)
    figures_by_key = [{figure.key: figure for figure in part.figures} for part in parts]
    for key in dict.fromkeys(key for figures in figures_by_key for key in figures):
        row = [figures.get(key) for figures in figures_by_key]
        titles = {part.kind: figure.title for part, figure in zip(parts, row, strict=True) if figure is not None}
        if len(set(titles.values())) == 1:
            title = next(iter(titles.values()))
        else:
            title = "; ".join(f"{kind}: {text}" for kind, text in titles.items())
        yield f"| {title} |" + "".join(f" {' | '.join(_cells(figure))} |" for figure in row)
    yield ""


def _cells(figure: Figure | None) -> list[str]:
    if figure is None:
        return ["not measured", "", "", "", ""]
    mark = {True: "yes", False: "**no**", None: ""}[figure.holds]
    cells = [estimate_text(estimate, figure.unit) for estimate in (figure.value, figure.ceiling, figure.floor)]
    return [*cells, _bound(figure), mark]


def _lags(part: KindReport, heading: str) -> Iterator[str]:
    if not part.lags:
        return
    yield f"## Lips over time{heading}"
    yield ""
    yield "| | peak at lag | true frames |"
    yield "|---|---|---|"
    for item in part.lags:
        yield f"| {item.title} | {item.curve.peak_lag} | {item.ceiling.peak_lag} |"
    yield ""
    yield f"![Correlation over lags]({prefix(part.kind)}{LAGS_FILE})"
    yield ""


def _emotions(part: KindReport, heading: str) -> Iterator[str]:
    if not part.confusions:
        return
    yield f"## Emotions{heading}"
    yield ""
    yield f"![Target and recognized emotion]({prefix(part.kind)}{CONFUSIONS_FILE})"
    if part.pictures:
        yield ""
        yield f"![Portraits, generated frames and true frames]({prefix(part.kind)}{PICTURES_FILE})"
    yield ""


def _motions(part: KindReport, heading: str) -> Iterator[str]:
    if not part.motions:
        return
    yield f"## Motion{heading}"
    yield ""
    yield "Generated / true frames. Velocity in standard deviations a frame (white noise: 1.13); shares of power."
    yield ""
    yield "| read | velocity | below 1.5 Hz | to 5 Hz | above | variance over the truth's |"
    yield "|---|---|---|---|---|---|"
    for row in part.motions:
        yield f"| {row.name} | {' | '.join(_motion(row.generated, row.truth))} |"
    yield ""


def _long_clips(part: KindReport, heading: str) -> Iterator[str]:
    if part.drift is None:
        return
    yield f"## A long clip{heading}"
    yield ""
    yield f"![Drift over time]({prefix(part.kind)}{DRIFT_FILE})"
    if part.seams:
        yield f"![Change around borders of segments and chunks]({prefix(part.kind)}{SEAMS_FILE})"
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
