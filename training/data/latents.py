"""What the frozen encoders see in the corpus, computed once and kept on disk for the stages that come after them.

`motion_latents` are the lip and expression latents of every frame of every clip; `video_latents` are a short window of
each clip at full size as the VAE's latents, with the motion latents of the same pictures; `audio_features` are what
the audio encoder hears. A cache belongs to the exact
corpus and encoder weights it was made from, and is made anew when either differs.
"""

from __future__ import annotations

import hashlib
import json
import math
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from numpy.lib import format as npy
from torch import Tensor

from emotivetalk.corpus.drawing import draw_clip
from emotivetalk.corpus.records import Split, read_corpus
from emotivetalk.errors import OutputError
from emotivetalk.media.processes import end_with_parent
from emotivetalk.models.autoencoder import LatentCodec
from emotivetalk.models.encoders import MOTION_SIZE, ExpressionEncoder, LipEncoder
from emotivetalk.models.precision import mixed_precision
from emotivetalk.training.checkpoints.frozen_networks import frozen
from emotivetalk.training.run.folder_lock import claimed

Arrays = dict[str, np.ndarray]
_STAMP = "key.json"


@dataclass(frozen=True)
class MotionLatents:
    """Of all clips of a split, in the corpus's order."""

    lip: Float[Tensor, "clips frames dim_lip"]
    expression: Float[Tensor, "clips frames dim_expression"]


@dataclass(frozen=True)
class VideoLatents:
    """A window of each clip, in half precision, on the disk until it is read.

    voice: the clip whose speech the lips speak, at the same frames. mouth, eyes: how much of each latent cell they
    cover, 0..1.
    """

    start: Int[Tensor, " clips"]
    voice: Int[Tensor, " clips"]
    latents: Float[Tensor, "clips frames channels h w"]
    lip: Float[Tensor, "clips frames dim_lip"]
    expression: Float[Tensor, "clips frames dim_expression"]
    mouth: Float[Tensor, "clips frames 1 h w"]
    eyes: Float[Tensor, "clips frames 1 h w"]


def motion_latents(corpus: Path, split: Split, checkpoint: Path, cache: Path, num_workers: int = 2) -> MotionLatents:
    """Lip and expression latents of every frame.

    Args:
        corpus: a corpus of clips of equal length.
        checkpoint: the folder with `lip_encoder/` and `expression_encoder/`.
        cache: a folder for the results.
    """
    encode = partial(_encode_motion, corpus, split, checkpoint)
    key = key_of(corpus, split, checkpoint, ["lip_encoder", "expression_encoder"], [])
    arrays = cached(cache / f"motion-{split}", key, encode, len(read_corpus(corpus, split)), num_workers)
    return MotionLatents(**{name: torch.from_numpy(a).float() for name, a in arrays.items()})


def video_latents(
    corpus: Path,
    split: Split,
    checkpoint: Path,
    cache: Path,
    size: int,
    num_frames: int,
    num_workers: int = 2,
    *,
    other_voices: bool = False,
) -> VideoLatents:
    """The VAE's latents of a window of `num_frames` of every clip, drawn at `size`.

    Args:
        checkpoint: the folder with `vae/`, `lip_encoder/` and `expression_encoder/`.
        other_voices: draw faces that speak what is said in some other clip; of a synthetic corpus of clips of equal length.
    """
    encode = partial(_encode_video, corpus, split, checkpoint, size, num_frames, other_voices)
    settings = [size, num_frames, int(other_voices)]
    key = key_of(corpus, split, checkpoint, ["vae", "lip_encoder", "expression_encoder"], settings)
    arrays = cached(cache / f"video-{split}", key, encode, len(read_corpus(corpus, split)), num_workers)
    return VideoLatents(**{name: torch.from_numpy(a) for name, a in arrays.items()})


