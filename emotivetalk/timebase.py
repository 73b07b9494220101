"""The frame rate and the sample rate that everything shares."""

from typing import Final

FRAME_RATE_HZ: Final = 25
SAMPLE_RATE_HZ: Final = 16_000
SAMPLES_PER_FRAME: Final = SAMPLE_RATE_HZ // FRAME_RATE_HZ
