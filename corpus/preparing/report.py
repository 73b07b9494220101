"""Report of a preparation: report.json, report.md and contact_sheet.png in the corpus's folder.

The three files depend only on the videos and settings; times.json holds dates and durations.
"""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from emotivetalk.corpus.preparing.assembly import held_out_speakers, split_of
from emotivetalk.corpus.preparing.reasons import Reason
from emotivetalk.corpus.preparing.results import THUMBNAIL, ClipRow, FileRow
from emotivetalk.corpus.preparing.settings import PrepareSettings
from emotivetalk.files import atomic_write, writing
from emotivetalk.media.image_codec import decode_picture
from emotivetalk.media.preview import contact_sheet

NUM_KEPT_PICTURES = 48  # kept clips on the contact sheet
NUM_DROPPED_PICTURES = 4  # dropped clips on it for each reason
COLUMNS = 12
MAX_LINES = 2000  # rows of the table in Markdown; the JSON file has all
KEPT = "kept"


def write_report(folder: Path, rows: Sequence[FileRow], settings: PrepareSettings) -> tuple[Path, ...]:
    """Write the three files and return their paths. Without pictures there is no contact sheet.

    Raises:
        OutputError: a file could not be written.
    """
    paths = [folder / "report.json", folder / "report.md"]
    _write(paths[0], json.dumps(_as_json(rows, settings), indent=1, sort_keys=True, ensure_ascii=False) + "\n")
    _write(paths[1], _as_markdown(rows))
    clips = _clips_with_pictures(rows)
    if clips:
        paths.append(folder / "contact_sheet.png")
        pictures = [decode_picture(base64.b64decode(clip.thumbnail), THUMBNAIL) for clip in clips]
        contact_sheet(np.stack(pictures), COLUMNS, [str(clip.reason or KEPT) for clip in clips], paths[-1])
    return tuple(paths)


def write_times(folder: Path, times: Mapping[str, object]) -> None:
    """Append a run as a line to times.json."""
    path = folder / "times.json"
    before = path.read_text(encoding="utf-8") if path.is_file() else ""
    _write(path, before + json.dumps(times, sort_keys=True) + "\n")


def count_files(rows: Sequence[FileRow]) -> dict[str, int]:
    """Count files with clips, and files without by reason; `no_clip` means that every clip was dropped."""
    return dict(Counter(KEPT if row.num_kept else str(row.reason or "no_clip") for row in rows))


def count_clips(rows: Sequence[FileRow]) -> dict[str, int]:
    """Count kept clips, and dropped clips by reason."""
    return dict(Counter(str(clip.reason or KEPT) for row in rows for clip in row.clips))


def _as_json(rows: Sequence[FileRow], settings: PrepareSettings) -> dict[str, object]:
    held_out = held_out_speakers({row.label.speaker for row in rows if row.num_kept}, settings.held_out)
    return {
        "settings": settings.as_json(),
        "files": {"total": len(rows), **count_files(rows)},
        "clips": {"total": sum(len(row.clips) for row in rows), **count_clips(rows)},
        "kept_s": round(sum(clip.end_s - clip.start_s for row in rows for clip in row.clips if clip.reason is None), 2),
        "rows": [_row(row, split_of(row.label.speaker, held_out)) for row in rows],
    }


def _row(row: FileRow, split: str) -> dict[str, object]:
    clips = [{name: value for name, value in asdict(clip).items() if name != "thumbnail"} for clip in row.clips]
    return {**asdict(row), "clips": clips, "split": split, "kept": row.num_kept}


def _as_markdown(rows: Sequence[FileRow]) -> str:
    clips = count_clips(rows)
    lines = ["# Preparation", ""]
    lines += [f"{len(rows)} files, {sum(clips.values())} clips, {clips.get(KEPT, 0)} kept.", ""]
    lines += ["| reason | files | clips | meaning |", "|---|---|---|---|"]
    files = count_files(rows)
    lines.append(f"| {KEPT} | {files.get(KEPT, 0)} | {clips.get(KEPT, 0)} | |")
    for reason in Reason:
        if reason in files or reason in clips:
            counts = f"{files.get(reason, '')} | {clips.get(reason, '')}"
            lines.append(f"| {reason} | {counts} | {reason.meaning} |")
    if "no_clip" in files:
        lines.append(f"| no_clip | {files['no_clip']} | | every clip of the file was dropped |")
    lines += [
        "",
        "| file | clip, s | result | face | sharpness | speech | offset | confidence | moved |",
        "|" + "---|" * 9,
    ]
    table = [line for row in rows for line in _lines(row)]
    lines += table[:MAX_LINES]
    if len(table) > MAX_LINES:
        lines += ["", f"{len(table) - MAX_LINES} more in report.json."]
    return "\n".join(lines) + "\n"


def _lines(row: FileRow) -> list[str]:
    name = row.name.replace("|", "\\|").replace("\n", " ")
    if row.reason is not None:
        return [f"| {name} | | {row.reason} | | | | | | |"]
    return [f"| {name} | {clip.start_s:g}..{clip.end_s:g} | {_cells(clip)} |" for clip in row.clips]


def _cells(clip: ClipRow) -> str:
    scores = clip.scores
    values = (scores.face, scores.sharpness, scores.speech, scores.offset, scores.confidence)
    return " | ".join(
        [str(clip.reason or KEPT), *("" if v is None else f"{v:g}" for v in values), str(scores.moved or "")]
    )


def _clips_with_pictures(rows: Sequence[FileRow]) -> list[ClipRow]:
    """Choose kept clips spread over the corpus, then some dropped clips of each reason."""
    with_picture = [clip for row in rows for clip in row.clips if clip.thumbnail]
    kept = [clip for clip in with_picture if clip.reason is None]
    positions = np.unique(np.linspace(0, len(kept) - 1, min(len(kept), NUM_KEPT_PICTURES)).astype(int)) if kept else []
    chosen = [kept[position] for position in positions]
    for reason in Reason:
        chosen += [clip for clip in with_picture if clip.reason is reason][:NUM_DROPPED_PICTURES]
    return chosen


def _write(path: Path, text: str) -> None:
    with atomic_write(path) as temporary, writing(path):
        temporary.write_text(text, encoding="utf-8")
