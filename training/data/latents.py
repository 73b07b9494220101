"""Latents of a corpus by the frozen encoders, computed once and cached on disk for the later stages.

`motion_latents` computes the lip and expression latents of every frame. `video_latents` computes the VAE's latents of a short
window of each clip, with the motion latents of the same pictures. `audio_features` computes the audio encoder's features. A
cache is valid for the exact corpus and encoder weights it was made from, and is recomputed when either changes.
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
from emotivetalk.corpus.photo_people import HELD_OUT_OFFSET, is_photograph
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
_VIDEO_FORMAT = 2
"""Counts changes of the columns of `VideoLatents`; caches of another format are recomputed."""
_CLIPS_PER_PART = 16
"""Clips that a process encodes before its results are written."""


@dataclass(frozen=True)
class MotionLatents:
    """Motion latents of all clips of a split, in the corpus's order."""

    lip: Float[Tensor, "clips frames dim_lip"]
    expression: Float[Tensor, "clips frames dim_expression"]


@dataclass(frozen=True)
class VideoLatents:
    """Latents of a window of each clip of a split, in half precision, memory-mapped from the disk."""

    start: Int[Tensor, " clips"]
    """First frame of the window."""
    voice: Int[Tensor, " clips"]
    """Position of the clip whose speech the lips follow, at the same frames."""
    latents: Float[Tensor, "clips frames channels h w"]
    lip: Float[Tensor, "clips frames dim_lip"]
    expression: Float[Tensor, "clips frames dim_expression"]
    driving: Float[Tensor, "clips frames dim_expression"]
    """Expression latents that command these frames: those of an avatar with the same motion if the person is drawn from a
    photograph, else `expression`. Latents of avatars tell the motion more exactly, and Di-CTE makes latents of their kind."""
    mouth: Float[Tensor, "clips frames 1 h w"]
    """Share of each latent cell that the mouth covers, 0..1."""
    eyes: Float[Tensor, "clips frames 1 h w"]
    """Share of each latent cell that the eyes cover, 0..1."""


