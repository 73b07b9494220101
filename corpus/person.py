"""Interface for drawing a person, shared by avatars and photographs (ours)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from jaxtyping import Float
from torch import Tensor

from emotivetalk.corpus.avatar import Identity
from emotivetalk.corpus.renderer import Frames, render


class Person(Protocol):
    """A person that can be drawn. The same parameters cause the same motion for every person."""

    def frames(
        self,
        lip: Float[Tensor, "batch 6"],
        expression: Float[Tensor, "batch 12"],
        pose: Float[Tensor, "batch 6"],
        size: int = 256,
    ) -> Frames:
        """Draw one frame for each row of the parameters (`emotivetalk.corpus.parameters` names the columns)."""
        ...


@dataclass(frozen=True)
class Avatar:
    """A person drawn as an avatar."""

    identity: Identity

    @staticmethod
    def sample(seed: int) -> Avatar:
        """Sample the avatar that belongs to a seed."""
        return Avatar(Identity.sample(1, seed))

    def frames(
        self,
        lip: Float[Tensor, "batch 6"],
        expression: Float[Tensor, "batch 12"],
        pose: Float[Tensor, "batch 6"],
        size: int = 256,
    ) -> Frames:
        """Draw one frame for each row of the parameters."""
        return render(self.identity[[0] * len(lip)], lip, expression, pose, size)
