"""Labels of raw videos from the file names of known data sets, or from a CSV file.

The naming schemes are those that MEAD, HDTF, RAVDESS and CREMA-D publish.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from emotivetalk.errors import InputError
from emotivetalk.files import check_readable, quoted
from emotivetalk.models.emotion import EMOTIONS

MAX_CSV_BYTES = 200_000_000
REQUIRED_COLUMNS = ("path", "emotion")
COLUMNS = (*REQUIRED_COLUMNS, "intensity", "speaker", "text")

_RAVDESS_EMOTIONS = ("neutral", "neutral", "happy", "sad", "angry", "fear", "disgusted", "surprised")  # 02 is calm
_RAVDESS_TEXTS = ("Kids are talking by the door.", "Dogs are sitting by the door.")
_RAVDESS_INTENSITY = {"01": 2 / 3, "02": 1.0}
_CREMA_EMOTIONS = {"ANG": "angry", "DIS": "disgusted", "FEA": "fear", "HAP": "happy", "NEU": "neutral", "SAD": "sad"}
_CREMA_INTENSITY = {"LO": 1 / 3, "MD": 2 / 3, "HI": 1.0, "XX": 2 / 3}  # XX: not specified
_CREMA_TEXTS = {
    "IEO": "It's eleven o'clock.",
    "TIE": "That is exactly what happened.",
    "IOM": "I'm on my way to the meeting.",
    "IWW": "I wonder what this is about.",
    "TAI": "The airplane is almost full.",
    "MTI": "Maybe tomorrow it will be cold.",
    "IWL": "I would like a new alarm clock.",
    "ITH": "I think I have a doctor's appointment.",
    "DFA": "Don't forget a jacket.",
    "ITS": "I think I've seen this before.",
    "TSI": "The surface is slick.",
    "WSI": "We'll stop in a couple of minutes.",
}


@dataclass(frozen=True)
class Label:
    """Label of a whole file.

    Attributes:
        emotion: one of `emotivetalk.models.emotion.EMOTIONS`.
        intensity: 0..1.
        speaker: name of the person, the same in all files of the person.
        text: spoken text; empty if unknown.
        source: "mead", "hdtf", "ravdess", "crema_d", "csv", or "assumed" for neutral without a label. HDTF has no
            emotion labels; they are set to neutral too.
    """

    emotion: str
    intensity: float
    speaker: str
    text: str
    source: str


def label_of(name: str) -> Label:
    """Return the label in a file's name.

    Args:
        name: path with `/`, including parent folders, which hold MEAD's labels.
    """
    path = PurePosixPath(name)
    for scheme in (_mead, _ravdess, _crema_d, _hdtf):
        label = scheme(path)
        if label is not None:
            return label
    return Label("neutral", 1.0, path.stem, "", "assumed")


def _mead(path: PurePosixPath) -> Label | None:
    """Parse `M003/video/front/angry/level_3/001.mp4`, or the same joined by underscores."""
    joined = "_".join((*path.parts[:-1], path.stem))
    found = re.search(rf"(?:^|_)([MW]\d{{3}})_(?:.*_)?({'|'.join(EMOTIONS)})_level_([123])_\d+$", joined)
    if found is None:
        return None
    return Label(found[2], int(found[3]) / 3, f"mead-{found[1]}", "", "mead")


def _ravdess(path: PurePosixPath) -> Label | None:
    """Parse `01-01-06-01-02-01-12.mp4`: modality, channel, emotion, intensity, statement, repetition, actor."""
    found = re.fullmatch(r"0[12]-0[12]-0([1-8])-(0[12])-0([12])-0[12]-(\d\d)", path.stem)
    if found is None:
        return None
    emotion = _RAVDESS_EMOTIONS[int(found[1]) - 1]
    text = _RAVDESS_TEXTS[int(found[3]) - 1]
    return Label(emotion, _RAVDESS_INTENSITY[found[2]], f"ravdess-{found[4]}", text, "ravdess")


def _crema_d(path: PurePosixPath) -> Label | None:
    """Parse `1001_DFA_ANG_HI.flv`: actor, sentence, emotion, level."""
    found = re.fullmatch(rf"(1\d{{3}})_([A-Z]{{3}})_({'|'.join(_CREMA_EMOTIONS)})_(LO|MD|HI|XX)", path.stem)
    if found is None or found[2] not in _CREMA_TEXTS:
        return None
    intensity = _CREMA_INTENSITY[found[4]]
    return Label(_CREMA_EMOTIONS[found[3]], intensity, f"crema-d-{found[1]}", _CREMA_TEXTS[found[2]], "crema_d")


def _hdtf(path: PurePosixPath) -> Label | None:
    """Parse `WDA_BarackObama_000.mp4`: source, speaker, number."""
    found = re.fullmatch(r"(?:WDA|WRA|RD)_([A-Za-z]+\d*)_?(\d*)", path.stem)
    return None if found is None else Label("neutral", 1.0, f"hdtf-{found[1]}", "", "hdtf")


def read_labels(path: Path) -> Mapping[str, Label]:
    """Read labels from a CSV with the columns `path,emotion,intensity,speaker,text`; the last three are optional.

    Relative paths start at the CSV's folder. An empty intensity means 1, an empty speaker the file's name without suffix.

    Returns:
        Labels by URL or absolute path.

    Raises:
        InputError: the file does not exist or is not UTF-8, a column is missing or unknown, a path occurs twice, an
            emotion is unknown, or an intensity is outside 0..1.
    """
    check_readable(path, "labels", MAX_CSV_BYTES)
    labels: dict[str, Label] = {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file, strict=True)
            _check_columns(path, rows.fieldnames or ())
            for row in rows:
                where = f"{quoted(path)}, line {rows.line_num}"
                cells = {name: (row.get(name) or "").strip() for name in COLUMNS}
                file_path = cells["path"]
                key = file_path if "://" in file_path else str((path.parent / file_path).absolute())
                if not file_path or key in labels:
                    problem = f"{file_path!r} occurs twice" if file_path else "the path is empty"
                    raise _invalid(where, problem, "Give each file one line.")
                labels[key] = _label(where, cells)
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            "labels_unreadable", f"labels {quoted(path)} are no CSV in UTF-8 ({error})", "Export them again as CSV."
        ) from error
    return labels


def _check_columns(path: Path, names: object) -> None:
    found = [str(name).strip() for name in names] if isinstance(names, list | tuple) else []
    missing = [name for name in REQUIRED_COLUMNS if name not in found]
    if missing:
        raise InputError(
            "labels_columns",
            f"labels {quoted(path)} have no column {' and no column '.join(missing)}; "
            f"their first line is {','.join(found) or 'empty'}",
            f"Begin the file with a line such as {','.join(COLUMNS)}.",
        )
    unknown = [name for name in found if name not in COLUMNS]
    if unknown:
        raise InputError(
            "labels_columns",
            f"labels {quoted(path)} have an unknown column {unknown[0]!r}",
            f"Use the columns {', '.join(COLUMNS)}.",
        )


def _label(where: str, cells: Mapping[str, str]) -> Label:
    if cells["emotion"] not in EMOTIONS:
        raise _invalid(where, f"emotion {cells['emotion']!r} is unknown", f"Use one of {', '.join(EMOTIONS)}.")
    intensity = _number(cells["intensity"] or "1")
    if intensity is None or not 0 <= intensity <= 1:
        raise _invalid(
            where, f"intensity {cells['intensity']!r} is not a number from 0 to 1", "Give one, or leave it out."
        )
    speaker = cells["speaker"] or PurePosixPath(cells["path"]).stem
    return Label(cells["emotion"], intensity, speaker, cells["text"], "csv")


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _invalid(where: str, problem: str, remedy: str) -> InputError:
    return InputError("labels_invalid", f"labels {where}: {problem}", remedy)
