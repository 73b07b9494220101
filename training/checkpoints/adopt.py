"""Conversion of third-party networks for a checkpoint of the full size: Stable Video Diffusion's VAE and wav2vec 2.0."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from diffusers import AutoencoderKLTemporalDecoder
from diffusers.models.modeling_utils import ModelMixin

from emotivetalk.models.encoders import Wav2Vec2AudioEncoder
from emotivetalk.training.checkpoints.frozen_networks import read_network
from emotivetalk.training.checkpoints.provenance import record_adoption

_DESCRIPTIONS = {"vae": "VAE of Stable Video Diffusion", "audio_encoder": "wav2vec 2.0"}


def adopt_vae(stable_video_diffusion: Path, checkpoint: Path) -> Path:
    """Write Stable Video Diffusion's VAE to `checkpoint/vae` and return that folder.

    Args:
        stable_video_diffusion: the downloaded folder, in diffusers' layout, with `vae/`.
        checkpoint: folder of the checkpoint.

    Raises:
        InputError: the folder holds no such VAE.
    """
    name = stable_video_diffusion.name
    return _adopt(stable_video_diffusion / "vae", name, AutoencoderKLTemporalDecoder.from_pretrained, checkpoint, "vae")


def adopt_audio_encoder(wav2vec2: Path, checkpoint: Path) -> Path:
    """Write wav2vec 2.0, given in transformers' layout, to `checkpoint/audio_encoder` and return that folder.

    Raises:
        InputError: the folder holds no wav2vec 2.0.
    """
    return _adopt(wav2vec2, wav2vec2.name, Wav2Vec2AudioEncoder.from_wav2vec2, checkpoint, "audio_encoder")


def _adopt(source: Path, origin: str, load: Callable[[Path], ModelMixin], checkpoint: Path, name: str) -> Path:
    network = read_network(
        source,
        f"readable {_DESCRIPTIONS[name]}",
        load,
        code="weights_unreadable",
        remedy="Give the downloaded folder, with config.json and the weights.",
    )
    network.save_pretrained(checkpoint / name)
    record_adoption(checkpoint, name, origin, _sha256(checkpoint / name))
    return checkpoint / name


def _sha256(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
