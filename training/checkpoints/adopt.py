"""Other people's trained networks into a checkpoint folder, in the place of the starter's small ones: the full size."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from diffusers import AutoencoderKLTemporalDecoder
from diffusers.models.modeling_utils import ModelMixin

from emotivetalk.models.encoders import Wav2Vec2AudioEncoder
from emotivetalk.training.checkpoints.frozen_networks import read_network
from emotivetalk.training.checkpoints.provenance import record_adoption

_WANTED = {"vae": "VAE of Stable Video Diffusion", "audio_encoder": "wav2vec 2.0"}


def adopt_vae(stable_video_diffusion: Path, checkpoint: Path) -> Path:
    """Stable Video Diffusion's VAE as `checkpoint/vae`; returns that folder.

    Args:
        stable_video_diffusion: its folder as it was downloaded, in diffusers' layout, with `vae/`.

    Raises:
        InputError: it has no such VAE.
    """
    name = stable_video_diffusion.name
    return _adopt(stable_video_diffusion / "vae", name, AutoencoderKLTemporalDecoder.from_pretrained, checkpoint, "vae")


def adopt_audio_encoder(wav2vec2: Path, checkpoint: Path) -> Path:
    """wav2vec 2.0, as transformers keeps it, as `checkpoint/audio_encoder`; returns that folder.

    Raises:
        InputError: the folder holds no wav2vec 2.0.
    """
    return _adopt(wav2vec2, wav2vec2.name, Wav2Vec2AudioEncoder.from_wav2vec2, checkpoint, "audio_encoder")


def _adopt(source: Path, origin: str, load: Callable[[Path], ModelMixin], checkpoint: Path, name: str) -> Path:
    network = read_network(
        source,
        f"{_WANTED[name]} that can be read",
        load,
        code="weights_unreadable",
        remedy="Name the folder as it was downloaded, with config.json and the weights.",
    )
    network.save_pretrained(checkpoint / name)
    record_adoption(checkpoint, name, origin, _sha256(checkpoint / name))
    return checkpoint / name


def _sha256(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
