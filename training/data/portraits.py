"""Choice of the portrait for a training sample: a frame of another clip of the same person.

A portrait from the sample's own clip would show the expression that the network has to produce.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Int

from emotivetalk.corpus.records import Corpus

_OTHER_EMOTION_SHARE = 0.75


class PortraitClips:
    """Speaker and emotion of every clip, taken from the index that a corpus keeps in memory.

    Choosing a portrait reads no clip. This matters for real video: a clip holds all its pictures, and a speaker may have
    hundreds of clips.
    """

    def __init__(self, corpus: Corpus) -> None:
        self._emotion = np.zeros(len(corpus), np.int64)
        for emotion, clips in corpus.by_emotion.items():
            self._emotion[list(clips)] = emotion
        self._same_speaker: dict[int, Int[np.ndarray, " clips"]] = {}
        for clips in corpus.by_speaker.values():
            self._same_speaker.update(dict.fromkeys(clips, np.array(clips)))

    def has_other(self, clip: int) -> bool:
        """Tell whether the speaker of `clip` has another clip."""
        return len(self._same_speaker[clip]) > 1

    def choose_other(self, clip: int, generator: np.random.Generator) -> int:
        """Choose another clip of the same speaker, three times out of four one in another emotion if there is any.

        Returns `clip` itself if the speaker has no other.
        """
        if not self.has_other(clip):
            return clip
        others = self._same_speaker[clip]
        others = others[others != clip]
        other_emotion = others[self._emotion[others] != self._emotion[clip]]
        use_other_emotion = len(other_emotion) > 0 and generator.random() < _OTHER_EMOTION_SHARE
        return int(generator.choice(other_emotion if use_other_emotion else others))