def motion_latents(corpus: Path, split: Split, checkpoint: Path, cache: Path, num_workers: int = 2) -> MotionLatents:
    """Compute lip and expression latents of every frame, or read them from the cache.

    Args:
        corpus: folder of a corpus of clips of equal length.
        split: split of the corpus.
        checkpoint: folder with `lip_encoder/` and `expression_encoder/`.
        cache: folder for the results.
        num_workers: processes that encode.
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
    """Compute the VAE's latents of a window of every clip, or read them from the cache.

    Args:
        corpus: folder of a corpus.
        split: split of the corpus.
        checkpoint: folder with `vae/`, `lip_encoder/` and `expression_encoder/`.
        cache: folder for the results.
        size: side of the pictures in pixels.
        num_frames: frames of each window.
        num_workers: processes that encode.
        other_voices: draw faces with the lip motion of another clip; for a synthetic corpus of clips of equal length.
    """
    encode = partial(_encode_video, corpus, split, checkpoint, size, num_frames, other_voices)
    settings = [_VIDEO_FORMAT, size, num_frames, int(other_voices)]
    key = key_of(corpus, split, checkpoint, ["vae", "lip_encoder", "expression_encoder"], settings)
    arrays = cached(cache / f"video-{split}", key, encode, len(read_corpus(corpus, split)), num_workers)
    return VideoLatents(**{name: torch.from_numpy(a) for name, a in arrays.items()})


def audio_features(
    corpus: Path, split: Split, checkpoint: Path, cache: Path, num_workers: int = 2
) -> Float[Tensor, "clips frames dim_audio"]:
    """Compute the audio encoder's features of every clip, in the corpus's order, or read them from the cache.

    Args:
        corpus: folder of a corpus of clips of equal length.
        split: split of the corpus.
        checkpoint: folder with `audio_encoder/`.
        cache: folder for the results.
        num_workers: processes that encode.
    """
    encode = partial(_encode_audio, corpus, split, checkpoint)
    key = key_of(corpus, split, checkpoint, ["audio_encoder"], [])
    arrays = cached(cache / f"audio-{split}", key, encode, len(read_corpus(corpus, split)), num_workers)
    return torch.from_numpy(arrays["features"])


@torch.inference_mode()
def _encode_audio(corpus: Path, split: Split, checkpoint: Path, clips: range) -> Arrays:
    torch.set_num_threads(1)
    device = encoder_device()
    encoder = frozen(checkpoint, "audio_encoder").to(device)
    source = read_corpus(corpus, split)
    waveforms = torch.stack([torch.from_numpy(source[index].waveform) for index in clips])
    return {"features": encoder(waveforms.to(device)).float().cpu().numpy()}


@torch.inference_mode()
def _encode_motion(corpus: Path, split: Split, checkpoint: Path, clips: range) -> Arrays:
    torch.set_num_threads(1)
    lip_encoder, expression_encoder = motion_encoders(checkpoint)
    source = read_corpus(corpus, split)
    rows: list[tuple[np.ndarray, np.ndarray]] = []
    for index in clips:
        images = draw_clip(source[index], size=MOTION_SIZE).images * 2 - 1
        rows.append(encode_motion(lip_encoder, expression_encoder, images.to(encoder_device())))
    lip, expression = (np.stack(column) for column in zip(*rows, strict=True))
    return {"lip": lip, "expression": expression}


@torch.inference_mode()
def _encode_video(
    corpus: Path, split: Split, checkpoint: Path, size: int, num_frames: int, other_voices: bool, clips: range
) -> Arrays:
    torch.set_num_threads(1)
    device = encoder_device()
    lip_encoder, expression_encoder = motion_encoders(checkpoint)
    vae = frozen(checkpoint, "vae").to(device)
    vae.encoder.to(memory_format=torch.channels_last)  # not the decoder: 3-D convolutions do not support this format
    codec = LatentCodec(vae)
    source = read_corpus(corpus, split)
    names = ("start", "voice", "latents", "lip", "expression", "driving", "mouth", "eyes")
    columns: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for index in clips:
        clip = source[index]
        generator = np.random.default_rng(clip.seed + index)
        start = int(generator.integers(clip.num_frames - num_frames + 1))
        voice, other_lip, window = index, None, range(start, start + num_frames)
        if other_voices:
            voice = int(index + generator.integers(1, len(source))) % len(source)
            other_lip = torch.tensor(source[voice].lip[start : start + num_frames])
        frames = draw_clip(clip, window, size, lip=other_lip)
        images = (frames.images * 2 - 1).to(device, memory_format=torch.channels_last)
        with mixed_precision(device):
            latents = codec.encode(images).float().cpu()
        lip, expression = encode_motion(lip_encoder, expression_encoder, images)
        driving = expression
        if is_photograph(clip.identity_seed):
            twin = draw_clip(clip, window, MOTION_SIZE, int(generator.integers(HELD_OUT_OFFSET)), other_lip)
            _, driving = encode_motion(lip_encoder, expression_encoder, (twin.images * 2 - 1).to(device))
        cell = size // latents.shape[-1]
        row = {
            "start": np.int64(start),
            "voice": np.int64(voice),
            "latents": latents.numpy().astype(np.float16),
            "lip": lip,
            "expression": expression,
            "driving": driving,
            "mouth": F.avg_pool2d(frames.mouth_mask, cell).numpy().astype(np.float16),
            "eyes": F.avg_pool2d(frames.eye_mask, cell).numpy().astype(np.float16),
        }
        for name, value in row.items():
            columns[name].append(value)
    return {name: np.stack(values) for name, values in columns.items()}


def motion_encoders(checkpoint: Path) -> tuple[LipEncoder, ExpressionEncoder]:
    """Load a checkpoint's lip and expression encoders on `encoder_device`."""
    networks = (frozen(checkpoint, name) for name in ("lip_encoder", "expression_encoder"))
    lip, expression = (network.to(encoder_device(), memory_format=torch.channels_last) for network in networks)
    return lip, expression


