"""Assembly of a corpus: its folder with settings and parts, its shards, and the held-out speakers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from emotivetalk.corpus.preparing.results import FileRow, VideoSource, has_part, read_part, read_row
from emotivetalk.corpus.preparing.settings import PrepareSettings
from emotivetalk.corpus.records import Clip, Split, write_shards
from emotivetalk.errors import InputError
from emotivetalk.files import atomic_write, check_writable, quoted, writing

CLIPS_PER_SHARD = 256


class CorpusFolder:
    """Folder of a corpus of real video.

    It holds the shards, the report, `prepare.json` with the settings, and parts/ with a file for each raw video. Without
    parts/, adding videos later prepares all of them again.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.parts = folder / "parts"
        self._settings_file = folder / "prepare.json"
        self._shards_file = folder / "shards.json"

    def claim(self, settings: PrepareSettings) -> None:
        """Create the folder, or check that it holds a corpus with these settings.

        Raises:
            InputError: it holds another corpus or other settings, or is not writable.
        """
        if self.folder.exists() and not self.folder.is_dir():
            raise InputError(
                "output_not_folder", f"output {quoted(self.folder)} is not a folder", "Give a folder's name."
            )
        if self._settings_file.is_file():
            self._check_settings(settings)
        elif any(self.folder.glob("*.parquet")):
            raise InputError(
                "corpus_exists",
                f"{quoted(self.folder)} already holds a corpus that was not prepared from raw video",
                "Name another folder, or delete this one first.",
            )
        try:
            self.parts.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                "output_unwritable",
                f"output {quoted(self.folder)} cannot be created ({error.strerror})",
                "Choose a folder that you may write to.",
            ) from error
        check_writable(self._settings_file)
        check_writable(self.parts / "part.parquet")
        _write_json(self._settings_file, settings.as_json())

    def missing(self, sources: Iterable[VideoSource], settings: PrepareSettings) -> list[VideoSource]:
        """Return the sources without a valid part, in their order."""
        return [source for source in sources if not has_part(self.parts, source, settings.key)]

    def rows(self, sources: Iterable[VideoSource]) -> list[FileRow]:
        """Read the result of each source. Raises InputError if a part cannot be read."""
        return [read_row(self.parts, source) for source in sources]

    def assemble(
        self, sources: Sequence[VideoSource], rows: Sequence[FileRow], settings: PrepareSettings
    ) -> tuple[Path, ...]:
        """Write the shards, unless they exist and are made of the same parts, and return their paths.

        Raises:
            InputError: a part cannot be read.
            OutputError: the disk is full.
        """
        stamp = hashlib.sha256("".join(source.stamp(settings.key) for source in sources).encode()).hexdigest()
        if self._shards_file.is_file():
            done = json.loads(self._shards_file.read_text(encoding="utf-8"))
            shards = tuple(self.folder / name for name in done["shards"])
            if done["stamp"] == stamp and all(shard.is_file() for shard in shards):
                return shards
            self._shards_file.unlink()  # first, so that an incomplete set is never mistaken for a complete one
        for shard in self.folder.glob("*.parquet"):
            shard.unlink()
        held_out = held_out_speakers({row.label.speaker for row in rows if row.num_kept}, settings.held_out)
        with writing(self.folder):
            shards = tuple(sorted(write_shards(self._clips(sources, held_out), self.folder, CLIPS_PER_SHARD)))
        _write_json(self._shards_file, {"stamp": stamp, "shards": [shard.name for shard in shards]})
        return shards

    def _clips(self, sources: Sequence[VideoSource], held_out: frozenset[str]) -> Iterator[Clip]:
        for source in sources:
            for clip in read_part(self.parts, source):
                yield replace(clip, split=split_of(clip.speaker, held_out))

    def _check_settings(self, settings: PrepareSettings) -> None:
        try:
            found = json.loads(self._settings_file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(
                "corpus_settings", f"{quoted(self._settings_file)} cannot be read ({error})", "Name another folder."
            ) from error
        expected = settings.as_json()
        different = [name for name in expected if found.get(name) != expected[name]]
        if different:
            name = different[0]
            raise InputError(
                "corpus_settings",
                f"{quoted(self.folder)} holds a corpus prepared with {name} {found.get(name)!r}; now it is {expected[name]!r}",
                "Give the same options, name another folder, or delete this one first.",
            )


def held_out_speakers(speakers: Iterable[str], share: float) -> frozenset[str]:
    """Choose the held-out speakers by a hash of their names, so that further videos do not move known speakers.

    With two or more speakers and a share above 0, at least one is held out and at least one is not.
    """
    ranked = sorted(speakers, key=_rank)
    if share <= 0 or len(ranked) < 2:
        return frozenset()
    num = sum(_rank(speaker) < share for speaker in ranked)
    return frozenset(ranked[: min(max(num, 1), len(ranked) - 1)])


def split_of(speaker: str, held_out: frozenset[str]) -> Split:
    """Return the split of a speaker's clips."""
    return "held_out" if speaker in held_out else "train"


def _rank(speaker: str) -> float:
    """Map a name to a number that is evenly distributed in 0..1."""
    return int.from_bytes(hashlib.sha256(speaker.encode()).digest()[:6]) / 2**48


def _write_json(path: Path, value: object) -> None:
    with atomic_write(path) as temporary, writing(path):
        temporary.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n", encoding="utf-8")
