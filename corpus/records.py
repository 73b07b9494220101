"""Records of clips, for the synthetic corpus and for real video, and the Parquet shards that hold them.

A corpus is a folder of shards `<split>-<number>.parquet`. A shard's schema carries `SCHEMA_VERSION`; reading a version
that is not in `READABLE_VERSIONS` raises an error. Waveforms are 16-bit samples, tracks are float32 at 25 frames a
second. A clip of real video holds its pictures and no tracks; version 1 has no such clips.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Literal, TypeVar, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float, Int

from emotivetalk.corpus.parameters import EXPRESSION, LIP, POSE
from emotivetalk.errors import InputError
from emotivetalk.timebase import SAMPLE_RATE_HZ, SAMPLES_PER_FRAME

Split = Literal["train", "held_out", "foreign"]
SPLITS: tuple[Split, ...] = get_args(Split)

SCHEMA_VERSION = "2"
READABLE_VERSIONS = ("1", "2")
PHOTOGRAPHS_LISTING = "photographs.json"
"""The file beside the shards that says by their hashes which photographs people are drawn from, and where those are."""

_VERSION_KEY = b"emotivetalk.corpus.version"
_CLIPS_PER_ROW_GROUP = 8  # unit of a random access
_CACHE_BYTES = 400_000_000  # with its pictures, a clip of real video is about ten times as large as a synthetic one
_FULL_SCALE = 32767


def _track(size: int) -> pa.DataType:
    return pa.list_(pa.list_(pa.float32(), size))


SCHEMA = pa.schema(
    [
        pa.field("clip_id", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("identity_seed", pa.int64()),  # null for real video
        pa.field("speaker", pa.string(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
        pa.field("engine", pa.string(), nullable=False),
        pa.field("voice", pa.string(), nullable=False),
        pa.field("emotion", pa.int8(), nullable=False),
        pa.field("emotion_per_frame", pa.list_(pa.int8()), nullable=False),
        pa.field("intensity", pa.float32(), nullable=False),
        pa.field("num_frames", pa.int32(), nullable=False),
        pa.field("sample_rate", pa.int32(), nullable=False),
        pa.field("waveform", pa.binary(), nullable=False),  # int16, little-endian
        pa.field("lip", _track(len(LIP)), nullable=False),
        pa.field("expression", _track(len(EXPRESSION)), nullable=False),
        pa.field("pose", _track(len(POSE)), nullable=False),
        pa.field("seed", pa.int64(), nullable=False),
        pa.field("frames", pa.list_(pa.binary())),  # JPEG; null where frames are drawn
        pa.field("label_source", pa.string(), nullable=False),
    ],
    metadata={_VERSION_KEY: SCHEMA_VERSION},
)


@dataclass(frozen=True)
class Clip:
    """Clip of a speaking face: speech, and lip, expression and pose parameters per frame (`corpus/parameters.py`).

    Frame i shows the time (i + 1/2) / 25 s and belongs to samples 640 i .. 640 (i + 1). Real video has no parameters: its
    tracks are empty, and `frames` holds one square JPEG per frame, cropped by `emotivetalk.media.faces.DEFAULT_FRAMING`.
    `emotivetalk.corpus.drawing.draw_clip` returns pictures of both kinds.

    Attributes:
        emotion: emotion of most frames; `emotion_per_frame` has changes within the clip.
        label_source: "synthetic", a naming scheme, "csv", or "assumed".
        photographs: listing of the photographs that people are drawn from; found beside the shard, not stored in the clip.
    """

    clip_id: str
    split: Split
    identity_seed: int | None
    speaker: str
    text: str
    engine: str
    voice: str
    emotion: int
    emotion_per_frame: Int[np.ndarray, "frames"]
    intensity: float
    waveform: Float[np.ndarray, "samples"]
    lip: Float[np.ndarray, "frames 6"]
    expression: Float[np.ndarray, "frames 12"]
    pose: Float[np.ndarray, "frames 6"]
    seed: int
    frames: tuple[bytes, ...] | None = None
    label_source: str = "synthetic"
    photographs: Path | None = None

    def __post_init__(self) -> None:
        tracks = {"lip": self.lip, "expression": self.expression, "pose": self.pose}
        lengths: dict[str, float] = {
            "emotion_per_frame": len(self.emotion_per_frame),
            "waveform": len(self.waveform) / SAMPLES_PER_FRAME,
        }
        if self.frames is None or self.has_truth:
            lengths |= {name: len(track) for name, track in tracks.items()}
        if self.frames is not None:
            lengths["frames"] = len(self.frames)
        if set(lengths.values()) != {self.num_frames}:
            raise ValueError(f"clip {self.clip_id}: tracks differ in length (frames): {lengths}")

    @property
    def num_frames(self) -> int:
        return len(self.emotion_per_frame)

    @property
    def has_truth(self) -> bool:
        """True if the parameters of lips, face and head are known."""
        return len(self.lip) > 0

    @property
    def changes_emotion(self) -> bool:
        return bool((self.emotion_per_frame != self.emotion).any())


def to_int16(waveform: Float[np.ndarray, "samples"]) -> Int[np.ndarray, "samples"]:
    """Convert samples to their stored form; values outside [-1, 1] are clipped."""
    return np.round(np.clip(waveform, -1, 1) * _FULL_SCALE).astype(np.int16)


def to_float(samples: Int[np.ndarray, "samples"]) -> Float[np.ndarray, "samples"]:
    """Convert stored samples to float32 in [-1, 1]; exact for results of `to_int16`."""
    return samples.astype(np.float32) / np.float32(_FULL_SCALE)


def write_shards(clips: Iterable[Clip], folder: Path, clips_per_shard: int = 256) -> tuple[Path, ...]:
    """Write clips of any splits as shards, in their order, and return the shards' paths.

    A shard gets its name when it is complete.

    Raises:
        InputError: `folder` already holds a corpus.
    """
    if clips_per_shard < 1:
        raise ValueError(f"clips_per_shard is {clips_per_shard}; it must be at least 1")
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.glob("*.parquet")):
        raise InputError(
            code="corpus_exists",
            message=f"{folder} already holds a corpus",
            remedy="Name another folder, or delete this one first",
        )
    pending: dict[Split, list[Clip]] = {}
    paths: list[Path] = []

    def flush(split: Split) -> None:
        number = sum(path.name.startswith(f"{split}-") for path in paths)
        path = folder / f"{split}-{number:05d}.parquet"
        partial = path.with_suffix(".partial")
        write_clips(pending.pop(split), partial)
        paths.append(partial.rename(path))

    for clip in clips:
        pending.setdefault(clip.split, []).append(clip)
        if len(pending[clip.split]) == clips_per_shard:
            flush(clip.split)
    for split in tuple(pending):
        flush(split)
    return tuple(paths)


def write_clips(clips: Sequence[Clip], path: Path, notes: Mapping[bytes, bytes] | None = None) -> None:
    """Write clips as one Parquet file, not atomically; `notes` are added to the schema's metadata."""
    table = _table(clips)
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), **(notes or {})})
    pq.write_table(table, path, row_group_size=_CLIPS_PER_ROW_GROUP, compression="zstd")