def audio_features(
    corpus: Path, split: Split, checkpoint: Path, cache: Path, num_workers: int = 2
) -> Float[Tensor, "clips frames dim_audio"]:
    """What the audio encoder hears in every frame of every clip, in the corpus's order.

    Args:
        corpus: a corpus of clips of equal length.
        checkpoint: the folder with `audio_encoder/`.
        cache: a folder for the results.
    """
    encode = partial(_encode_audio, corpus, split, checkpoint)
    key = key_of(corpus, split, checkpoint, ["audio_encoder"], [])
    arrays = cached(cache / f"audio-{split}", key, encode, len(read_corpus(corpus, split)), num_workers)
    return torch.from_numpy(arrays["features"])


@torch.inference_mode()
def _encode_audio(corpus: Path, split: Split, checkpoint: Path, clips: range) -> Arrays:
    torch.set_num_threads(1)
    device = seeing_device()
    encoder = frozen(checkpoint, "audio_encoder").to(device)
    source = read_corpus(corpus, split)
    waveforms = torch.stack([torch.from_numpy(source[index].waveform) for index in clips])
    return {"features": encoder(waveforms.to(device)).float().cpu().numpy()}


@torch.inference_mode()
def _encode_motion(corpus: Path, split: Split, checkpoint: Path, clips: range) -> Arrays:
    torch.set_num_threads(1)
    lips, expressions = motion_encoders(checkpoint)
    source = read_corpus(corpus, split)
    rows: list[tuple[np.ndarray, np.ndarray]] = []
    for index in clips:
        images = draw_clip(source[index], size=MOTION_SIZE).images * 2 - 1
        rows.append(read_motion(lips, expressions, images.to(seeing_device())))
    lip, expression = (np.stack(column) for column in zip(*rows, strict=True))
    return {"lip": lip, "expression": expression}


@torch.inference_mode()
def _encode_video(
    corpus: Path, split: Split, checkpoint: Path, size: int, num_frames: int, other_voices: bool, clips: range
) -> Arrays:
    torch.set_num_threads(1)
    lips, expressions = motion_encoders(checkpoint)
    vae = frozen(checkpoint, "vae").to(seeing_device())
    vae.encoder.to(memory_format=torch.channels_last)  # a decoder over time has no such order
    codec = LatentCodec(vae)
    source = read_corpus(corpus, split)
    names = ("start", "voice", "latents", "lip", "expression", "mouth", "eyes")
    columns: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for index in clips:
        clip = source[index]
        generator = np.random.default_rng(clip.seed + index)
        start = int(generator.integers(clip.num_frames - num_frames + 1))
        voice, spoken, window = index, None, range(start, start + num_frames)
        if other_voices:
            voice = int(index + generator.integers(1, len(source))) % len(source)
            spoken = torch.tensor(source[voice].lip[start : start + num_frames])
        frames = draw_clip(clip, window, size, lip=spoken)
        images = (frames.images * 2 - 1).to(seeing_device(), memory_format=torch.channels_last)
        with mixed_precision(images.device):
            latents = codec.encode(images).float().cpu()
        lip, expression = read_motion(lips, expressions, images)
        cell = size // latents.shape[-1]
        row = {
            "start": np.int64(start),
            "voice": np.int64(voice),
            "latents": latents.numpy().astype(np.float16),
            "lip": lip,
            "expression": expression,
            "mouth": F.avg_pool2d(frames.mouth_mask, cell).numpy().astype(np.float16),
            "eyes": F.avg_pool2d(frames.eye_mask, cell).numpy().astype(np.float16),
        }
        for name, value in row.items():
            columns[name].append(value)
    return {name: np.stack(values) for name, values in columns.items()}


def motion_encoders(checkpoint: Path) -> tuple[LipEncoder, ExpressionEncoder]:
    """A checkpoint's lip and expression encoder, ready to see."""
    networks = (frozen(checkpoint, name) for name in ("lip_encoder", "expression_encoder"))
    lips, expressions = (network.to(seeing_device(), memory_format=torch.channels_last) for network in networks)
    return lips, expressions


