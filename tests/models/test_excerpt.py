"""An excerpt equals the same frames of the whole clip, and uses only the calls that it depends on."""

from collections.abc import Sequence

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from emotivetalk.models.long_video import run_excerpt
from emotivetalk.models.long_video_plan import LongVideoPlan
from tests.models.test_long_video import chunked, levels, mixing, noise, plans, running


@given(plan=plans, data=st.data())
@running
def test_an_excerpt_equals_the_whole_clip_and_uses_only_the_calls_it_needs(
    plan: LongVideoPlan, data: st.DataObject
) -> None:
    first, sigmas = plan.segment(0), levels(plan.num_steps)
    start = data.draw(st.integers(0, len(first.result.frames) - 1))
    frames = range(start, data.draw(st.integers(start + 1, len(first.result.frames))))
    computed: list[range] = []

    def recording(x: Tensor, sigma: Tensor, chunks: Sequence[range]) -> Tensor:
        computed.extend(chunks)
        return mixing(x, sigma, chunks)

    made = run_excerpt(first, frames, recording, sigmas, noise)
    torch.testing.assert_close(made, chunked(plan)[start : frames.stop])
    assert len(computed) <= len(first.calls)
    # Each step adds at most the neighbouring chunks.
    reach = plan.num_steps * plan.config.chunk_frames
    assert all(chunk.start < frames.stop + reach and chunk.stop > start - reach for chunk in computed)
