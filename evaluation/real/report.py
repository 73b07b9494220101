"""Report on real video: `report.md` and `report.json` (ours)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from emotivetalk.evaluation.real.measure import RealReport
from emotivetalk.evaluation.report import DATA_FILE, REPORT_FILE, estimate_text


def write_real_report(report: RealReport, real: str, generated: str, folder: Path) -> Path:
    """Write both files into a folder, overwrite earlier ones, and return the path of the Markdown file.

    Args:
        real, generated: names of the compared videos, for the heading.
    """
    folder.mkdir(parents=True, exist_ok=True)
    figures = {
        figure.key: {
            "title": figure.title,
            "unit": figure.unit,
            **{
                name: None if estimate is None else asdict(estimate)
                for name, estimate in (("value", figure.value), ("real", figure.ceiling), ("floor", figure.floor))
            },
        }
        for figure in report.figures
    }
    data = {"real": real, "generated": generated, "num_clips": report.num_clips, "num_frames": report.num_frames}
    text = json.dumps(data | {"figures": figures, "lacks": report.lacks}, indent=2)
    (folder / DATA_FILE).write_text(text + "\n", encoding="utf-8")
    path = folder / REPORT_FILE
    path.write_text("\n".join(_lines(report, real, generated)) + "\n", encoding="utf-8")
    return path


def _lines(report: RealReport, real: str, generated: str) -> Iterator[str]:
    yield f"# {generated} compared with {real}"
    yield ""
    yield (
        f"{report.num_clips} clips, {report.num_frames} frames. *Real* is the real videos' own score, *floor* the score of "
        "a mismatched pairing with the clip before. In brackets: 95 % intervals over clips, except for distances of sets."
    )
    yield ""
    yield "| metric | value | real | floor |"
    yield "|---|---|---|---|"
    for figure in report.figures:
        cells = [estimate_text(estimate, figure.unit) for estimate in (figure.value, figure.ceiling, figure.floor)]
        yield f"| {figure.title} | {' | '.join(cells)} |"
    if report.lacks:
        yield ""
        yield from (f"- {line}" for line in report.lacks)
