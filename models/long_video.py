"""Long video: clips of any length from a network that takes `chunk_frames` at a time. Arithmetic on a plan.

Ours, after position shift (Sonic), overlap averaging (MultiDiffusion in time) and pinned motion frames; see
`docs/architecture.md`. Both diffusion networks use it: ETHD on "frames channels height width" and Di-CTE on
"frames dim". The first axis is frames, the others are free. This module knows no network, and only the noise levels of a
schedule.

    clip      |---------------------------------------------------------------|
    segments  |---- 0 ----------------|          one after another; memory holds one segment
                                 |pp--- 1 ---------------|    pp: pinned to the end of segment 0
    step 0    |  chunk  |  chunk  |...
    step 1    |  chunk  |                  `shift`: the grid moves by a stride each step, so no seam stays in place;
                 |  chunk  |  chunk  |...  chunks that would reach past an end are moved inside

- A **call** advances one chunk by one step: gather its frames from the previous step, predict, take a solver step. It
  depends only on the two or three calls it gathers from and, if it has pinned frames, on the tail of the previous
  segment. So calls may run anywhere, in any order that respects this, and may be retried.
- A **frame** has a result from every call of a step whose chunk contains it. Its context in a chunk is the number of frames
  to the nearer edge. `overlap` weighs the results in proportion to their context (a linear crossfade); `shift` keeps
  the one with the largest context.
- **Pinned frames** are the final frames of the previous segment, noised to the level of each step with their own noise. The
  network takes them as input; its results for them are dropped. With few steps from a high noise level they carry no
  information: the first step, which decides the content, gets noise. Then segments are better **free**: they
  generate the repeated frames again.
- **Easing** removes the seam between segments: the last repeated frame minus the network's result for it is added to the
  segment's first frames, fading out.
- **Noise** is a function of seed and frame, independent of the plan.

Solvers must be one-step: between steps a frame changes chunks and carries nothing but its value. `solver_step` is the only
place that knows the solver.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from threading import Lock

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from emotivetalk.models.diffusion import euler_step, noisy
from emotivetalk.models.long_video_plan import Call, CallId, Ease, Gather, LongVideoPlan, SegmentPlan

Noise = Callable[[range], Float[Tensor, "frames ..."]]
"""Standard normal noise of a range of the clip's frames."""

Predict = Callable[[Float[Tensor, "calls frames ..."], Float[Tensor, ""], Sequence[range]], Float[Tensor, "..."]]
"""(noisy chunks, their noise level, the clip's frames of each) -> x0 of the chunks, in the same shape."""

Submit = Callable[..., Future]
"""`submit` of a thread pool: (function, arguments) -> the future result. Starts calls in order."""

Results = Mapping[CallId, Float[Tensor, "_ ..."]]
"""Results of calls: for each, the frames of its chunk after the step."""


def frame_noise(
    seed: int, frame_start: int, num_frames: int, shape: Sequence[int], stream: str
) -> Float[Tensor, "frames ..."]:
    """Return standard normal noise, float32 on the CPU, that depends only on seed, stream and frame index.

    Philox is counter-based: the key is (stream, seed), and the frame index is the counter's highest word. (PyTorch's CPU
    generator keeps 32 bits of a seed, too few for a hash of every frame of a two-hour clip.) `stream` gives the two
    networks of a request different noise.
    """
    if frame_start < 0:
        raise ValueError(f"frame_start is {frame_start}; a clip's frames count from 0.")
    key = int.from_bytes(hashlib.sha256(f"{stream}/{seed}".encode()).digest()[:16], "big")
    noise = np.empty((num_frames, *shape), dtype=np.float32)
    for row, frame in zip(noise, range(frame_start, frame_start + num_frames)):
        generator = np.random.Generator(np.random.Philox(key=key, counter=frame << 192))
        generator.standard_normal(out=row, dtype=np.float32)
    return torch.from_numpy(noise)


def at_once(function: Callable, *arguments: object) -> Future:
    """Call the function at once: a `Submit` without threads. Errors are raised here."""
    future: Future = Future()
    future.set_result(function(*arguments))
    return future


def blend(gather: Gather, results: Results) -> Float[Tensor, "frames ..."]:
    """Compute the gathered frames from the results of the calls in `gather.depends_on` and maybe others."""
    like = results[gather.sources[0].call]
    frames = like.new_zeros(len(gather.frames), *like.shape[1:])
    for source in gather.sources:
        rows = results[source.call][source.first : source.first + len(source.frames)]
        weights = rows.new_tensor(source.weights).reshape(-1, *(1 for _ in rows.shape[1:]))
        start = source.frames.start - gather.frames.start
        frames[start : start + len(source.frames)] += weights * rows
    return frames


