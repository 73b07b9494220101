"""Labels from file names and from CSV files."""

from pathlib import Path

import pytest

from emotivetalk.corpus.preparing.labels import Label, label_of, read_labels
from emotivetalk.errors import InputError


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("/data/MEAD/M003/video/front/angry/level_3/001.mp4", Label("angry", 1.0, "mead-M003", "", "mead")),
        ("W011_front_contempt_level_1_030.mp4", Label("contempt", 1 / 3, "mead-W011", "", "mead")),
        (
            "ravdess/Actor_12/01-01-06-01-02-01-12.mp4",
            Label("fear", 2 / 3, "ravdess-12", "Dogs are sitting by the door.", "ravdess"),
        ),
        (
            "01-01-02-02-01-02-03.mp4",
            Label("neutral", 1.0, "ravdess-03", "Kids are talking by the door.", "ravdess"),
        ),
        ("1001_DFA_ANG_XX.flv", Label("angry", 2 / 3, "crema-d-1001", "Don't forget a jacket.", "crema_d")),
        ("1091_WSI_SAD_LO.flv", Label("sad", 1 / 3, "crema-d-1091", "We'll stop in a couple of minutes.", "crema_d")),
        ("WDA_BarackObama_000.mp4", Label("neutral", 1.0, "hdtf-BarackObama", "", "hdtf")),
        ("RD_Radio10_000.mp4", Label("neutral", 1.0, "hdtf-Radio10", "", "hdtf")),
        ("holiday.mp4", Label("neutral", 1.0, "holiday", "", "assumed")),
        ("1001_XYZ_ANG_XX.flv", Label("neutral", 1.0, "1001_XYZ_ANG_XX", "", "assumed")),
        ("01-01-09-01-02-01-12.mp4", Label("neutral", 1.0, "01-01-09-01-02-01-12", "", "assumed")),
        ("M003_front_calm_level_3_001.mp4", Label("neutral", 1.0, "M003_front_calm_level_3_001", "", "assumed")),
    ],
)
def test_names_of_the_data_sets(name: str, label: Label) -> None:
    assert label_of(name) == label


def test_relative_paths_start_at_the_folder_of_the_csv(tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    file.write_text(
        '\ufeffpath,emotion,intensity,speaker,text\na/b.mp4,happy,0.5,Ann,"Yes, we can"\n'
        "https://host/c.mp4,sad,,,\n/d.mp4,fear,1,Bob,\n",
        encoding="utf-8",
    )
    assert read_labels(file) == {
        str(tmp_path / "a/b.mp4"): Label("happy", 0.5, "Ann", "Yes, we can", "csv"),
        "https://host/c.mp4": Label("sad", 1.0, "c", "", "csv"),
        "/d.mp4": Label("fear", 1.0, "Bob", "", "csv"),
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,emotion\na.mp4,happy\n", "no column path; their first line is file,emotion"),
        ("", "no column path and no column emotion"),
        ("path,emotion,mood\na.mp4,happy,x\n", "an unknown column 'mood'"),
        ("path,emotion\na.mp4,joyful\n", "line 2: emotion 'joyful' is unknown"),
        ("path,emotion,intensity\na.mp4,happy,2\n", "intensity '2' is not a number from 0 to 1"),
        ("path,emotion,intensity\na.mp4,happy,nan\n", "intensity 'nan' is not a number"),
        ("path,emotion\na.mp4,happy\na.mp4,sad\n", "line 3: 'a.mp4' occurs twice"),
        ("path,emotion\n,sad\n", "line 2: the path is empty"),
    ],
)
def test_a_wrong_csv_is_refused_by_line(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    file.write_text(text or "\n", encoding="utf-8")
    with pytest.raises(InputError) as caught:
        read_labels(file)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_file_that_is_no_csv_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    file.write_bytes(b"path,emotion\n\xff\xfe,happy\n")
    with pytest.raises(InputError, match="no CSV in UTF-8"):
        read_labels(file)
    with pytest.raises(InputError, match="does not exist"):
        read_labels(tmp_path / "nowhere.csv")
