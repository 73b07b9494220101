"""`emotivetalk render --dry-run`: check every row of a table with its files, and estimate the time to render them."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from emotivetalk.client.bulk.outputs import RowResult, error_result
from emotivetalk.client.bulk.rows import BulkRow, RowRules
from emotivetalk.client.bulk.runner import planned_rows
from emotivetalk.errors import EmotiveTalkError
from emotivetalk.limits import Limits, say_duration
from emotivetalk.output import say
from emotivetalk.timebase import SAMPLE_RATE_HZ

MAX_WORKERS = 2  # ETHD's replicas in serve_configs/local.yaml
_CACHED = 4096


@dataclass
class _Found:
    """Totals over the rows of a manifest."""

    num_rows: int = 0
    num_failed: int = 0
    num_remote: int = 0
    video_s: float = 0.0
    first: BulkRow | None = None


def check_rows(manifest: str, rules: RowRules, checkpoint: Path | None, elsewhere: str | None) -> int:
    """Check every row, report the failures and the estimate, and return the command's exit status.

    Args:
        elsewhere: the service or cluster that would render; None is this machine, whose speed is measured on one second of
            the first row.
    """
    found = _Found()
    for row in planned_rows(manifest, rules):
        found.num_rows += 1
        failed = row if isinstance(row, RowResult) else _check_files(row, found)
        if failed is not None:
            found.num_failed += 1
            say(f"row {failed.row}: {failed.error_code}: {failed.error_message}")
    say(
        f"{found.num_rows - found.num_failed} of {found.num_rows} rows can be rendered: "
        f"{say_duration(found.video_s)} of video"
        + (f", and {found.num_remote} rows whose URLs are read when they are rendered" if found.num_remote else "")
    )
    if elsewhere is not None:
        say(f"they would be rendered by {elsewhere}, whose speed is not known here")
    elif found.first is not None:
        _estimate(found, found.first, checkpoint)
    return 1 if found.num_failed else 0


def _check_files(row: BulkRow, found: _Found) -> RowResult | None:
    if not (isinstance(row.portrait, Path) and isinstance(row.audio, Path)):
        found.num_remote += 1
        return None
    try:
        for check, path, choice in (
            (_find_face, row.portrait, row.settings.face),
            (_speech_s, row.audio, row.settings.audio_track),
        ):
            status = path.stat()
            result = check(path, choice, status.st_size, status.st_mtime_ns)
            if isinstance(result, EmotiveTalkError):
                raise result
            found.video_s += result
    except EmotiveTalkError as error:
        return error_result(row.number, row.row_id, error)
    found.first = found.first or row
    return None


@lru_cache(_CACHED)
def _find_face(path: Path, face: int | None, size: int, modified_ns: int) -> float | EmotiveTalkError:
    """Look for the face as rendering does. Returns 0, which adds nothing to the length, or the refusal."""
    from emotivetalk.media.faces import choose_face
    from emotivetalk.media.image import load_image

    try:
        choose_face(load_image(path, Limits()), face, str(path), Limits())
    except EmotiveTalkError as error:
        return error
    return 0.0


@lru_cache(_CACHED)
def _speech_s(path: Path, audio_track: int | None, size: int, modified_ns: int) -> float | EmotiveTalkError:
    """Return the length of the speech in seconds, or the refusal."""
    from emotivetalk.media.audio import load_speech

    try:
        return len(load_speech(path, Limits(), audio_track).waveform) / SAMPLE_RATE_HZ
    except EmotiveTalkError as error:
        return error


def _estimate(found: _Found, row: BulkRow, checkpoint: Path | None) -> None:
    """Render one second with one thread, and say how long all rows would take on this machine."""
    import torch

    from emotivetalk.api import load_pipeline, load_portrait, load_waveform

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        pipeline = load_pipeline(checkpoint)
        assert isinstance(row.portrait, Path) and isinstance(row.audio, Path)
        portrait = load_portrait(row.portrait, pipeline.image_size, row.settings.face)
        speech = load_waveform(row.audio, row.settings.audio_track)[:SAMPLE_RATE_HZ]
        start = time.monotonic()
        for _ in pipeline(portrait, speech, seed=0, num_steps=row.settings.num_steps):
            pass
        per_second = (time.monotonic() - start) * SAMPLE_RATE_HZ / len(speech)
    finally:
        torch.set_num_threads(threads)
    workers = min(MAX_WORKERS, os.cpu_count() or 1)
    say(
        f"on this machine ({workers} workers, Ray started by the command) about {say_duration(per_second * found.video_s / workers)}; "
        f"a second of video takes a worker {per_second:.1f} s, measured now"
    )