def finish(
    result: Gather, ease: Ease | None, results: Results, tail: Float[Tensor, "_ ..."] | None
) -> Float[Tensor, "frames ..."]:
    """Compute a segment's final frames, joined to the end of the previous segment.

    Args:
        results: at least of the calls in `result.depends_on` and of `ease.call`.
        tail: final frames of the previous segment; required with `ease`.
    """
    frames = blend(result, results)
    if ease is None:
        return frames
    if tail is None or len(tail) == 0:
        raise ValueError(f"{ease.call} joins the segment before; give the tail of segment {ease.call.segment - 1}.")
    offset = tail[-1].to(frames) - results[ease.call][ease.row]
    weights = frames.new_tensor(ease.weights).reshape(-1, *(1 for _ in offset.shape))
    frames[: len(weights)] += weights * offset
    return frames


def gather_input(
    call: Call,
    results: Results,
    tail: Float[Tensor, "_ ..."] | None,
    noise: Noise,
    sigma: Float[Tensor, ""],
) -> Float[Tensor, "frames ..."]:
    """Compute the network's input for a call, at the call's noise level: pinned frames, then the others.

    Args:
        results: at least of the calls in `call.depends_on`.
        tail: final frames of the previous segment; required if the call has pinned frames.
    """
    x = blend(call.input, results) if call.input.sources else sigma * noise(call.input.frames)
    if not call.pinned:
        return x
    if tail is None or len(tail) < len(call.pinned):
        raise ValueError(f"{call.id} pins {len(call.pinned)} frames; give the tail of segment {call.id.segment - 1}.")
    pinned = tail[len(tail) - len(call.pinned) :].to(x)
    return torch.cat([noisy(pinned, noise(call.pinned).to(x), sigma), x])


@dataclass(frozen=True)
class NoisyChunk:
    """The network's input for one call: a chunk with its noise level, and the level to step to."""

    call: Call
    x: Float[Tensor, "frames ..."]
    sigma: Float[Tensor, ""]
    next_sigma: Float[Tensor, ""]


def noisy_chunk(
    call: Call,
    results: Results,
    tail: Float[Tensor, "_ ..."] | None,
    noise: Noise,
    sigmas: Float[Tensor, "levels"],
) -> NoisyChunk:
    """Gather the network's input for a call; arguments as for `gather_input`, with the levels of all steps."""
    sigma, next_sigma = sigmas[call.id.step], sigmas[call.id.step + 1]
    return NoisyChunk(call, gather_input(call, results, tail, noise, sigma), sigma, next_sigma)


@torch.no_grad()
def solver_step(
    chunks: Sequence[NoisyChunk],
    denoise: Callable[[Float[Tensor, "chunks frames ..."], Float[Tensor, " chunks"]], Float[Tensor, "..."]],
) -> Float[Tensor, "chunks frames ..."]:
    """Advance chunks of equal length by one solver step, as one network call.

    The pipeline and serving both step here, and only here. The chunks may belong to different clips and steps.

    Args:
        denoise: (noisy chunks, the noise level of each) -> x0 of the chunks, in the same shape.

    Raises:
        ValueError: `denoise` returned another shape.
    """
    x = torch.stack([chunk.x for chunk in chunks])
    sigma = torch.stack([chunk.sigma for chunk in chunks])
    x0 = denoise(x, sigma)
    if x0.shape != x.shape:
        raise ValueError(
            f"predict gave {tuple(x0.shape)} for {tuple(x.shape)}; its result must have the input's shape."
        )
    return euler_step(x, x0, sigma, torch.stack([chunk.next_sigma for chunk in chunks]))


@torch.no_grad()
def advance(
    calls: Sequence[Call],
    results: Results,
    tail: Float[Tensor, "_ ..."] | None,
    noise: Noise,
    sigmas: Float[Tensor, "levels"],
    predict: Predict,
) -> dict[CallId, Float[Tensor, "_ ..."]]:
    """Run calls of one step of one segment as one network call: gather, predict, step. Pure, and without gradients.

    Raises:
        ValueError: the calls differ in segment or step, or `predict` returned another shape.
    """
    if any(call.id[:2] != calls[0].id[:2] for call in calls):
        raise ValueError(f"calls {[tuple(call.id) for call in calls]} differ in segment or step; run them apart.")
    chunks = [noisy_chunk(call, results, tail, noise, sigmas) for call in calls]
    frames = tuple(call.frames for call in calls)
    stepped = solver_step(chunks, lambda x, _: predict(x, chunks[0].sigma, frames))
    return {call.id: chunk for call, chunk in zip(calls, stepped)}


@dataclass(frozen=True)
class SegmentResult:
    """Final frames of a segment, from frame `start` of the clip on. A later run can resume after it."""

    segment: int
    start: int
    frames: Float[Tensor, "frames ..."]


