"""What was kept, what was dropped and why: report.json, report.md and contact_sheet.png in the corpus's folder.

All three are the same for the same videos and settings; when it was done, and how long it took, is in times.json.
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
from emotivetalk.corpus.preparing.settings import Settings
from emotivetalk.files import atomic_write, writing
from emotivetalk.media.image_codec import decode_picture
from emotivetalk.media.preview import contact_sheet

NUM_SHOWN = 48  # pictures of kept clips on the sheet
NUM_SHOWN_DROPPED = 4  # of each reason
COLUMNS = 12
MAX_LINES = 2000  # of the Markdown's table; the JSON has all
KEPT = "kept"


def write_report(folder: Path, rows: Sequence[FileRow], settings: Settings) -> tuple[Path, ...]:
    """Write the three; returns their paths. There is no sheet where there is no picture.

    Raises:
        OutputError: one could not be written.
    """
    paths = [folder / "report.json", folder / "report.md"]
    _write(paths[0], json.dumps(_as_json(rows, settings), indent=1, sort_keys=True, ensure_ascii=False) + "\n")
    _write(paths[1], _as_markdown(rows))
    shown = _shown(rows)
    if shown:
        paths.append(folder / "contact_sheet.png")
        pictures = [decode_picture(base64.b64decode(clip.thumbnail), THUMBNAIL) for clip in shown]
        contact_sheet(np.stack(pictures), COLUMNS, [str(clip.reason or KEPT) for clip in shown], paths[-1])
    return tuple(paths)


def write_times(folder: Path, times: Mapping[str, object]) -> None:
    """Append a run to times.json, a line each."""
    path = folder / "times.json"
    before = path.read_text(encoding="utf-8") if path.is_file() else ""
    _write(path, before + json.dumps(times, sort_keys=True) + "\n")


def count_files(rows: Sequence[FileRow]) -> dict[str, int]:
    """How many files gave clips, and how many have none for each reason of a file; `no_clip` for reasons of clips."""
    return dict(Counter(KEPT if row.num_kept else str(row.reason or "no_clip") for row in rows))


def count_clips(rows: Sequence[FileRow]) -> dict[str, int]:
    """How many clips were kept, and dropped for each reason."""
    return dict(Counter(str(clip.reason or KEPT) for row in rows for clip in row.clips))


def _as_json(rows: Sequence[FileRow], settings: Settings) -> dict[str, object]:
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


def _shown(rows: Sequence[FileRow]) -> list[ClipRow]:
    """Kept clips from all over the corpus, then some of each reason."""
    with_picture = [clip for row in rows for clip in row.clips if clip.thumbnail]
    kept = [clip for clip in with_picture if clip.reason is None]
    places = np.unique(np.linspace(0, len(kept) - 1, min(len(kept), NUM_SHOWN)).astype(int)) if kept else []
    shown = [kept[place] for place in places]
    for reason in Reason:
        shown += [clip for clip in with_picture if clip.reason is reason][:NUM_SHOWN_DROPPED]
    return shown


def _write(path: Path, text: str) -> None:
    with atomic_write(path) as temporary, writing(path):
        temporary.write_text(text, encoding="utf-8")
