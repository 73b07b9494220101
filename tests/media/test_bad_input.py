"""Errors for bad input: each has its code, names the input and the limit, and says what to do."""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from PIL import Image

from emotivetalk.errors import EmotiveTalkError, InputError
from emotivetalk.limits import Limits
from emotivetalk.media.audio import load_speech
from emotivetalk.media.image import load_image
from emotivetalk.media.provenance import read_provenance
from emotivetalk.media.video import read_frames

Make = Callable[[Path], None]


def noise_image(height: int = 96, width: int = 96) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8))


def cut(path: Path, fraction: float) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * fraction)])


def truncated_image(path: Path) -> None:
    noise_image().save(path)
    cut(path, 0.5)


def animated(path: Path) -> None:
    noise_image().save(path, save_all=True, append_images=[noise_image().rotate(90)])


def png_header(path: Path, width: int, height: int) -> None:
    """A picture that claims its size in 70 bytes: whoever decodes it to find out has lost."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")))


def huge(path: Path) -> None:
    png_header(path, 20_000, 10_000)


def large(path: Path) -> None:
    png_header(path, 10_000, 6_000)


def tone(duration_s: float, level: float = 0.5, rate: int = 16_000) -> np.ndarray:
    return (level * np.sin(np.arange(round(duration_s * rate)) * 0.2)).astype(np.float32)


def wav(duration_s: float, level: float = 0.5, poison: float | None = None, rate: int = 16_000) -> Make:
    def make(path: Path) -> None:
        waveform = tone(duration_s, level, rate)
        if poison is not None:
            waveform[len(waveform) // 2] = poison
        soundfile.write(path, waveform, rate, subtype="PCM_16" if poison is None else "FLOAT", format="WAV")

    return make


def truncated_sound(file_format: str, subtype: str) -> Make:
    def make(path: Path) -> None:
        noise = np.random.default_rng(0).uniform(-0.5, 0.5, 32_000)
        soundfile.write(path, noise, 16_000, format=file_format, subtype=subtype)
        cut(path, 0.5)

    return make


def film(num_frames: int, fps: int = 25, side: int = 64, kept: float = 1.0, **options: str) -> Make:
    def make(path: Path) -> None:
        noise = np.random.default_rng(0).integers(0, 255, (num_frames, side, side, 3), dtype=np.uint8)
        with av.open(str(path), "w", options=options) as container:
            stream = container.add_stream("libx264", rate=fps)
            stream.width, stream.height, stream.pix_fmt = side, side, "yuv420p"
            for image in noise:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            container.mux(stream.encode(None))
        cut(path, kept)

    return make


def content(data: bytes) -> Make:
    return lambda path: path.write_bytes(data) and None


def playlist(path: Path) -> None:
    """A playlist reads further files: it must not be followed."""
    wav(1)(path.with_name("secret.wav"))
    path.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nsecret.wav\n#EXT-X-ENDLIST\n")


def missing(path: Path) -> None:
    assert not path.exists()


SMALL = Limits(audio_s=1.0, video_s=1.0, image_bytes=10_000, video_pixels=3_000)

IMAGES = [
    ("missing", "a.png", missing, "image_missing", "does not exist"),
    ("folder", "a.png", Path.mkdir, "image_is_folder", "is a folder"),
    ("empty", "a.png", content(b""), "image_empty", "0 bytes"),
    ("text", "a.png", content(b"not an image at all"), "image_unreadable", "is not an image"),
    ("postscript", "a.eps", content(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\n"), "image_unreadable", "not"),
    ("truncated png", "a.png", truncated_image, "image_truncated", "truncated"),
    ("truncated jpeg", "a.jpg", truncated_image, "image_truncated", "truncated"),
    ("animated gif", "a.gif", animated, "image_animated", "holds 2 pictures"),
    ("animated webp", "a.webp", animated, "image_animated", "holds 2 pictures"),
    ("20 pixels", "a.png", lambda path: noise_image(20, 20).save(path), "image_too_small", "at least 64"),
    ("thin", "a.png", lambda path: noise_image(20, 500).save(path), "image_too_small", "500 x 20"),
    ("60 megapixels", "a.png", large, "image_too_large", "60 (10000 x 6000) megapixels; the limit is 50"),
    ("200 megapixels", "a.png", huge, "image_too_large", "megapixels; the limit is 50"),
    ("line break in its name", "a\nb.png", missing, "image_missing", "does not exist"),
]
SPEECH = [
    ("missing", "a.wav", missing, "audio_missing", "does not exist", Limits()),
    ("folder", "a.wav", Path.mkdir, "audio_is_folder", "is a folder", Limits()),
    ("empty", "a.wav", content(b""), "audio_empty", "0 bytes", Limits()),
    ("no samples", "a.wav", wav(0), "audio_empty", "0 s", Limits()),
    ("text", "a.wav", content(b"hello " * 100), "audio_unreadable", "not a media file", Limits()),
    ("picture", "a.png", lambda path: noise_image().save(path), "audio_unreadable", "not a media file", Limits()),
    ("playlist", "a.m3u8", playlist, "audio_unreadable", "not a media file", Limits()),
    ("video", "a.mp4", film(5), "audio_missing_stream", "is a video without audio", Limits()),
    ("silent", "a.wav", wav(1, level=0), "audio_silent", "is silent", Limits()),
    ("hiss", "a.wav", wav(1, level=5e-4), "audio_silent", "0.001 of full scale", Limits()),
    ("too short", "a.wav", wav(0.05), "audio_too_short", "0.05 s long; at least 0.1 s", Limits()),
    ("too long", "a.wav", wav(1.5), "audio_too_long", "1.5 s long; the limit is 1 s", SMALL),
    ("3.2 hours", "a.wav", wav(3.2 * 3600, rate=100), "audio_too_long", "3.2 h long; the limit is 2 h", Limits()),
    ("NaN", "a.wav", wav(1, poison=np.nan), "audio_not_finite", "NaN or infinite", Limits()),
    ("infinite", "a.wav", wav(1, poison=np.inf), "audio_not_finite", "first at 0.50 s", Limits()),
    ("truncated wav", "a.wav", truncated_sound("WAV", "PCM_16"), "audio_truncated", "should last 2 s", Limits()),
    ("truncated flac", "a.flac", truncated_sound("FLAC", "PCM_16"), None, "Copy or export", Limits()),
    ("truncated mp3", "a.mp3", truncated_sound("MP3", "MPEG_LAYER_III"), "audio_truncated", "should last 2", Limits()),
    ("truncated aiff", "a.aiff", truncated_sound("AIFF", "PCM_16"), "audio_truncated", "should last 2 s", Limits()),
    ("truncated mp4", "a.mp4", film(50, kept=0.5), "audio_unreadable", "cut off", Limits()),
    ("too many bytes", "a.wav", wav(1), "audio_too_many_bytes", "the limit is 0 MB", Limits(media_bytes=9)),
]
VIDEO = [
    ("missing", "a.mp4", missing, "video_missing", "does not exist", Limits()),
    ("text", "a.mp4", content(b"hello " * 100), "video_unreadable", "not a media file", Limits()),
    ("only sound", "a.wav", wav(1), "video_missing_stream", "sound but no pictures", Limits()),
    ("too long", "a.mp4", film(60), "video_too_long", "2.4 s long; the limit is 1 s", SMALL),
    ("too large", "a.mp4", film(3), "video_too_large", "64 x 64 pixels; the limit is 0.003", SMALL),
    ("truncated", "a.mp4", film(50, kept=0.5, movflags="faststart"), None, "Copy or export", Limits()),
    ("no index", "a.mp4", film(50, kept=0.5), "video_unreadable", "cut off", Limits()),
]


def check(raised: EmotiveTalkError, path: Path, code: str | None, says: str) -> None:
    assert isinstance(raised, InputError)
    assert code is None or raised.code == code
    assert repr(str(path)) in raised.message, "names the input"
    assert says in str(raised)
    assert raised.remedy.endswith(".") and raised.remedy[0].isupper()
    assert str(raised) == f"{raised.message}. {raised.remedy}"
    assert "\n" not in str(raised)


@pytest.mark.parametrize(("name", "make", "code", "says"), [case[1:] for case in IMAGES], ids=[c[0] for c in IMAGES])
def test_bad_image(tmp_path: Path, name: str, make: Make, code: str, says: str) -> None:
    path = tmp_path / name
    make(path)
    with pytest.raises(EmotiveTalkError) as caught:
        load_image(path)
    check(caught.value, path, code, says)


@pytest.mark.parametrize(
    ("name", "make", "code", "says", "limits"), [case[1:] for case in SPEECH], ids=[c[0] for c in SPEECH]
)
def test_bad_speech(tmp_path: Path, name: str, make: Make, code: str | None, says: str, limits: Limits) -> None:
    path = tmp_path / name
    make(path)
    with pytest.raises(EmotiveTalkError) as caught:
        load_speech(path, limits)
    check(caught.value, path, code, says)


@pytest.mark.parametrize(
    ("name", "make", "code", "says", "limits"), [case[1:] for case in VIDEO], ids=[c[0] for c in VIDEO]
)
def test_bad_video(tmp_path: Path, name: str, make: Make, code: str | None, says: str, limits: Limits) -> None:
    path = tmp_path / name
    make(path)
    limits = Limits(video_s=limits.video_s) if code == "video_too_long" else limits
    with pytest.raises(EmotiveTalkError) as caught:
        read_frames(path, limits=limits)
    check(caught.value, path, code, says)


def test_provenance_of_no_media_file(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_text("hello")
    with pytest.raises(InputError) as caught:
        read_provenance(path)
    check(caught.value, path, "video_unreadable", "not a media file")


def test_too_many_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.bmp"
    noise_image().save(path)
    with pytest.raises(InputError) as caught:
        load_image(path, SMALL)
    check(caught.value, path, "image_too_many_bytes", "the limit is 0 MB")