def read_notes(path: Path) -> Mapping[bytes, bytes]:
    """Read the metadata of a file that `write_clips` wrote. Raises InputError as `read_corpus` does."""
    return _open(path).schema_arrow.metadata or {}


def read_clips(path: Path) -> Iterator[Clip]:
    """Read the clips of one file, a row group at a time. Raises InputError as `read_corpus` does."""
    file = _open(path)
    for row_group in range(file.num_row_groups):
        yield from _clips(_read(file, path, row_group=row_group))


def _table(clips: Sequence[Clip]) -> pa.Table:
    columns = {name: [getattr(clip, name, None) for clip in clips] for name in SCHEMA.names}
    columns["sample_rate"] = [SAMPLE_RATE_HZ] * len(clips)
    columns["waveform"] = [to_int16(clip.waveform).astype("<i2").tobytes() for clip in clips]
    for name, names in (("lip", LIP), ("expression", EXPRESSION), ("pose", POSE)):
        columns[name] = _track_array([getattr(clip, name) for clip in clips], len(names))
    return pa.table(columns, schema=SCHEMA)


def _track_array(tracks: Sequence[Float[np.ndarray, "_ dim"]], size: int) -> pa.Array:
    offsets = np.cumsum([0, *(len(track) for track in tracks)]).astype(np.int32)
    values = np.concatenate([np.zeros((0, size)), *tracks]).astype(np.float32)
    rows = pa.FixedSizeListArray.from_arrays(values.ravel(), size)
    return pa.ListArray.from_arrays(offsets, rows)


