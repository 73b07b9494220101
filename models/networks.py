"""Networks of a checkpoint by name: the classes that each may have, and loading the one that a folder holds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, get_args

from diffusers import AutoencoderKLTemporalDecoder
from diffusers.models.modeling_utils import ModelMixin

from emotivetalk.models.autoencoder import PortraitAutoencoder
from emotivetalk.models.emotion import EmotionMapping
from emotivetalk.models.encoders import AudioEncoderNetwork, ExpressionEncoder, LipEncoder
from emotivetalk.models.ethd import ETHD
from emotivetalk.models.vaid import VAID

NETWORKS: Final[Mapping[str, tuple[type[ModelMixin], ...]]] = {
    "vae": (PortraitAutoencoder, AutoencoderKLTemporalDecoder),
    "audio_encoder": get_args(AudioEncoderNetwork),
    "lip_encoder": (LipEncoder,),
    "expression_encoder": (ExpressionEncoder,),
    "emotion_mapping": (EmotionMapping,),
    "vaid": (VAID,),
    "ethd": (ETHD,),
}
"""Each network of a pipeline and the classes it may have: the starter's first, then the full size's."""


def load_network(checkpoint: Path, name: str, **options: Any) -> Any:
    """Load the network in `checkpoint/name`, in evaluation mode.

    Args:
        checkpoint: folder in diffusers' layout.
        name: a key of NETWORKS.
        options: keyword arguments for `ModelMixin.from_pretrained`.

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
    raise ValueError(f"{checkpoint / name} holds a {found}; {name} must be a {wanted}")