def run(
    plan: LongVideoPlan,
    predict: Predict,
    sigmas: Float[Tensor, "levels"],
    noise: Noise,
    batch_calls: int = 1,
    progress: Callable[[Call], None] | None = None,
    resume_after: SegmentResult | None = None,
    submit: Submit = at_once,
) -> Iterator[SegmentResult]:
    """Run the plan in one process; yield each segment when it is done.

    Memory holds one segment, however long the clip: the chunks of two steps and the last result.

    Args:
        sigmas: the plan's `num_steps` noise levels, decreasing, and a final 0 (`diffusion.sigma_schedule`).
        noise: on the compute device, in float32.
        batch_calls: number of chunks to stack into one call of `predict`.
        progress: called after each of the `plan.num_calls` calls, from any thread, one at a time.
        resume_after: an earlier run's result; this run begins with the next segment.
        submit: of a thread pool, so that independent calls run concurrently.

    Raises:
        ValueError: the levels do not fit the plan.
    """
    if len(sigmas) != plan.num_steps + 1 or sigmas[-1] != 0:
        raise ValueError(
            f"sigmas has {len(sigmas)} levels and ends at {sigmas[-1]:g}; "
            f"the plan of {plan.num_steps} steps needs {plan.num_steps + 1}, the last of them 0."
        )
    if batch_calls < 1:
        raise ValueError(f"batch_calls is {batch_calls}; a network call needs at least 1.")
    return _walk(plan, predict, sigmas, noise, batch_calls, progress, resume_after, submit)


def _walk(
    plan: LongVideoPlan,
    predict: Predict,
    sigmas: Float[Tensor, "levels"],
    noise: Noise,
    batch_calls: int,
    progress: Callable[[Call], None] | None,
    resume_after: SegmentResult | None,
    submit: Submit,
) -> Iterator[SegmentResult]:
    tail = resume_after.frames if resume_after else None
    for segment in plan.segments(resume_after.segment + 1 if resume_after else 0):
        result = run_segment(segment, tail, predict, sigmas, noise, batch_calls, progress, submit)
        # A copy, since the consumer may change the frames.
        tail = result.frames[len(result.frames) - len(segment.tail.frames) :].clone()
        yield result


def run_segment(
    segment: SegmentPlan,
    tail: Float[Tensor, "_ ..."] | None,
    predict: Predict,
    sigmas: Float[Tensor, "levels"],
    noise: Noise,
    batch_calls: int = 1,
    progress: Callable[[Call], None] | None = None,
    submit: Submit = at_once,
) -> SegmentResult:
    """Run all steps of one segment; `tail` holds final frames of the previous one. Other arguments as for `run`."""
    made: dict[CallId, Future[dict[CallId, Tensor]]] = {}
    progress_lock = Lock()

    def work(batch: Sequence[Call]) -> dict[CallId, Tensor]:
        results = {source: made[source].result()[source] for call in batch for source in call.depends_on}
        advanced = advance(batch, results, tail, noise, sigmas, predict)
        if progress:
            with progress_lock:
                for call in batch:
                    progress(call)
        return advanced

    # Submit a step while the previous one runs, so that no thread is idle at its end. Older results are dropped.
    steps = [segment.calls_of(step) for step in range(len(sigmas) - 1)]
    for step, calls in enumerate(steps):
        for first in range(0, len(calls), batch_calls):
            batch = calls[first : first + batch_calls]
            made |= dict.fromkeys((call.id for call in batch), submit(work, batch))
        wait([made[call.id] for call in steps[step - 1]] if step else ())
        for call in steps[step - 2] if step > 1 else ():
            del made[call.id]
    last = {call.id: made[call.id].result()[call.id] for call in steps[-1]}
    frames = finish(segment.result, segment.ease, last, tail)
    return SegmentResult(segment.index, segment.result.frames.start, frames)


def run_excerpt(
    segment: SegmentPlan,
    frames: range,
    predict: Predict,
    sigmas: Float[Tensor, "levels"],
    noise: Noise,
) -> Float[Tensor, "frames ..."]:
    """Compute some final frames of a clip's first segment. Only the calls that they depend on run.

    Raises:
        ValueError: the segment is not the first, or does not contain all these frames.
    """
    if segment.index:
        raise ValueError(f"segment {segment.index} joins the one before; give the plan's first.")
    calls = {call.id: call for call in segment.calls}
    made: dict[CallId, Tensor] = {}

    def compute(needed: Iterable[CallId]) -> None:
        for name in sorted(needed):
            if name not in made:
                compute(calls[name].depends_on)
                made.update(advance([calls[name]], made, None, noise, sigmas, predict))

    gather = segment.result.part(frames)
    compute(gather.depends_on)
    return blend(gather, made)
