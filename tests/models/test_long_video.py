"""Invariants of the plan for any clip, chunked sampling against sampling in one piece, and smooth seams."""

import gc
import random
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from emotivetalk.models.diffusion import euler_step, sigma_schedule, svd_scheduler
from emotivetalk.models.long_video import advance, at_once, blend, finish, frame_noise, gather_input, run
from emotivetalk.models.long_video_plan import Call, CallId, LongVideoConfig, LongVideoPlan, SegmentPlan

SHAPE = (2, 3)
# No deadline: on a busy machine, runtime shape checks make some examples slow.
planning = settings(deadline=None, max_examples=60)
running = settings(deadline=None, max_examples=20)


def noise(frames: range) -> Tensor:
    return frame_noise(7, frames.start, len(frames), SHAPE, "test")


def levels(num_steps: int) -> Tensor:
    return sigma_schedule(svd_scheduler(sigma_max=20.0), num_steps)


@st.composite
def configs(draw: st.DrawFn) -> LongVideoConfig:
    chunk_frames = draw(st.integers(2, 12))
    segment_chunks = draw(st.integers(1, 5))
    return LongVideoConfig(
        chunk_frames=chunk_frames,
        segment_chunks=segment_chunks,
        pinned_frames=draw(st.integers(0, min(chunk_frames - 1, chunk_frames * segment_chunks // 3))),
        fusion=draw(st.sampled_from(["shift", "overlap"])),
        shift_stride=draw(st.integers(1, chunk_frames - 1)),
        overlap_frames=draw(st.integers(1, chunk_frames - 1)),
        eased_frames=draw(st.integers(0, 9)),
        joint=draw(st.sampled_from(["pinned", "free"])),
    )


plans = st.builds(LongVideoPlan, config=configs(), num_frames=st.integers(1, 80), num_steps=st.integers(1, 4))


def framewise(x: Tensor, sigma: Tensor, frames: Sequence[range]) -> Tensor:
    """Denoise each frame by itself, with a term that depends on its index in the clip."""
    index = torch.tensor([list(chunk) for chunk in frames]).reshape(*x.shape[:2], 1, 1)
    return torch.tanh(x) * 0.5 / (1 + sigma) + torch.sin(0.1 * index)


def mixing(x: Tensor, sigma: Tensor, frames: Sequence[range]) -> Tensor:
    """Denoise with a term that depends on every frame of the chunk."""
    return framewise(x, sigma, frames) + 0.3 * x.mean(dim=1, keepdim=True) / (1 + sigma)


def whole_clip(plan: LongVideoPlan, sigmas: Tensor) -> Tensor:
    frames = range(plan.num_frames)
    x = sigmas[0] * noise(frames)
    for sigma, sigma_next in zip(sigmas, sigmas[1:]):
        x = euler_step(x, framewise(x[None], sigma, [frames])[0], sigma, sigma_next)
    return x


def chunked(plan: LongVideoPlan, predict=mixing, **options) -> Tensor:
    return torch.cat([result.frames for result in run(plan, predict, levels(plan.num_steps), noise, **options)])


@given(plan=plans)
@planning
def test_every_frame_is_emitted_once_in_order(plan: LongVideoPlan) -> None:
    emitted = [frame for segment in plan.segments() for frame in segment.result.frames]
    assert emitted == list(range(plan.num_frames))


@given(plan=plans)
@planning
def test_segments_are_balanced(plan: LongVideoPlan) -> None:
    lengths = [len(segment.frames) for segment in plan.segments()]
    assert max(lengths) <= plan.config.segment_frames
    assert max(lengths) - min(lengths) <= 1
    if len(lengths) > 1:
        assert min(lengths) >= plan.config.segment_frames // 2
        assert all(len(segment.result.frames) >= plan.config.pinned_frames for segment in plan.segments())
        if plan.config.segment_chunks > 1:
            assert {len(call.frames) for segment in plan.segments() for call in segment.calls} == {
                plan.config.chunk_frames
            }


def assert_sums_to_one(gathered: range, sources, frames_of: dict[CallId, range]) -> None:
    weights = np.zeros(len(gathered))
    for source in sources:
        assert source.frames and len(source.weights) == len(source.frames)
        assert min(source.weights) > 0
        assert frames_of[source.call][source.first :][: len(source.frames)] == source.frames
        weights[source.frames.start - gathered.start : source.frames.stop - gathered.start] += source.weights
    np.testing.assert_allclose(weights, 1)


@given(plan=plans)
@planning
def test_every_gathered_frame_has_weights_that_sum_to_one(plan: LongVideoPlan) -> None:
    for segment in plan.segments():
        frames_of = {call.id: call.frames for call in segment.calls}
        for call in segment.calls:
            assert call.frames.start >= segment.frames.start and call.frames.stop <= segment.frames.stop
            assert len(call.frames) == min(plan.config.chunk_frames, len(segment.frames))
            assert [*call.pinned, *call.input.frames] == [*call.frames]
            assert set(call.pinned) == set(call.frames) & set(segment.pinned)
            assert all(source.step == call.id.step - 1 for source in call.depends_on)
            if call.id.step:
                assert_sums_to_one(call.input.frames, call.input.sources, frames_of)
        assert_sums_to_one(segment.result.frames, segment.result.sources, frames_of)
        assert_sums_to_one(segment.tail.frames, segment.tail.sources, frames_of)
        assert segment.tail.depends_on <= segment.result.depends_on
        assert all(source.step == plan.num_steps - 1 for source in segment.result.depends_on)


@given(plan=plans)
@planning
def test_every_call_is_used_and_counted(plan: LongVideoPlan) -> None:
    segments = list(plan.segments())
    calls = [call for segment in segments for call in segment.calls]
    used = set().union(*(call.depends_on for call in calls), *(segment.result.depends_on for segment in segments))
    ids = [call.id for call in calls]
    # In a free segment, the first call of the last step may give only repeated frames. It is needed for the easing.
    for_easing = {
        call.id
        for segment in segments
        for call in segment.calls_of(plan.num_steps - 1)[:1]
        if call.frames.start < segment.result.frames.start and not segment.pinned
    }
    assert used <= set(ids) <= used | for_easing
    assert ids == sorted(set(ids))
    assert plan.num_calls == len(ids)


@given(plan=plans)
@planning
def test_shift_computes_inner_frames_once_a_step(plan: LongVideoPlan) -> None:
    if plan.config.fusion != "shift":
        return
    width = plan.config.chunk_frames
    for segment in plan.segments():
        for step in range(plan.num_steps):
            calls = segment.calls_of(step)
            counts = Counter(frame for call in calls for frame in call.frames)
            assert all(counts[frame] == 1 for frame in segment.frames[width:-width])
            assert len(calls) <= -(-len(segment.frames) // width) + 1
        for call in segment.calls:
            assert all(weight == 1 for source in call.input.sources for weight in source.weights)


def test_shift_moves_the_seams_and_keeps_context_on_both_sides() -> None:
    plan = LongVideoPlan(LongVideoConfig(chunk_frames=25, segment_chunks=4, shift_stride=7), 100, 25)
    (segment,) = plan.segments()
    seams: Counter[int] = Counter()
    for call in segment.calls:
        if call.id.step:
            seams.update(
                source.frames.start for source in call.input.sources if source.frames.start > call.frames.start
            )
    assert max(seams.values()) <= 4  # of 25 steps
    assert min(seams) >= 12 and max(seams) <= 88


def test_overlap_is_a_linear_crossfade() -> None:
    config = LongVideoConfig(chunk_frames=8, segment_chunks=3, pinned_frames=0, fusion="overlap", overlap_frames=3)
    (segment,) = LongVideoPlan(config, 13, 1).segments()
    left, right = segment.result.sources
    assert (left.frames, right.frames) == (range(8), range(5, 13))
    assert left.weights == (1, 1, 1, 1, 1, 0.75, 0.5, 0.25)
    assert right.weights == (0.25, 0.5, 0.75, 1, 1, 1, 1, 1)


@given(plan=plans, batch_calls=st.integers(1, 4))
@running
def test_chunked_equals_whole_without_temporal_mixing(plan: LongVideoPlan, batch_calls: int) -> None:
    """Without easing, since a pinned frame gets new noise and is denoised to another frame even by `framewise`."""
    plan = replace(plan, config=replace(plan.config, eased_frames=0))
    got = chunked(plan, framewise, batch_calls=batch_calls)
    torch.testing.assert_close(got, whole_clip(plan, levels(plan.num_steps)), atol=1e-6, rtol=1e-6)


@given(plan=plans)
@planning
def test_easing_ends_before_the_frames_that_the_next_segment_is_pinned_to(plan: LongVideoPlan) -> None:
    for segment in plan.segments():
        if segment.index == 0 or plan.config.pinned_frames == 0:
            assert segment.ease is None
        if segment.ease is None:
            continue
        call = next(call for call in segment.calls if call.id == segment.ease.call)
        assert call.frames[segment.ease.row] == segment.result.frames.start - 1
        assert call.id.step == plan.num_steps - 1
        weights = segment.ease.weights
        assert all(0 < later < earlier < 1 for earlier, later in zip(weights, weights[1:]))
        assert len(weights) <= len(segment.result.frames) - len(segment.tail.frames)


@given(plan=plans)
@planning
def test_free_segments_do_not_depend_on_each_other(plan: LongVideoPlan) -> None:
    plan = replace(plan, config=replace(plan.config, joint="free"))
    for segment in plan.segments():
        assert not any(call.pinned for call in segment.calls)
        assert {source.segment for call in segment.calls for source in call.depends_on} <= {segment.index}


@pytest.mark.parametrize("joint", ["pinned", "free"])
@pytest.mark.parametrize("fusion", ["shift", "overlap"])
def test_easing_removes_the_jump_between_segments(
    fusion: Literal["shift", "overlap"], joint: Literal["pinned", "free"]
) -> None:
    """The network adds another constant in each segment: a jump without easing, a gradual change with it."""

    def shifted(x: Tensor, sigma: Tensor, frames: Sequence[range]) -> Tensor:
        segment = torch.tensor([float(chunk.start // 20) for chunk in frames]).reshape(-1, 1, 1, 1)
        return torch.zeros_like(x) + segment

    def jumps(eased_frames: int) -> list[float]:
        config = LongVideoConfig(24, 1, 4, fusion=fusion, eased_frames=eased_frames, joint=joint)
        plan = LongVideoPlan(config, 84, 3)
        made = torch.cat([part.frames for part in run(plan, shifted, levels(3), noise)])
        changes = (made[1:] - made[:-1]).abs().amax((1, 2))
        return [float(changes[segment.result.frames.start - 1]) for segment in list(plan.segments())[1:]]

    assert min(jumps(0)) > 0.9
    assert max(jumps(9)) < 0.11


def test_clip_within_one_chunk_is_one_call_a_step() -> None:
    plan = LongVideoPlan(LongVideoConfig(chunk_frames=10, pinned_frames=3), 6, 4)
    assert plan.num_calls == 4
    spans = []
    chunked(plan, lambda x, sigma, frames: spans.append(frames) or mixing(x, sigma, frames))
    assert spans == [(range(6),)] * 4


@given(plan=plans)
@running
def test_pinned_frames_equal_those_of_the_last_segment_at_every_noise_level(plan: LongVideoPlan) -> None:
    sigmas = levels(plan.num_steps)
    inputs: list[tuple[Tensor, Tensor, range]] = []

    def recording(x: Tensor, sigma: Tensor, frames: Sequence[range]) -> Tensor:
        inputs.extend((chunk, sigma, span) for chunk, span in zip(x, frames))
        return mixing(x, sigma, frames)

    calls: list[Call] = []
    clip = chunked(plan, recording, progress=calls.append)
    assert len(calls) == len(inputs) == plan.num_calls
    for call, (x, sigma, frames) in zip(calls, inputs):
        assert frames == call.frames and sigma == sigmas[call.id.step]
        if call.pinned:
            final = clip[call.pinned.start : call.pinned.stop]
            torch.testing.assert_close(x[: len(call.pinned)], final + sigma * noise(call.pinned))


@given(plan=plans, num_threads=st.integers(1, 4), batch_calls=st.integers(1, 3))
@running
def test_threads_do_not_change_the_frames(plan: LongVideoPlan, num_threads: int, batch_calls: int) -> None:
    calls: list[Call] = []
    with ThreadPoolExecutor(num_threads) as pool:
        clip = chunked(plan, submit=pool.submit, batch_calls=batch_calls, progress=calls.append)
    torch.testing.assert_close(clip, chunked(plan, batch_calls=batch_calls), rtol=0, atol=0)
    assert sorted(call.id for call in calls) == [call.id for segment in plan.segments() for call in segment.calls]


@pytest.mark.parametrize("num_threads", [0, 1, 3])
def test_an_error_in_a_call_ends_the_run(num_threads: int) -> None:
    plan = LongVideoPlan(LongVideoConfig(4, 3, 0, "overlap", overlap_frames=2), 30, 3)
    num_begun = 0

    def failing(x: Tensor, sigma: Tensor, frames: Sequence[range]) -> Tensor:
        nonlocal num_begun
        num_begun += 1
        if frames[0].start == 4:
            raise ArithmeticError("no more memory")
        return mixing(x, sigma, frames)

    with ExitStack() as stack, pytest.raises(ArithmeticError, match="no more memory"):
        pool = stack.enter_context(ThreadPoolExecutor(num_threads)) if num_threads else None
        chunked(plan, failing, submit=pool.submit if pool else at_once)
    assert num_begun < plan.num_calls / 2


def run_in_any_order(plan: LongVideoPlan, order: random.Random) -> Tensor:
    """Run the calls, tails and results in a random order that respects their dependencies."""
    sigmas, segments = levels(plan.num_steps), list(plan.segments())
    done: dict[CallId, Tensor] = {}
    tails: dict[int, Tensor] = {}
    results: dict[int, Tensor] = {}
    waiting: list[Call | SegmentPlan] = [node for segment in segments for node in (*segment.calls, segment)]
    while waiting or len(tails) < len(segments):
        ready = [
            node
            for node in waiting
            if isinstance(node, SegmentPlan)
            and node.result.depends_on <= done.keys()
            and (node.ease is None or (node.ease.call in done and node.index - 1 in tails))
        ]
        ready += [
            node
            for node in waiting
            if isinstance(node, Call)
            and node.depends_on <= done.keys()
            and (not node.pinned or node.id.segment - 1 in tails)
        ]
        node = order.choice(ready)
        waiting.remove(node)
        if isinstance(node, SegmentPlan):
            results[node.index] = finish(node.result, node.ease, done, tails.get(node.index - 1))
        else:
            inputs = {source: done[source] for source in node.depends_on}
            done |= advance([node], inputs, tails.get(node.id.segment - 1), noise, sigmas, mixing)
        for segment in segments:
            if segment.index not in tails and segment.tail.depends_on <= done.keys():
                tails[segment.index] = blend(segment.tail, done) if segment.tail.sources else torch.empty(0, *SHAPE)
    return torch.cat([results[segment.index] for segment in segments])


@given(
    config=configs(),
    num_frames=st.integers(1, 60),
    num_steps=st.integers(1, 3),
    order=st.randoms(use_true_random=False),
)
@running
def test_order_of_independent_calls_does_not_matter(
    config: LongVideoConfig, num_frames: int, num_steps: int, order: random.Random
) -> None:
    plan = LongVideoPlan(config, num_frames, num_steps)
    torch.testing.assert_close(run_in_any_order(plan, order), chunked(plan), atol=0, rtol=0)


@given(plan=plans, data=st.data())
@running
def test_resumes_after_any_segment(plan: LongVideoPlan, data: st.DataObject) -> None:
    sigmas = levels(plan.num_steps)
    results = list(run(plan, mixing, sigmas, noise))
    index = data.draw(st.integers(0, len(results) - 1))
    resumed = list(run(plan, mixing, sigmas, noise, resume_after=results[index]))
    assert [result.segment for result in resumed] == list(range(index + 1, plan.num_segments))
    for again, first in zip(resumed, results[index + 1 :]):
        assert again.start == first.start and torch.equal(again.frames, first.frames)


def test_a_consumer_may_change_the_frames_it_gets() -> None:
    plan = LongVideoPlan(LongVideoConfig(chunk_frames=6, segment_chunks=2, pinned_frames=3, shift_stride=5), 60, 3)
    clip = []
    for result in run(plan, mixing, levels(3), noise):
        clip.append(result.frames.clone())
        result.frames.zero_()
    assert torch.equal(torch.cat(clip), chunked(plan))


def smooth_process(width: int) -> tuple[Tensor, Tensor]:
    """Return eigenvalues and eigenvectors of the covariance of `width` frames of a smooth Gaussian process of variance 1."""
    distance = torch.arange(width)[:, None] - torch.arange(width)[None]
    return torch.linalg.eigh(torch.exp(-0.5 * (distance / 5.0) ** 2).double())


def smooth_denoiser(x: Tensor, sigma: Tensor, frames: Sequence[range]) -> Tensor:
    """Denoise optimally for the smooth process, given the frames of one chunk."""
    values, vectors = smooth_process(x.shape[1])
    gain = (vectors * (values.clamp(min=0) / (values.clamp(min=0) + sigma**2))) @ vectors.T
    return torch.einsum("fg,cg...->cf...", gain.float(), x)


@pytest.mark.parametrize("fusion", ["shift", "overlap"])
def test_fusion_makes_seams_smooth(fusion: str) -> None:
    def jumps(config: LongVideoConfig) -> Tensor:
        """Return the mean square difference of neighbouring frames, which is 2 (1 - exp(-1/50)) = 0.04 in the process itself."""
        plan = LongVideoPlan(config, 180, 20)
        wide = run(plan, smooth_denoiser, levels(20), lambda f: frame_noise(1, f.start, len(f), (500,), "seams"))
        clip = torch.cat([result.frames for result in wide])
        assert clip.var() == pytest.approx(1, abs=0.25)
        return clip.diff(dim=0).square().mean(dim=1)

    apart = jumps(LongVideoConfig(20, 1, 0))
    fused = jumps(LongVideoConfig(20, 3, 5, fusion=fusion, shift_stride=7, overlap_frames=8))
    assert apart.max() > 1
    assert fused.max() < 0.15  # measured: 1.76 apart, 0.085 fused


def test_noise_is_a_function_of_seed_stream_and_frame() -> None:
    whole = frame_noise(0, 0, 50, (4, 3), "ethd")
    assert torch.equal(frame_noise(0, 17, 9, (4, 3), "ethd"), whole[17:26])
    for other in (frame_noise(1, 0, 50, (4, 3), "ethd"), frame_noise(0, 0, 50, (4, 3), "dicte"), whole.roll(1, 0)):
        assert (other != whole).all()
    far = frame_noise(0, 180_000, 200, (1000,), "ethd")
    assert far.mean().abs() < 0.01 and far.std() == pytest.approx(1, abs=0.01)
    assert torch.corrcoef(far).fill_diagonal_(0).abs().max() < 0.2
    # Golden values: a change of these changes every video.
    torch.testing.assert_close(whole[1, 0], torch.tensor([-2.5335, -1.2247, 0.9908]), atol=1e-4, rtol=0)


def test_noise_is_fast_enough() -> None:
    start = time.process_time()
    frame_noise(0, 0, 1500, (16, 16, 16), "ethd")
    assert time.process_time() - start < 1  # 0.1 s on an idle core


@pytest.mark.parametrize("fusion", ["shift", "overlap"])
def test_memory_does_not_depend_on_the_length_of_the_clip(fusion: str) -> None:
    config = LongVideoConfig(chunk_frames=10, segment_chunks=4, pinned_frames=4, fusion=fusion)
    dim = 77  # a size by which the tensors of the run are recognised

    def peak(num_frames: int) -> int:
        """Return the greatest number of frames held in tensors during the calls at the clip's end."""
        most = 0

        def recording(x: Tensor, sigma: Tensor, frames: Sequence[range]) -> Tensor:
            nonlocal most
            if frames[-1].stop == num_frames:
                held = [item.untyped_storage() for item in gc.get_objects() if type(item) is Tensor]
                sizes = {storage.data_ptr(): storage.nbytes() for storage in held}
                most = max(most, sum(size for size in sizes.values() if size % (dim * 4) == 0) // (dim * 4))
            return x / (1 + sigma)

        plan = LongVideoPlan(config, num_frames, 2)
        for _ in run(plan, recording, levels(2), lambda f: frame_noise(0, f.start, len(f), (dim,), "memory")):
            pass
        return most

    others = peak(1)
    short, long = peak(148) - others, peak(400) - others  # 4 and 11 of the longest segments
    assert long == short
    assert config.segment_frames <= short <= 5 * config.segment_frames


def test_sampling_keeps_no_graph() -> None:
    gain = torch.ones((), requires_grad=True)
    plan = LongVideoPlan(LongVideoConfig(chunk_frames=8), 20, 2)
    assert not chunked(plan, lambda x, sigma, frames: gain * mixing(x, sigma, frames)).requires_grad


def test_two_hours_are_planned_in_less_than_a_second() -> None:
    start = time.process_time()
    plan = LongVideoPlan(LongVideoConfig(), 180_000, 25)
    segments = plan.segments()
    first = next(segments)
    assert plan.num_calls > 180_000 / 25 * 25
    assert time.process_time() - start < 1
    assert first.result.frames.start == 0
    assert plan.segment(plan.num_segments - 1).result.frames.stop == 180_000


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ({"chunk_frames": 1}, "chunk_frames is 1"),
        ({"segment_chunks": 0}, "segment_chunks is 0"),
        ({"shift_stride": 25}, "shift_stride is 25"),
        ({"fusion": "overlap", "overlap_frames": 0}, "overlap_frames is 0"),
        ({"pinned_frames": 25}, r"keep it in 0\.\.24"),
        ({"segment_chunks": 1, "pinned_frames": 9}, r"keep it in 0\.\.8"),
    ],
)
def test_invalid_configs_are_refused(settings_: dict[str, int | str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LongVideoConfig(**settings_)
    with pytest.raises((ValueError, TypeError), match="'mean'"):
        LongVideoConfig(fusion="mean")


def test_misuse_raises_an_error_that_names_it() -> None:
    plan = LongVideoPlan(LongVideoConfig(chunk_frames=6, segment_chunks=2, pinned_frames=3, shift_stride=5), 30, 2)
    first, second = plan.segment(0), plan.segment(1)
    with pytest.raises(ValueError, match="needs 3, the last of them 0"):
        run(plan, mixing, levels(4), noise)
    with pytest.raises(ValueError, match="must have the input's shape"):
        chunked(plan, lambda x, sigma, frames: x[0])
    with pytest.raises(ValueError, match="give the tail of segment 0"):
        gather_input(second.calls[0], {}, None, noise, torch.tensor(1.0))
    with pytest.raises(ValueError, match="differ in segment or step"):
        advance([first.calls[0], first.calls[-1]], {}, None, noise, levels(2), mixing)
    with pytest.raises(ValueError, match="num_frames is 0"):
        LongVideoPlan(plan.config, 0, 2)
    with pytest.raises(ValueError, match=r"segment is 9; the clip has 0\.\."):
        plan.segment(9)
