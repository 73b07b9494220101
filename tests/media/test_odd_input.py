"""Inputs that players and viewers accept although their headers are wrong, and outputs that must not be lost."""

import json
import os
import re
import signal
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from PIL import Image, ImageCms

from emotivetalk.errors import InputError
from emotivetalk.files import atomic_write, check_not_input, check_writable
from emotivetalk.limits import Limits
from emotivetalk.media.audio import load_speech, read_sound
from emotivetalk.media.checkpoints import find_checkpoint
from emotivetalk.media.containers import open_media
from emotivetalk.media.encoding import BLOCK, MAX_BLOCKS, MAX_SIDE, playable_size
from emotivetalk.media.image import load_image
from emotivetalk.media.mux import VideoWriter
from emotivetalk.media.video import read_frames
from emotivetalk.timebase import SAMPLE_RATE_HZ


def write_wav(path: Path, waveform: np.ndarray) -> bytearray:
    soundfile.write(path, waveform, SAMPLE_RATE_HZ, subtype="PCM_16")
    return bytearray(path.read_bytes())


@pytest.mark.parametrize("size", [0, 0x7FFFF000, 2_000_000_000, 0xFFFFFFFF])
def test_a_wav_that_was_streamed_has_the_length_of_the_file(speechlike: Callable, tmp_path: Path, size: int) -> None:
    data = write_wav(tmp_path / "a.wav", speechlike(1.0))
    data[40:44] = struct.pack("<I", size)
    (tmp_path / "a.wav").write_bytes(data)
    assert load_speech(tmp_path / "a.wav").duration_s == 1.0


def test_a_wrong_byte_rate_does_not_make_a_wav_cut_off(speechlike: Callable, tmp_path: Path) -> None:
    data = write_wav(tmp_path / "a.wav", speechlike(1.0))
    data[28:32] = struct.pack("<I", SAMPLE_RATE_HZ)
    (tmp_path / "a.wav").write_bytes(data)
    assert load_speech(tmp_path / "a.wav").duration_s == 1.0


def write_tracks(
    path: Path, sounds: list[np.ndarray], num_frames: int = 0, codecs: tuple[str, str] = ("libx264", "aac")
) -> None:
    """Write sound tracks of 16 kHz, and a video track if there are frames."""
    with av.open(str(path), "w") as container:
        video = container.add_stream(codecs[0], rate=25) if num_frames else None
        streams = [container.add_stream(codecs[1], rate=48_000, layout="mono") for _ in sounds]
        if video is not None:
            video.width, video.height, video.pix_fmt = 64, 64, "yuv420p"
            for _ in range(num_frames):
                container.mux(video.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), "rgb24")))
            container.mux(video.encode(None))
        for stream, sound in zip(streams, sounds, strict=True):
            frame = av.AudioFrame.from_ndarray(sound[None].astype(np.float32), format="fltp", layout="mono")
            frame.sample_rate = SAMPLE_RATE_HZ
            resampler = av.AudioResampler(format=stream.codec_context.format, layout="mono", rate=48_000)
            for resampled in [*resampler.resample(frame), *resampler.resample(None)]:
                container.mux(stream.encode(resampled))
            container.mux(stream.encode(None))


@pytest.mark.parametrize(
    ("name", "codecs"),
    [("a.mkv", ("libx264", "aac")), ("a.mp4", ("libx264", "aac")), ("a.webm", ("libvpx", "libopus"))],
)
def test_pictures_may_last_longer_than_the_sound(
    speechlike: Callable, tmp_path: Path, name: str, codecs: tuple[str, str]
) -> None:
    write_tracks(tmp_path / name, [speechlike(1.0)], 75, codecs)
    assert load_speech(tmp_path / name).duration_s == pytest.approx(1.0, abs=0.1)


