"""`emotivetalk render --dry-run` reads every file as rendering would."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from emotivetalk.bulk_check import check_rows
from emotivetalk.client.bulk.rows import RowRules

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def test_faces_and_speech_are_looked_for_and_lengths_are_added(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    portrait, speech = str(EXAMPLES / "portrait.png"), str(EXAMPLES / "hello.wav")
    (tmp_path / "plain.png").write_bytes((EXAMPLES / "portrait.png").read_bytes()[:100])
    rows = [
        {"portrait": portrait, "audio": speech, "seed": 1},
        {"portrait": portrait, "audio": speech, "seed": 2},
        {"portrait": "plain.png", "audio": speech},
        {"portrait": portrait, "audio": portrait},
        {"portrait": portrait, "audio": speech, "face": 3},
        {"portrait": "https://example.com/me.png", "audio": speech},
    ]
    manifest = tmp_path / "rows.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert check_rows(str(manifest), RowRules(tmp_path), None, "http://host:8000") == 1
    out = capsys.readouterr().out
    assert "3 of 6 rows can be rendered: 10 s of video, and 1 rows whose URLs" in out
    assert "row 3: image_" in out and "row 4: audio_" in out and "row 5: face_" in out
    assert "rendered by http://host:8000" in out