class Corpus(Sequence[Clip]):
    """Clips of one split, read on access with a cache of the last row groups. Can be pickled.

    `by_identity`, `by_speaker` and `by_emotion` map an identity's seed, a speaker's name or an emotion's index to
    positions in the corpus. Only synthetic clips have an identity seed.
    """

    def __init__(self, shards: Sequence[Path], num_cached_groups: int = 256) -> None:
        self._shards = tuple(shards)
        self._groups: list[tuple[int, int, int]] = []  # shard, row group, position of its first clip
        heads: list[pa.Table] = []
        position = largest = 0
        for shard, path in enumerate(self._shards):
            file = _open(path)
            for group in range(file.num_row_groups):
                self._groups.append((shard, group, position))
                position += file.metadata.row_group(group).num_rows
                largest = max(largest, file.metadata.row_group(group).total_byte_size)
            heads.append(_read(file, path, columns=["identity_seed", "speaker", "emotion"]))
        head = pa.concat_tables(heads)
        self._firsts = np.array([first for _, _, first in self._groups])
        self._length = position
        self._num_cached_groups = max(1, min(num_cached_groups, _CACHE_BYTES // max(1, largest)))
        self.by_identity: Mapping[int, tuple[int, ...]] = _index(head["identity_seed"].to_pylist())
        self.by_speaker: Mapping[str, tuple[int, ...]] = _index(head["speaker"].to_pylist())
        self.by_emotion: Mapping[int, tuple[int, ...]] = _index(head["emotion"].to_pylist())

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Clip:
        if not -self._length <= index < self._length:
            raise IndexError(f"clip {index} does not exist; the corpus has {self._length} clips")
        index %= self._length
        group = int(np.searchsorted(self._firsts, index, side="right")) - 1
        return self._group(group)[index - int(self._firsts[group])]

    def __iter__(self) -> Iterator[Clip]:
        return (self[index] for index in range(self._length))

    @cached_property
    def _group(self) -> Callable[[int], tuple[Clip, ...]]:
        def read(group: int) -> tuple[Clip, ...]:
            shard, row_group, _ = self._groups[group]
            path = self._shards[shard]
            listing = path.with_name(PHOTOGRAPHS_LISTING)
            clips = _clips(_read(_open(path), path, row_group=row_group))
            if not listing.is_file():
                return tuple(clips)
            return tuple(replace(clip, photographs=listing) for clip in clips)

        return lru_cache(self._num_cached_groups)(read)

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in self.__dict__.items() if name != "_group"}


def read_corpus(folder: Path, split: Split, num_cached_groups: int = 256) -> Corpus:
    """Open one split of a corpus. The cache holds `num_cached_groups` x 8 clips, up to 0.4 GB.

    Raises:
        InputError: the folder holds no corpus or lacks the split; a shard has another schema version or is corrupt.
    """
    if not any(folder.glob("*.parquet")):
        raise InputError(
            code="corpus_missing",
            message=f"{folder} is not a corpus: it holds no Parquet shards",
            remedy="Write one with `emotivetalk synthesize` or `emotivetalk prepare`, or name the folder that holds the shards",
        )
    shards = sorted(folder.glob(f"{split}-*.parquet"))
    if not shards:
        found = sorted({path.name.rsplit("-", 1)[0] for path in folder.glob("*.parquet")})
        raise InputError(
            code="corpus_split_missing",
            message=f"{folder} has no split {split!r}, only {', '.join(found)}",
            remedy="Write the corpus again with that split",
        )
    return Corpus(shards, num_cached_groups)


def _open(path: Path) -> pq.ParquetFile:
    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise _corrupt(path, error) from error
    version = (file.schema_arrow.metadata or {}).get(_VERSION_KEY)
    if version is None:
        raise InputError(
            code="corpus_missing",
            message=f"{path} is a Parquet file, but not a shard of a corpus",
            remedy="Name a folder that `emotivetalk synthesize` or `emotivetalk prepare` wrote",
        )
    if version.decode() not in READABLE_VERSIONS:
        raise InputError(
            code="corpus_version",
            message=f"{path} has schema version {version.decode()}; this program reads {' and '.join(READABLE_VERSIONS)}",
            remedy="Write the corpus again with this program",
        )
    return file


def _read(file: pq.ParquetFile, path: Path, columns: list[str] | None = None, row_group: int | None = None) -> pa.Table:
    try:
        return file.read(columns) if row_group is None else file.read_row_group(row_group, columns)
    except (pa.ArrowInvalid, OSError) as error:
        raise _corrupt(path, error) from error


def _corrupt(path: Path, error: Exception) -> InputError:
    return InputError(
        code="corpus_shard_corrupt",
        message=f"{path} cannot be read ({str(error).splitlines()[0]})",
        remedy="Write the corpus again, or delete this shard",
    )


def _clips(table: pa.Table) -> Iterator[Clip]:
    table = table.combine_chunks()
    plain = ("clip_id", "split", "identity_seed", "speaker", "text", "engine", "voice", "emotion", "intensity", "seed")
    values = {name: table[name].to_pylist() for name in plain}
    has_new = "frames" in table.column_names  # since version 2
    for row in range(len(table)):
        yield Clip(
            **{name: values[name][row] for name in plain},
            emotion_per_frame=table["emotion_per_frame"][row].values.to_numpy().astype(np.int64),
            waveform=to_float(np.frombuffer(table["waveform"][row].as_buffer(), "<i2")),
            lip=_frames(table["lip"][row], len(LIP)),
            expression=_frames(table["expression"][row], len(EXPRESSION)),
            pose=_frames(table["pose"][row], len(POSE)),
            frames=_pictures(table["frames"][row]) if has_new else None,
            label_source=table["label_source"][row].as_py() if has_new else "synthetic",
        )


def _pictures(frames: pa.ListScalar) -> tuple[bytes, ...] | None:
    return tuple(frames.as_py()) if frames.is_valid else None


def _frames(track: pa.ListScalar, size: int) -> Float[np.ndarray, "frames dim"]:
    return track.values.flatten().to_numpy().reshape(-1, size)


KeyT = TypeVar("KeyT")


def _index(keys: Iterable[KeyT | None]) -> dict[KeyT, tuple[int, ...]]:
    positions: dict[KeyT, list[int]] = {}
    for position, key in enumerate(keys):
        if key is not None:
            positions.setdefault(key, []).append(position)
    return {key: tuple(found) for key, found in positions.items()}
