"""A checkpoint folder's networks by their names: which classes each may have, and the one that a folder holds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from diffusers import AutoencoderKLTemporalDecoder
from diffusers.models.modeling_utils import ModelMixin

from emotivetalk.models.autoencoder import PortraitAutoencoder
from emotivetalk.models.emotion import EmotionMapping
from emotivetalk.models.encoders import ConvAudioEncoder, ExpressionEncoder, LipEncoder, Wav2Vec2AudioEncoder
from emotivetalk.models.ethd import ETHD
from emotivetalk.models.vaid import VAID

NETWORKS: Final[Mapping[str, tuple[type[ModelMixin], ...]]] = {
    "vae": (PortraitAutoencoder, AutoencoderKLTemporalDecoder),
    "audio_encoder": (ConvAudioEncoder, Wav2Vec2AudioEncoder),
    "lip_encoder": (LipEncoder,),
    "expression_encoder": (ExpressionEncoder,),
    "emotion_mapping": (EmotionMapping,),
    "vaid": (VAID,),
    "ethd": (ETHD,),
}
"""Every network of a pipeline with the classes that can stand in its place: the starter's first, then the full size's."""


def load_network(checkpoint: Path, name: str, **options: Any) -> Any:
    """The network that `checkpoint/name` holds, in inference mode.

    Args:
        name: a key of NETWORKS.
        options: of `ModelMixin.from_pretrained`.

    Raises:
        ValueError: the folder holds a network of another class.
        OSError: there is no such network.
    """
    described = json.loads((checkpoint / name / "config.json").read_text(encoding="utf-8"))
    found = described.get("_class_name")
    for network in NETWORKS[name]:
        if network.__name__ == found:
            return network.from_pretrained(checkpoint / name, **options).eval()
    wanted = " or ".join(network.__name__ for network in NETWORKS[name])
    raise ValueError(f"{checkpoint / name} holds a {found}; {name} is a {wanted}")
