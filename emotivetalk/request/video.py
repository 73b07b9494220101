"""The request that decides a video's frames."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from emotivetalk.request.emotion import Emotion
from emotivetalk.request.settings import SamplingSettings


class VideoRequest(SamplingSettings):
    """Everything that decides the frames, apart from the files in the job's folder. Hashable: a key of caches.

    Args:
        num_samples: length of the speech at 16 kHz.
        emotion: None keeps the portrait's own expression. The file of an image or video is in the job's folder.
    """

    num_samples: int = Field(gt=0)
    emotion: Emotion | None = None

    if TYPE_CHECKING:

        def __hash__(self) -> int: ...  # pydantic adds it to frozen models
