"""Open media files with PyAV: only media containers, only local files, a bounded number of streams."""

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Stream

from emotivetalk.errors import InputError
from emotivetalk.files import check_readable, quoted
from emotivetalk.limits import Limits, say_duration

# FFmpeg also "opens" playlists, text, pictures and devices; a playlist names further files and addresses to read.
READABLE_FORMATS = (
    "wav,w64,aiff,caf,mp3,aac,ac3,eac3,flac,ogg,wv,matroska,webm,mov,mp4,m4a,3gp,3g2,mj2,avi,asf,flv,mpeg,mpegts,amr,au"
)
FORMAT_HINTS = {"audio": "WAV, MP3, M4A, FLAC, OGG or MP4", "video": "MP4, MOV, MKV, WebM, AVI or GIF"}
PLACEHOLDER_BYTES = 1_000_000_000  # a size that is larger, and larger than the file, was written before the sound was
PCM_CODECS = {1, 3, 0xFFFE}  # a block is one sample of all channels: integers, floats, extensible
# These have no header that knows the length: FFmpeg's duration is a guess from the bit rate.
WITHOUT_CLAIM = {"aac", "ac3", "eac3", "amr", "mpeg", "mpegts"}


@contextmanager
def open_media(path: Path, kind: str, limits: Limits) -> Iterator[InputContainer]:
    """Open an audio or video file for decoding. Errors of the decoder within the block become an InputError.

    Args:
        kind: "audio" or "video", for messages.
    """
    check_readable(path, kind, limits.media_bytes)
    formats = READABLE_FORMATS + (",gif" if kind == "video" else "")
    options = {"protocol_whitelist": "file", "format_whitelist": formats}
    try:
        container = av.open(f"file:{path.absolute()}", options=options, metadata_errors="replace")
    except (FFmpegError, ValueError) as error:
        raise InputError(
            f"{kind}_unreadable",
            f"{kind} {quoted(path)} is not a media file that can be read, or is cut off at its start",
            f"Export it again, as {FORMAT_HINTS.get(kind, FORMAT_HINTS['audio'])}.",
        ) from error
    with container:
        if len(container.streams) > limits.streams:
            raise InputError(
                f"{kind}_too_many_streams",
                f"{kind} {quoted(path)} has {len(container.streams)} streams; the limit is {limits.streams}",
                "Export it with one picture and one sound track.",
            )
        try:
            yield container
        except (FFmpegError, EOFError) as error:
            raise InputError(
                f"{kind}_corrupt",
                f"{kind} {quoted(path)} is damaged: decoding failed ({error})",
                "Copy or export it again.",
            ) from error


def claimed_duration_s(path: Path, container: InputContainer, stream: Stream) -> float | None:
    """Length of a stream by the file's header, in seconds; None if the header does not say.

    FFmpeg is not asked where it measures or guesses: in WAV it gives the length of what is left of a cut file, in formats
    without a header a guess by the bit rate.
    """
    names = set(container.format.name.split(","))
    if "wav" in names:
        return _wav_claim_s(path)
    if names & WITHOUT_CLAIM or ("mp3" in names and not _has_mp3_header(path)):
        return None
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    tag = stream.metadata.get("DURATION")  # Matroska's, "00:00:01.200000000"
    if tag is not None:
        return _seconds(tag)
    # The container's length is that of its longest stream.
    return container_duration_s(container) if len(container.streams) == 1 else None


def container_duration_s(container: InputContainer) -> float | None:
    """Length of a file's longest stream by the header, in seconds."""
    return None if container.duration is None else container.duration / av.time_base


def _seconds(tag: str) -> float | None:
    try:
        hours, minutes, seconds = (float(part) for part in tag.split(":"))
    except ValueError:
        return None
    return hours * 3600 + minutes * 60 + seconds


def _wav_claim_s(path: Path) -> float | None:
    """Length of a WAV's data chunk in seconds; None if its size is a placeholder, as programs that stream write it."""
    bytes_per_s = 0
    with path.open("rb") as file:
        end = os.fstat(file.fileno()).st_size
        file.seek(12)  # "RIFF", size, "WAVE"
        while len(header := file.read(8)) == 8:
            name, size = struct.unpack("<4sI", header)
            if name == b"data":
                is_placeholder = size == 0 or (size > PLACEHOLDER_BYTES and size > end - file.tell())
                return size / bytes_per_s if bytes_per_s and not is_placeholder else None
            chunk = file.read(size + size % 2) if name == b"fmt " else b""
            if name == b"fmt " and size >= 16:
                # The field "bytes per second" is often wrong, and nothing that plays the file reads it.
                codec, _, rate_hz, average, block_bytes = struct.unpack_from("<HHIIH", chunk)
                bytes_per_s = rate_hz * block_bytes if codec in PCM_CODECS else average
            elif name != b"fmt ":
                file.seek(size + size % 2, os.SEEK_CUR)
    return None


def is_cut_off(path: Path) -> bool:
    """Return True for an MP4, QuickTime or AVI file that is shorter than its header says, or an MP4 without an index.

    FFmpeg reports an MP4 without an index as "invalid", the same as noise, and takes the rest of a cut AVI for the whole.
    """
    try:
        with path.open("rb") as file:
            start = file.read(12)
            if start[:4] == b"RIFF" and start[8:] == b"AVI ":
                return os.fstat(file.fileno()).st_size < 8 + struct.unpack_from("<I", start, 4)[0]
    except OSError:
        return False  # opening the file will report the error
    return _is_cut_mp4(path)


def _is_cut_mp4(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            end, position, names = os.fstat(file.fileno()).st_size, 0, []
            while position + 8 <= end:
                file.seek(position)
                size, name = struct.unpack(">I4s", file.read(8))
                if size == 1 and position + 16 <= end:
                    (size,) = struct.unpack(">Q", file.read(8))
                size = end - position if size == 0 else size
                if (not names and name != b"ftyp") or size < 8:
                    break
                names.append(name)
                position += size
    except OSError:
        return False
    return bool(names) and (position > end or b"moov" not in names)


def _has_mp3_header(path: Path) -> bool:
    """Return True if the first frame after an ID3 tag is an encoder's header, which has the number of frames.

    It contains "Xing", or "Info" if the bit rate is constant.
    """
    with path.open("rb") as file:
        start = file.read(10)
        if start[:3] == b"ID3" and len(start) == 10:
            size = sum((byte & 0x7F) << shift for byte, shift in zip(start[6:], (21, 14, 7, 0), strict=True))
            file.seek(10 + size)
        else:
            file.seek(0)
        first_frame = file.read(200)
    return b"Xing" in first_frame or b"Info" in first_frame


def check_complete(path: Path, kind: str, claimed_s: float | None, found_s: float) -> None:
    """Raise InputError if much less could be decoded than the header says: the file was cut off."""
    if claimed_s is not None and found_s < claimed_s - max(0.25, 0.02 * claimed_s):
        raise InputError(
            f"{kind}_truncated",
            f"{kind} {quoted(path)} is cut off: it should last {say_duration(claimed_s)}, "
            f"only {say_duration(found_s)} are there",
            "Copy or export it again.",
        )


def too_long(path: Path, kind: str, duration_s: float, limit_s: float) -> InputError:
    """Build the error for a file that is longer than its limit."""
    return InputError(
        f"{kind}_too_long",
        f"{kind} {quoted(path)} is {say_duration(duration_s)} long; the limit is {say_duration(limit_s)}",
        f"Split it, or raise limits.{kind}_s"
        + (" (--max-minutes of emotivetalk generate)." if kind == "audio" else "."),
    )
