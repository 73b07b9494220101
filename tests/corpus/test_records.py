import dataclasses
import pickle
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from emotivetalk.corpus import records
from emotivetalk.corpus.records import SCHEMA, Clip, read_corpus, to_float, to_int16, write_shards
from emotivetalk.errors import InputError
from emotivetalk.timebase import SAMPLES_PER_FRAME


def clip(number: int, split: records.Split = "train", num_frames: int = 5) -> Clip:
    rng = np.random.default_rng(number)
    emotions = np.full(num_frames, number % 8)
    emotions[-1:] = (number + number % 2) % 8
    return Clip(
        clip_id=f"{split}-{number}",
        split=split,
        identity_seed=None if number == 3 else number // 4,
        speaker=f"s{number // 4}",
        text="Ça va?",
        engine="espeak",
        voice="en-us",
        emotion=number % 8,
        emotion_per_frame=emotions,
        intensity=float(np.float32(1 / 3)),
        waveform=to_float(to_int16(rng.uniform(-1, 1, num_frames * SAMPLES_PER_FRAME))),
        lip=rng.random((num_frames, 6), np.float32),
        expression=rng.random((num_frames, 12), np.float32),
        pose=rng.random((num_frames, 6), np.float32),
        seed=number,
    )


def same(first: Clip, second: Clip) -> bool:
    return all(np.array_equal(getattr(first, f.name), getattr(second, f.name)) for f in dataclasses.fields(Clip))


def test_round_trip_over_shards_and_splits(tmp_path: Path):
    written = [clip(n, "held_out" if n % 5 == 0 else "train", num_frames=1 + n % 7) for n in range(60)]
    paths = write_shards(iter(written), tmp_path, clips_per_shard=20)
    assert sorted(path.name for path in paths) == sorted(path.name for path in tmp_path.iterdir())
    assert {path.name for path in paths} == {
        *(f"train-0000{number}.parquet" for number in range(3)),
        "held_out-00000.parquet",
    }
    for split in ("train", "held_out"):
        expected = [c for c in written if c.split == split]
        corpus = read_corpus(tmp_path, split)
        assert len(corpus) == len(expected)
        assert all(same(a, b) for a, b in zip(corpus, expected, strict=True))
        assert same(corpus[-1], expected[-1])
        for emotion, positions in corpus.by_emotion.items():
            assert {corpus[i].emotion for i in positions} == {emotion}
        for identity, positions in corpus.by_identity.items():
            assert {corpus[i].identity_seed for i in positions} == {identity}
        assert sum(map(len, corpus.by_emotion.values())) == len(corpus)
        with pytest.raises(IndexError):
            corpus[len(corpus)]


def test_real_video_has_no_identity_seed(tmp_path: Path):
    write_shards([clip(n) for n in range(5)], tmp_path)
    corpus = read_corpus(tmp_path, "train")
    assert corpus[3].identity_seed is None
    assert corpus.by_identity == {0: (0, 1, 2), 1: (4,)}


def test_corpus_is_lazy_and_can_be_pickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_shards([clip(n) for n in range(40)], tmp_path)
    corpus = read_corpus(tmp_path, "train", num_cached_groups=1)
    read, original = [], records._read

    def counting(*args, **options):
        read.append(options["row_group"])
        return original(*args, **options)

    monkeypatch.setattr(records, "_read", counting)
    assert corpus[0].clip_id == "train-0" and corpus[7].clip_id == "train-7" and read == [0]
    copy = pickle.loads(pickle.dumps(corpus))
    assert same(copy[39], corpus[39]) and read == [0, 4, 4]


def test_a_change_of_emotion_is_detected():
    assert not clip(2).changes_emotion and clip(1).changes_emotion


@pytest.mark.parametrize("track", ["lip", "expression", "pose", "waveform", "emotion_per_frame"])
def test_clip_of_uneven_tracks_is_refused(track: str):
    whole = clip(0)
    with pytest.raises(ValueError, match="differ in length"):
        dataclasses.replace(whole, **{track: getattr(whole, track)[:-1]})


def test_errors_say_what_to_do(tmp_path: Path):
    def code(folder: Path, split: records.Split = "train") -> str:
        with pytest.raises(InputError) as caught:
            read_corpus(folder, split)[0]
        assert str(folder) in caught.value.message and caught.value.remedy
        return caught.value.code

    assert code(tmp_path / "nowhere") == "corpus_missing"
    paths = write_shards([clip(n) for n in range(9)], tmp_path)
    assert code(tmp_path, "foreign") == "corpus_split_missing"
    with pytest.raises(InputError, match="already holds a corpus"):
        write_shards([clip(0)], tmp_path)

    table = pq.read_table(paths[0])
    pq.write_table(table.replace_schema_metadata({records._VERSION_KEY: "0"}), paths[0])
    assert code(tmp_path) == "corpus_version"
    pq.write_table(table.replace_schema_metadata({}), paths[0])
    assert code(tmp_path) == "corpus_missing"
    paths[0].write_bytes(b"PAR1 but not really")
    assert code(tmp_path) == "corpus_shard_corrupt"


def test_corrupt_data_behind_a_sound_header(tmp_path: Path):
    path = write_shards([clip(n, num_frames=20) for n in range(8)], tmp_path)[0]
    data = bytearray(path.read_bytes())
    data[200 : len(data) // 2] = bytes(len(data) // 2 - 200)
    path.write_bytes(data)
    with pytest.raises(InputError, match="cannot be read"):
        list(read_corpus(tmp_path, "train"))


def test_waveform_is_clipped_not_wrapped():
    assert to_float(to_int16(np.array([2.0, -2.0, 0.0]))).tolist() == [1.0, -1.0, 0.0]


def test_schema_is_that_of_the_clip():
    stored = {f.name for f in dataclasses.fields(Clip)} - {"photographs"}  # which is a file beside the shards
    assert {*SCHEMA.names} == stored | {"num_frames", "sample_rate"}