def test_lost_packets_leave_silence(speechlike: Callable, lag_ms: Callable, tmp_path: Path) -> None:
    waveform = speechlike(3.0)
    write_tracks(tmp_path / "whole.mka", [waveform], codecs=("", "libopus"))
    with av.open(str(tmp_path / "whole.mka")) as source, av.open(str(tmp_path / "gap.mka"), "w") as target:
        stream = target.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux(source.streams.audio[0]):
            if packet.pts is not None and not 1.0 <= packet.pts * packet.time_base < 1.5:
                packet.stream = stream
                target.mux(packet)
    for samples in (load_speech(tmp_path / "gap.mka").waveform, read_sound(tmp_path / "gap.mka")[0]):
        assert len(samples) / SAMPLE_RATE_HZ == pytest.approx(3.0, abs=0.05)
        assert np.abs(samples[round(1.1 * SAMPLE_RATE_HZ) : round(1.4 * SAMPLE_RATE_HZ)]).max() < 0.01
        after = slice(2 * SAMPLE_RATE_HZ, 3 * SAMPLE_RATE_HZ)
        assert abs(lag_ms(waveform[after], samples[after])) < 10


def test_two_joined_mp3s_are_read(speechlike: Callable, write_audio: Callable, tmp_path: Path) -> None:
    sound = np.repeat(speechlike(1.0), 3)
    one = write_audio(tmp_path / "one.mp3", sound, "libmp3lame").read_bytes()
    (tmp_path / "two.mp3").write_bytes(one + one)
    assert load_speech(tmp_path / "two.mp3").duration_s == pytest.approx(2.0, abs=0.2)


def test_speech_in_the_center_channel_keeps_its_level(speechlike: Callable, tmp_path: Path) -> None:
    waveform = speechlike(1.0)
    channels = np.zeros((len(waveform), 6), np.float32)
    channels[:, 2] = waveform  # FL FR FC LFE BL BR
    soundfile.write(tmp_path / "a.flac", channels, SAMPLE_RATE_HZ)
    assert np.abs(load_speech(tmp_path / "a.flac").waveform - waveform).max() < 1e-3


def test_a_silent_first_track_is_passed_over(speechlike: Callable, tmp_path: Path) -> None:
    write_tracks(tmp_path / "a.mp4", [np.zeros(SAMPLE_RATE_HZ, np.float32), speechlike(1.0)], 25)
    assert np.abs(load_speech(tmp_path / "a.mp4").waveform).max() > 0.3
    write_tracks(tmp_path / "b.mp4", [np.zeros(SAMPLE_RATE_HZ, np.float32)] * 2)
    with pytest.raises(InputError) as caught:
        load_speech(tmp_path / "b.mp4")
    assert caught.value.code == "audio_silent"


def test_a_track_can_be_chosen(speechlike: Callable, tmp_path: Path) -> None:
    quiet = speechlike(1.0)
    write_tracks(tmp_path / "a.mp4", [np.zeros(SAMPLE_RATE_HZ, np.float32), 0.2 * quiet, quiet], 25)
    peaks = [np.abs(load_speech(tmp_path / "a.mp4", audio_track=number).waveform).max() for number in (2, 3)]
    assert peaks[1] > 3 * peaks[0]
    with pytest.raises(InputError) as caught:
        load_speech(tmp_path / "a.mp4", audio_track=1)
    assert caught.value.code == "audio_silent"
    with pytest.raises(
        InputError, match=r"has 3 sound tracks; there is no track 4. Give a number from 1 to 3"
    ) as caught:
        load_speech(tmp_path / "a.mp4", audio_track=4)
    assert caught.value.code == "audio_track_missing"
    write_wav(tmp_path / "a.wav", quiet)
    with pytest.raises(InputError, match="has 1 sound track; there is no track 2"):
        load_speech(tmp_path / "a.wav", audio_track=2)


def test_a_gif_is_a_video(tmp_path: Path) -> None:
    pictures = [Image.new("RGB", (64, 48), color) for color in ("red", "blue", "red")]
    pictures[0].save(tmp_path / "a.gif", save_all=True, append_images=pictures[1:], duration=200)
    frames = read_frames(tmp_path / "a.gif")
    assert frames.shape[1:] == (48, 64, 3) and len(frames) == pytest.approx(15, abs=2)
    for kind, hint in (("audio", "WAV"), ("video", "WebM")):
        (tmp_path / "x").write_bytes(b"hello")
        with pytest.raises(InputError, match=hint), open_media(tmp_path / "x", kind, Limits()):
            pass


