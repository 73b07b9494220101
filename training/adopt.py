"""Other people's trained networks into a checkpoint folder, in the place of the starter's small ones: the full size."""

from __future__ import annotations

import hashlib
from pathlib import Path

from diffusers import AutoencoderKLTemporalDecoder

from media.errors import InputError
from models.encoders import Wav2Vec2AudioEncoder
from training.provenance import record_adoption


def adopt_vae(stable_video_diffusion: Path, checkpoint: Path) -> Path:
    """Stable Video Diffusion's VAE as `checkpoint/vae`; returns that folder.

    Args:
        stable_video_diffusion: its folder as it was downloaded, in diffusers' layout, with `vae/`.

    Raises:
        InputError: it has no such VAE.
    """
    source, target = stable_video_diffusion / "vae", checkpoint / "vae"
    _require_folder(source, "VAE of Stable Video Diffusion")
    try:
        vae = AutoencoderKLTemporalDecoder.from_pretrained(source)
    except (OSError, ValueError) as error:
        raise _unreadable(source, "VAE of Stable Video Diffusion") from error
    vae.save_pretrained(target)
    record_adoption(checkpoint, "vae", stable_video_diffusion.name, _sha256(target))
    return target


def adopt_audio_encoder(wav2vec2: Path, checkpoint: Path) -> Path:
    """wav2vec 2.0, as transformers keeps it, as `checkpoint/audio_encoder`; returns that folder.

    Raises:
        InputError: the folder holds no wav2vec 2.0.
    """
    target = checkpoint / "audio_encoder"
    _require_folder(wav2vec2, "wav2vec 2.0")
    try:
        encoder = Wav2Vec2AudioEncoder.from_wav2vec2(str(wav2vec2))
    except (OSError, ValueError) as error:
        raise _unreadable(wav2vec2, "wav2vec 2.0") from error
    encoder.save_pretrained(target)
    record_adoption(checkpoint, "audio_encoder", wav2vec2.name, _sha256(target))
    return target


def _require_folder(folder: Path, wanted: str) -> None:
    """What is no folder, the libraries would take for the name of one on the hub."""
    if not (folder / "config.json").is_file():
        raise _unreadable(folder, wanted)


def _unreadable(folder: Path, wanted: str) -> InputError:
    return InputError(
        code="weights_unreadable",
        message=f"{folder} holds no {wanted}",
        remedy="Name the folder as it was downloaded, with config.json and the weights.",
    )


def _sha256(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
