"""Long video: a clip of any length from a network that sees `chunk_frames` at a time. A plan as data, and its arithmetic.

Ours, after position shift (Sonic), overlap averaging (MultiDiffusion in time) and pinned motion frames; see
`docs/architecture.md`. Both diffusion networks run on it, ETHD on "frames channels height width" and Di-CTE on
"frames dim": frames lead, the rest is any shape. There is no network here, and of the noise schedule only its length.

    clip      |---------------------------------------------------------------|
    segments  |---- 0 ----------------|          one after another; memory is a segment's
                                 |pp--- 1 ---------------|    pp: pinned to the end of segment 0
    step 0    |  chunk  |  chunk  |...
    step 1    |  chunk  |                  `shift`: the grid moves by a stride each step, so no seam stays in place;
                 |  chunk  |  chunk  |...  chunks that would reach past an end are moved inside

- A **call** advances one chunk by one step: gather its frames from the step before, predict, take the solver's step. It
  depends on the two or three calls it gathers from and, if it has pinned frames, on the tail of the segment before; on
  nothing else, so calls may run anywhere, in any order that respects this, and be retried.
- A **frame** has in each step results from every call that sees it. With `context` the number of frames from it to the
  nearer edge of the chunk, `overlap` weighs the results in proportion to their context (a linear crossfade), and
  `shift` keeps the one with the most.
- **Pinned frames** are the final frames of the segment before, noised to the level of each step anew with their own
  noise. The network sees them; its results for them are dropped. In a few steps from much noise they tell it nothing:
  the first step, which decides, sees noise. There a segment is better **free**: it makes those frames once more.
- **Easing**: what the last repeated frame is, less what the network gave for it, is added to the segment's first frames,
  fading out, so that no seam is left.
- **Noise** is a function of seed and frame, whatever the plan.

Only one-step solvers are right here: from step to step a frame changes chunks and takes along nothing but its value.
A coarser grain (a call of several chunks, or several steps) needs no other data: sources name frames, not chunks.
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
"""Standard normal noise of the clip's frames in a range: `frame_noise` with everything else bound."""

Predict = Callable[[Float[Tensor, "calls frames ..."], Float[Tensor, ""], Sequence[range]], Float[Tensor, "..."]]
"""(noisy chunks, their noise level, which frames of the clip each is) -> x0 of the chunks, in the same shape."""

Submit = Callable[..., Future]
"""`submit` of a pool of threads, or its like: (function, arguments) -> the result's future. Begins calls in order."""

Results = Mapping[CallId, Float[Tensor, "_ ..."]]
"""What calls gave: each the frames of its chunk, one step further."""


def frame_noise(
    seed: int, frame_start: int, num_frames: int, shape: Sequence[int], stream: str
) -> Float[Tensor, "frames ..."]:
    """Standard normal noise, float32 on the CPU, that depends on seed, stream and frame index alone.

    Philox is counter-based: the key is (stream, seed), the frame's index is the counter's highest word. (PyTorch's CPU
    generator keeps 32 bits of a seed, too few to seed it by hash for every frame of a two-hour clip.) `stream` keeps two
    networks that serve one request apart.
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
    """A `Submit` without threads: the function has run when this returns, and what it raised is raised here."""
    future: Future = Future()
    future.set_result(function(*arguments))
    return future


def blend(gather: Gather, results: Results) -> Float[Tensor, "frames ..."]:
    """The gathered frames, from the results of the calls in `gather.depends_on` (more may be given)."""
    some = results[gather.sources[0].call]
    frames = some.new_zeros(len(gather.frames), *some.shape[1:])
    for source in gather.sources:
        rows = results[source.call][source.first : source.first + len(source.frames)]
        weights = rows.new_tensor(source.weights).reshape(-1, *(1 for _ in rows.shape[1:]))
        start = source.frames.start - gather.frames.start
        frames[start : start + len(source.frames)] += weights * rows
    return frames


def finish(
    result: Gather, ease: Ease | None, results: Results, tail: Float[Tensor, "_ ..."] | None
) -> Float[Tensor, "frames ..."]:
    """A segment's frames after the last step, joined to the end of the segment before.

    Args:
        results: of the calls in `result.depends_on` and of `ease.call`.
        tail: the final frames of the segment before; None is enough without `ease`.
    """
    frames = blend(result, results)
    if ease is None:
        return frames
    if tail is None or len(tail) == 0:
        raise ValueError(f"{ease.call} joins the segment before; give the tail of segment {ease.call.segment - 1}.")
    step = tail[-1].to(frames) - results[ease.call][ease.row]
    weights = frames.new_tensor(ease.weights).reshape(-1, *(1 for _ in step.shape))
    frames[: len(weights)] += weights * step
    return frames


def gather_input(
    call: Call,
    results: Results,
    tail: Float[Tensor, "_ ..."] | None,
    noise: Noise,
    sigma: Float[Tensor, ""],
) -> Float[Tensor, "frames ..."]:
    """What the network sees in a call, at the call's noise level: pinned frames, then the rest.

    Args:
        results: at least of the calls in `call.depends_on`.
        tail: the final frames of the segment before; None is enough where the call has no pinned ones.
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
    """Final frames of a segment: rows `start`, `start + 1`, ... of the clip. What a later run needs to resume."""

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
    """Walk the plan in one process, giving each segment when it is done.

    Memory is a segment's: the chunks of two steps and the last result, however long the clip.

    Args:
        sigmas: the plan's `num_steps` noise levels, falling, and a final 0 (`diffusion.sigma_schedule`).
        noise: on the device to work on, in float32.
        batch_calls: how many chunks to stack into one call of `predict`.
        progress: told of each call when it is done, of `plan.num_calls`; by whichever thread, one at a time.
        resume_after: an earlier run's result; this one begins with the next segment.
        submit: that of a pool of threads, so that calls which do not depend on each other run side by side.

    Raises:
        ValueError: if the levels do not fit the plan.
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
        # A copy: whoever gets the frames may change them.
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
    """All steps of one segment; `tail` are final frames of the segment before, None for the first. Otherwise as `run`."""
    made: dict[CallId, Future[dict[CallId, Tensor]]] = {}
    telling = Lock()

    def work(batch: Sequence[Call]) -> dict[CallId, Tensor]:
        results = {source: made[source].result()[source] for call in batch for source in call.depends_on}
        advanced = advance(batch, results, tail, noise, sigmas, predict)
        if progress:
            with telling:
                for call in batch:
                    progress(call)
        return advanced

    # A step is handed out while the one before it runs, so that no thread idles at its end; older ones are forgotten.
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
    """Some final frames of a clip's first segment, by the calls alone that they depend on.

    Raises:
        ValueError: the segment pins frames of one before, or has not all of these frames.
    """
    if segment.index:
        raise ValueError(f"segment {segment.index} joins the one before; give the plan's first.")
    calls = {call.id: call for call in segment.calls}
    made: dict[CallId, Tensor] = {}

    def make(wanted: Iterable[CallId]) -> None:
        for name in sorted(wanted):
            if name not in made:
                make(calls[name].depends_on)
                made.update(advance([calls[name]], made, None, noise, sigmas, predict))

    gather = segment.result.part(frames)
    make(gather.depends_on)
    return blend(gather, made)