def swapped_profile() -> bytes:
    """sRGB with the primaries of red and green exchanged."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    for index in range(struct.unpack_from(">I", data, 128)[0]):
        at = 132 + 12 * index
        name = bytes(data[at : at + 4])
        if name in (b"rXYZ", b"gXYZ"):
            data[at : at + 4] = b"gXYZ" if name == b"rXYZ" else b"rXYZ"
    return bytes(data)


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_a_color_profile_is_applied(tmp_path: Path, mode: str) -> None:
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (80, 80, 3), dtype=np.uint8)
    stored = Image.fromarray(pixels[..., [1, 0, 2]]).convert(mode)
    stored.save(tmp_path / "a.png", icc_profile=swapped_profile())
    assert np.abs(load_image(tmp_path / "a.png").astype(int) - pixels).max() <= 3
    stored.save(tmp_path / "b.png", icc_profile=b"broken")
    np.testing.assert_array_equal(load_image(tmp_path / "b.png"), pixels[..., [1, 0, 2]])


def test_broken_exif_beside_the_orientation_is_ignored(tmp_path: Path) -> None:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (80, 120, 3), dtype=np.uint8))
    entries = struct.pack(">HHIHH", 0x0112, 3, 1, 6, 0) + struct.pack(">HHII", 0x011A, 10, 1, 38)
    exif = b"Exif\0\0MM\0*\0\0\0\x08" + struct.pack(">H", 2) + entries + b"\0\0\0\0" + struct.pack(">ii", -1, 0)
    picture.save(tmp_path / "a.jpg", exif=exif)
    assert load_image(tmp_path / "a.jpg").shape == (120, 80, 3)


def test_floats_are_named(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((80, 80), np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(InputError, match="32-bit floats") as caught:
        load_image(tmp_path / "a.tif")
    assert caught.value.code == "image_mode"


def test_only_the_end_mark_of_a_jpeg_may_be_missing(tmp_path: Path) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8))
    path = tmp_path / "a.jpg"
    for progressive in (False, True):
        noise.save(path, progressive=progressive)
        whole, data = load_image(path), path.read_bytes()
        path.write_bytes(data[:-2])
        np.testing.assert_array_equal(load_image(path), whole)
        scans = [place.start() for place in re.finditer(rb"\xff\xda", data)]  # at their ends the file holds all rows
        assert (len(scans) > 1) == progressive
        for size in (len(data) // 2, len(data) - 1000, *scans[1:], *(place + 14 for place in scans)):
            path.write_bytes(data[:size])
            with pytest.raises(InputError, match="truncated") as caught:
                load_image(path)
            assert caught.value.code == "image_truncated"


@pytest.mark.parametrize("size", [(16_500, 2_400), (4_000, 3_000), (9_000, 9_000), (40_000, 100), (513, 511)])
def test_videos_stay_within_level_5_2(size: tuple[int, int]) -> None:
    width, height = playable_size(*size)
    assert width % 2 == height % 2 == 0 and max(width, height) <= MAX_SIDE
    assert -(-width // BLOCK) * -(-height // BLOCK) <= MAX_BLOCKS
    assert width / height == pytest.approx(size[0] / size[1], rel=0.1)


def test_large_frames_are_scaled_down(tmp_path: Path) -> None:
    frames = np.full((1, 3_000, 4_000, 3), 200, np.uint8)
    with VideoWriter(tmp_path / "a.mp4", 4_000, 3_000) as writer:
        writer.write(frames)
    with av.open(str(tmp_path / "a.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height) == playable_size(4_000, 3_000)
        assert abs(next(container.decode(stream)).to_ndarray(format="rgb24").mean() - 200) < 4
    with pytest.raises(InputError) as caught:
        VideoWriter(tmp_path / "b.mp4", 40_000, 20)
    assert caught.value.code == "video_size"


@pytest.mark.parametrize("target", ["nothing", "link.mp4", "no/folder"])
def test_a_dangling_link_is_no_output(tmp_path: Path, target: str) -> None:
    (tmp_path / "link.mp4").symlink_to(tmp_path / target)
    with pytest.raises(InputError) as caught:
        check_writable(tmp_path / "link.mp4")
    assert caught.value.code == "output_dangling_link"


def test_an_input_is_no_output(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"sound")
    (tmp_path / "link.mp4").symlink_to(tmp_path / "a.mp4")
    with pytest.raises(InputError, match="is the audio file") as caught:
        check_not_input(tmp_path / "link.mp4", {"audio": tmp_path / "a.mp4"})
    assert caught.value.code == "output_is_input"
    check_not_input(tmp_path / "new.mp4", {"audio": tmp_path / "a.mp4"})


def test_of_two_writers_the_second_keeps_the_firsts_file(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with pytest.raises(InputError) as caught, atomic_write(path, keep_existing=True) as second:
        second.write_bytes(b"second")
        with atomic_write(path, keep_existing=True) as first:
            first.write_bytes(b"first")
    assert caught.value.code == "output_exists"
    assert [file.name for file in tmp_path.iterdir()] == ["a.mp4"] and path.read_bytes() == b"first"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_nothing_behind(tmp_path: Path, number: signal.Signals) -> None:
    code = (
        "import sys, time; from pathlib import Path; from emotivetalk.files import atomic_write\n"
        "with atomic_write(Path(sys.argv[1])) as file: print(file, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "a.mp4")], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert Path(os.fsdecode(process.stdout.readline().strip())).exists()
        process.send_signal(number)
        assert process.wait(timeout=30) == -number
    assert not list(tmp_path.iterdir())


def write_checkpoint(folder: Path) -> Path:
    header = json.dumps({"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}).encode()
    (folder / "vae").mkdir(parents=True)
    (folder / "model_index.json").write_text("{}")
    (folder / "vae" / "config.json").write_text("{}")
    (folder / "vae" / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(16))
    return folder


@pytest.mark.parametrize(
    ("name", "change", "match"),
    [
        ("vae/model.safetensors", lambda data: data[:-5], "is cut off"),
        ("vae/model.safetensors", lambda data: data[:4], "is cut off"),
        ("vae/model.safetensors", lambda data: b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        ("vae/config.json", lambda data: b"{", "is not JSON"),
        ("model_index.json", lambda data: b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    ],
)
def test_a_damaged_checkpoint_is_said_before_it_is_loaded(
    tmp_path: Path, name: str, change: Callable[[bytes], bytes], match: str
) -> None:
    folder = write_checkpoint(tmp_path / "c")
    assert find_checkpoint(folder) == folder
    (folder / name).write_bytes(change((folder / name).read_bytes()))
    with pytest.raises(InputError, match=match) as caught:
        find_checkpoint(folder)
    assert caught.value.code == "checkpoint_invalid"


def test_odd_files_of_a_folder_are_listed(tmp_path: Path) -> None:
    from emotivetalk.corpus.preparing.sources import find_sources

    folder = tmp_path / "raw"
    folder.mkdir()
    with open(os.fsencode(folder) + b"/caf\xe9.mp4", "wb") as file:
        file.write(b"video")
    (folder / "link.mp4").symlink_to(tmp_path / "nothing")
    Image.new("RGB", (64, 64)).save(folder / "a.gif")
    names = [source.name for source in find_sources([str(folder)], {})]
    assert names == ["raw/a.gif", "raw/caf\\xe9.mp4", "raw/link.mp4"]
    for name in names:
        name.encode()


def test_a_byte_order_mark_does_not_spoil_a_track(tmp_path: Path) -> None:
    from emotivetalk.request.emotion import read_track

    keys = json.dumps([{"time_s": 0.0, "emotion": "happy"}, {"time_s": 1.0, "emotion": "sad"}])
    (tmp_path / "a.json").write_text(keys, encoding="utf-8")
    (tmp_path / "bom.json").write_text(keys, encoding="utf-8-sig")
    assert read_track(tmp_path / "bom.json") == read_track(tmp_path / "a.json")