def encoder_device() -> torch.device:
    """Return the device of the frozen encoders: a GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def encode_motion(
    lip_encoder: LipEncoder, expression_encoder: ExpressionEncoder, images: Float[Tensor, "frames 3 H W"]
) -> tuple[np.ndarray, np.ndarray]:
    """Compute lip and expression latents of pictures in -1..1, in mixed precision if the device has it."""
    with mixed_precision(images.device):
        lip = lip_encoder(images).float()
        hidden = expression_encoder.hidden(images).float()
    expression = (hidden - expression_encoder.center) @ expression_encoder.directions
    return lip.cpu().numpy().astype(np.float16), expression.cpu().numpy().astype(np.float16)


def cached(folder: Path, key: str, encode: Callable[[range], Arrays], num_clips: int, num_workers: int) -> Arrays:
    """Return the arrays cached in `folder`, memory-mapped, after computing those that are missing.

    Processes of one thread each encode the clips part by part. Each part is written when it is done, so memory use is
    constant and an interrupted computation resumes. If several runs need the same cache, one computes it and the others wait.

    Args:
        folder: folder of this cache.
        key: identity of the inputs (`key_of`); a cache with another key is recomputed.
        encode: computes the arrays of a range of clips; a picklable function.
        num_clips: number of clips.
        num_workers: number of processes.

    Raises:
        OutputError: the folder cannot be written.
    """
    if _num_done(folder, key) == num_clips:
        return _map_arrays(folder)
    with _write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with claimed(folder, wait_s=math.inf):
        _compute(folder, key, encode, num_clips, num_workers)
        return _map_arrays(folder)


def _map_arrays(folder: Path) -> Arrays:
    return {path.stem: np.load(path, mmap_mode="c") for path in sorted(folder.glob("*.npy"))}


def _compute(folder: Path, key: str, encode: Callable[[range], Arrays], num_clips: int, num_workers: int) -> None:
    """Compute and write the clips that are missing; none are if another run has computed them meanwhile."""
    num_done = _num_done(folder, key)
    with _write_errors(folder):
        _write_stamp(folder, key, num_done)  # a crash from here on cannot leave another key's stamp on this key's rows
    starts = range(num_done, num_clips, _CLIPS_PER_PART)
    parts = [range(start, min(start + _CLIPS_PER_PART, num_clips)) for start in starts]
    context = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(num_workers, context, initializer=end_with_parent) as workers:
        for part, arrays in zip(parts, workers.map(encode, parts), strict=True):
            with _write_errors(folder):
                for name, rows in arrays.items():
                    _write_rows(folder / f"{name}.npy", rows, part.start, num_clips)
                _write_stamp(folder, key, part.stop)


def _num_done(folder: Path, key: str) -> int:
    """Count the clips that are cached for this key."""
    stamp = folder / _STAMP
    content = json.loads(stamp.read_text()) if stamp.exists() else {}
    return content.get("clips", 0) if content.get("key") == key else 0


@contextmanager
def _write_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(
            "latents_unwritable",
            f"the latents in {folder} cannot be written: {error.strerror or error}",
            "Free disk space or set another cache. Cached latents are kept, and the next run continues with them.",
        ) from error


def _write_rows(path: Path, rows: np.ndarray, start: int, num_clips: int) -> None:
    """Write rows into an .npy of `num_clips` rows.

    The file is written, not mapped: a full disk then raises an error, whereas in a mapped file it raises a signal.
    """
    if start == 0:
        path.unlink(missing_ok=True)  # makes a new file, because another run may have mapped the old one
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
    """Compute the identity of a cache's inputs: the corpus's shards, the encoders' weights, and settings."""
    digest = hashlib.sha256(json.dumps([split, *settings]).encode())
    for path in sorted(corpus.glob(f"{split}-*.parquet")):
        digest.update(f"{path.name} {path.stat().st_size}".encode())
    for network in networks:
        for path in sorted((checkpoint / network).glob("*")):
            digest.update(path.read_bytes())
    return digest.hexdigest()