def seeing_device() -> torch.device:
    """Where the frozen encoders run: on a GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def read_motion(lips: LipEncoder, expressions: ExpressionEncoder, images: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Lip and expression latents of pictures in -1..1, in half precision where that is quick."""
    with mixed_precision(images.device):
        lip = lips(images).float()
        hidden = expressions.hidden(images).float()
    expression = (hidden - expressions.center) @ expressions.directions
    return lip.cpu().numpy().astype(np.float16), expression.cpu().numpy().astype(np.float16)


def cached(folder: Path, key: str, encode: Callable[[range], Arrays], num_clips: int, num_workers: int) -> Arrays:
    """The arrays kept in `folder`, mapped into memory rather than read.

    What is missing, or was made with another `key`, is made first: in processes of one thread each, written part by
    part, so that memory stays flat and who stops on the way goes on there. Of several runs that want it, one makes it.
    """
    if _num_done(folder, key) == num_clips:
        return _mapped(folder)
    with _telling(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with claimed(folder, wait_s=math.inf):  # whoever comes second finds the work done
        _make(folder, key, encode, num_clips, num_workers)
        return _mapped(folder)


def _mapped(folder: Path) -> Arrays:
    return {path.stem: np.load(path, mmap_mode="c") for path in sorted(folder.glob("*.npy"))}


def _make(folder: Path, key: str, encode: Callable[[range], Arrays], num_clips: int, num_workers: int) -> None:
    num_done = _num_done(folder, key)
    with _telling(folder):
        _write_stamp(folder, key, num_done)  # from here on what is there is no other key's
    parts = [range(start, min(start + 16, num_clips)) for start in range(num_done, num_clips, 16)]
    context = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(num_workers, context, initializer=end_with_parent) as workers:
        for part, made in zip(parts, workers.map(encode, parts), strict=True):
            with _telling(folder):
                for name, rows in made.items():
                    _write_rows(folder / f"{name}.npy", rows, part.start, num_clips)
                _write_stamp(folder, key, part.stop)


def _num_done(folder: Path, key: str) -> int:
    """How many clips are kept there of this key."""
    stamp = folder / _STAMP
    kept = json.loads(stamp.read_text()) if stamp.exists() else {}
    return kept.get("clips", 0) if kept.get("key") == key else 0


@contextmanager
def _telling(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(
            "latents_unwritable",
            f"the latents in {folder} cannot be written: {error.strerror or error}",
            "Make space or give another cache; what is there stays, and the next run goes on with it.",
        ) from error


def _write_rows(path: Path, rows: np.ndarray, start: int, num_clips: int) -> None:
    """Into an .npy of `num_clips` rows, by plain writing: a full disk is an error there, and in a mapped file a signal."""
    if start == 0:
        path.unlink(missing_ok=True)  # a file of its own: another run may have mapped the one before
        with path.open("wb") as file:
            shape = (num_clips, *rows.shape[1:])
            header = {"descr": npy.dtype_to_descr(rows.dtype), "fortran_order": False, "shape": shape}
            npy.write_array_header_1_0(file, header)
            file.write(rows.tobytes())
        return
    with path.open("r+b") as file:
        npy.read_magic(file)
        npy.read_array_header_1_0(file)
        file.seek(start * rows.nbytes // len(rows), os.SEEK_CUR)
        file.write(rows.tobytes())


def _write_stamp(folder: Path, key: str, num_clips: int) -> None:
    temporary = folder / f".{_STAMP}"
    temporary.write_text(json.dumps({"key": key, "clips": num_clips}))
    temporary.replace(folder / _STAMP)


def key_of(corpus: Path, split: Split, checkpoint: Path, networks: Sequence[str], settings: Sequence[int]) -> str:
    """What a cache belongs to: the corpus's shards, the encoders' weights, and settings."""
    digest = hashlib.sha256(json.dumps([split, *settings]).encode())
    for path in sorted(corpus.glob(f"{split}-*.parquet")):
        digest.update(f"{path.name} {path.stat().st_size}".encode())
    for network in networks:
        for path in sorted((checkpoint / network).glob("*")):
            digest.update(path.read_bytes())
    return digest.hexdigest()
