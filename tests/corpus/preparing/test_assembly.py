"""The folder of a corpus: its settings, missing parts, and held-out speakers."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emotivetalk.corpus.drawing import draw_clip
from emotivetalk.corpus.preparing.assembly import CorpusFolder, held_out_speakers
from emotivetalk.corpus.preparing.labels import Label
from emotivetalk.corpus.preparing.reasons import Reason, reason_of_error
from emotivetalk.corpus.preparing.report import write_report
from emotivetalk.corpus.preparing.results import ClipRow, FileRow, Scores, VideoSource, has_part, read_row, write_part
from emotivetalk.corpus.preparing.settings import PrepareSettings
from emotivetalk.corpus.records import Clip, read_corpus, write_shards
from emotivetalk.errors import InputError
from emotivetalk.media.image_codec import encode_pictures
from emotivetalk.timebase import SAMPLES_PER_FRAME
from tests.training.debug import clip as synthetic_clip

SETTINGS = PrepareSettings(num_frames=4, size=32, held_out=0.3)
LABEL = Label("happy", 1.0, "ann", "", "csv")


def source(name: str, label: Label = LABEL) -> VideoSource:
    return VideoSource(f"/raw/{name}", name, "10 20", label)


def real_clip(name: str, speaker: str = "ann") -> Clip:
    pictures = np.random.default_rng(len(name)).integers(0, 255, (4, 32, 32, 3)).astype(np.uint8)
    return replace(
        synthetic_clip("train", 0, 5, 0),
        clip_id=name,
        identity_seed=None,
        speaker=speaker,
        emotion_per_frame=np.full(4, 5),
        waveform=np.zeros(4 * SAMPLES_PER_FRAME, np.float32),
        lip=np.zeros((0, 6), np.float32),
        expression=np.zeros((0, 12), np.float32),
        pose=np.zeros((0, 6), np.float32),
        frames=encode_pictures(list(pictures)),
        label_source="csv",
    )


def fill(corpus: CorpusFolder, names: list[str]) -> list[VideoSource]:
    sources = [source(f"{name}.mp4", replace(LABEL, speaker=name)) for name in names]
    for one in sources:
        clip = ClipRow(one.name, 0.0, 0.16, None, Scores(face=80.0), "")
        row = FileRow(one.name, one.label, duration_s=0.2, clips=(clip,))
        write_part(corpus.parts, one, SETTINGS.key, row, [real_clip(one.name, one.label.speaker)])
    return sources


def test_a_part_is_valid_for_its_input_and_settings_only(tmp_path: Path) -> None:
    one = source("a.mp4")
    row = FileRow("a.mp4", LABEL, Reason.TRUNCATED, "cut off")
    assert not has_part(tmp_path, one, "k")
    path = write_part(tmp_path, one, "k", row, [])
    assert has_part(tmp_path, one, "k") and read_row(tmp_path, one) == row
    assert not has_part(tmp_path, one, "other")
    assert not has_part(tmp_path, replace(one, fingerprint="11 20"), "k")
    assert not has_part(tmp_path, replace(one, label=replace(LABEL, emotion="sad")), "k")
    path.write_bytes(path.read_bytes()[:100])
    assert not has_part(tmp_path, one, "k")
    write_part(tmp_path, one, "k", replace(row, reason=Reason.NOT_FETCHED), [])
    assert not has_part(tmp_path, one, "k")  # the next run tries again


def test_parts_become_a_corpus_whose_splits_share_no_speaker(tmp_path: Path) -> None:
    corpus = CorpusFolder(tmp_path / "corpus")
    corpus.claim(SETTINGS)
    sources = fill(corpus, list("abcdefgh"))
    assert corpus.missing([*sources, source("z.mp4")], SETTINGS) == [source("z.mp4")]
    rows = corpus.rows(sources)
    shards = corpus.assemble(sources, rows, SETTINGS)
    clips = {split: list(read_corpus(corpus.folder, split)) for split in ("train", "held_out")}
    assert not {c.speaker for c in clips["train"]} & {c.speaker for c in clips["held_out"]}
    assert sum(map(len, clips.values())) == 8
    for clip in clips["train"]:
        assert not clip.has_truth and clip.num_frames == 4 and clip.label_source == "csv"
        frames = draw_clip(clip, [3, 1], size=16)
        assert frames.images.shape == (2, 3, 16, 16) and frames.mouth_mask.shape == (2, 1, 16, 16)
        assert frames.mouth_mask.sum() < frames.face_mask.sum()
        with pytest.raises(InputError, match="cannot be drawn with another person"):
            draw_clip(clip, [0], identity_seed=3)
    before = [shard.stat().st_mtime_ns for shard in shards]
    assert corpus.assemble(sources, rows, SETTINGS) == shards
    assert [shard.stat().st_mtime_ns for shard in shards] == before  # an unchanged corpus is not written again
    names = {path.name for path in write_report(corpus.folder, rows, SETTINGS)}
    assert names == {"report.json", "report.md"}


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    corpus = CorpusFolder(tmp_path / "corpus")
    corpus.claim(SETTINGS)
    corpus.claim(SETTINGS)
    with pytest.raises(InputError, match=r"prepared with size 32; now it is 64.*Give the same options"):
        corpus.claim(replace(SETTINGS, size=64))
    write_shards([synthetic_clip("train", 0, 5, 0)], tmp_path / "synthetic")
    with pytest.raises(InputError, match="not prepared from raw video"):
        CorpusFolder(tmp_path / "synthetic").claim(SETTINGS)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is not a folder"):
        CorpusFolder(tmp_path / "file").claim(SETTINGS)
    with pytest.raises(InputError, match="cannot be created"):
        CorpusFolder(tmp_path / "file" / "below").claim(SETTINGS)


@given(st.sets(st.text(min_size=1, max_size=8), max_size=12), st.text(min_size=1), st.floats(0, 0.9))
def test_held_out_speakers_stay_held_out(speakers: set[str], newcomer: str, share: float) -> None:
    before = held_out_speakers(speakers, share)
    assert before <= speakers and (len(speakers) < 2 or share == 0 or 0 < len(before) < len(speakers))
    after = held_out_speakers(speakers | {newcomer}, share)
    if len(before) > 1 and len(speakers - before) > 1:
        assert before - after == set()


def test_every_reason_has_a_meaning_of_its_own() -> None:
    assert len({reason.meaning for reason in Reason}) == len(Reason)
    assert all(reason.meaning for reason in Reason)


def test_error_codes_give_their_reason() -> None:
    assert reason_of_error("video_truncated") is Reason.TRUNCATED
    assert reason_of_error("url_unreachable") is Reason.NOT_FETCHED
    assert reason_of_error("something_else") is Reason.UNREADABLE
