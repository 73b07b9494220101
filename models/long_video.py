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
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from models.diffusion import euler_step, noisy

Noise = Callable[[range], Float[Tensor, "frames ..."]]
"""Standard normal noise of the clip's frames in a range: `frame_noise` with everything else bound."""

Predict = Callable[[Float[Tensor, "calls frames ..."], Float[Tensor, ""], Sequence[range]], Float[Tensor, "..."]]
"""(noisy chunks, their noise level, which frames of the clip each is) -> x0 of the chunks, in the same shape."""

Spread = Callable[..., Iterable]
"""`map` or its like: a function over a sequence, results in order."""


@dataclass(frozen=True)
class LongVideoConfig:
    """How a clip is divided.

    Args:
        chunk_frames: what the network sees at once. Of a segment shorter than that, one chunk of its length; so the
            network must take shorter input (with `segment_chunks` of 2 or more, only if the whole clip is shorter).
        segment_chunks: the longest segment, in chunks. `shift` costs about one chunk more per segment and step.
        pinned_frames: of each segment but the first, how many frames repeat the end of the one before.
        fusion: of chunks within a segment.
        shift_stride: for `shift`, the frames by which the grid moves from step to step; best coprime to `chunk_frames`.
        overlap_frames: for `overlap`, the fewest frames that neighbouring chunks share.
        eased_frames: over how many frames the step from a segment to the next is spread.
        joint: whether a segment's repeated frames are pinned, or free: made anew from the same noise. Free segments do
            not wait for each other.
    """

    chunk_frames: int = 25
    segment_chunks: int = 8
    pinned_frames: int = 5
    fusion: Literal["shift", "overlap"] = "shift"
    shift_stride: int = 7
    overlap_frames: int = 5
    eased_frames: int = 8
    joint: Literal["pinned", "free"] = "pinned"

    def __post_init__(self) -> None:
        if self.chunk_frames < 2:
            raise ValueError(f"chunk_frames is {self.chunk_frames}; a chunk needs at least 2.")
        if self.segment_chunks < 1:
            raise ValueError(f"segment_chunks is {self.segment_chunks}; a segment needs at least 1.")
        if self.fusion not in ("shift", "overlap"):
            raise ValueError(f"fusion is {self.fusion!r}; choose 'shift' or 'overlap'.")
        if self.joint not in ("pinned", "free"):
            raise ValueError(f"joint is {self.joint!r}; choose 'pinned' or 'free'.")
        name = "shift_stride" if self.fusion == "shift" else "overlap_frames"
        if not 1 <= getattr(self, name) < self.chunk_frames:
            raise ValueError(f"{name} is {getattr(self, name)}; keep it in 1..{self.chunk_frames - 1}, below a chunk.")
        if self.eased_frames < 0:
            raise ValueError(f"eased_frames is {self.eased_frames}; 0 eases nothing, more spreads the step.")
        # A balanced segment has at least half of the longest's frames, and must bring as many as the next one pins.
        most = min(self.chunk_frames - 1, self.segment_frames // 3)
        if not 0 <= self.pinned_frames <= most:
            raise ValueError(
                f"pinned_frames is {self.pinned_frames}; keep it in 0..{most}: "
                "below chunk_frames, and at most a third of a segment."
            )

    @property
    def segment_frames(self) -> int:
        """The longest segment, pinned frames included."""
        return self.segment_chunks * self.chunk_frames


class CallId(NamedTuple):
    """A call's name; their order is an order to run them in."""

    segment: int
    step: int
    chunk: int


Results = Mapping[CallId, Float[Tensor, "_ ..."]]
"""What calls gave: each the frames of its chunk, one step further."""


@dataclass(frozen=True)
class Source:
    """Frames taken from one call's result: `frames` of the clip, which begin at row `first` of it, and their weights."""

    call: CallId
    frames: range
    first: int
    weights: tuple[float, ...]


@dataclass(frozen=True)
class Gather:
    """Frames of the clip as a weighted sum of calls' results; the weights of each frame sum to 1."""

    frames: range
    sources: tuple[Source, ...]

    @cached_property
    def depends_on(self) -> frozenset[CallId]:
        """The calls whose results are read."""
        return frozenset(source.call for source in self.sources)


@dataclass(frozen=True)
class Call:
    """One chunk's step, from noise level `step` to the next.

    `input` gathers the frames that are not pinned from the step before; at step 0 it has no sources and they are noise.
    `pinned` are the leading frames, maybe none, that end the segment before: the last of `SegmentPlan.tail` there.
    """

    id: CallId
    frames: range
    pinned: range
    input: Gather

    @property
    def depends_on(self) -> frozenset[CallId]:
        """The calls of this segment whose results are read; if `pinned`, the tail of the segment before is too."""
        return self.input.depends_on


@dataclass(frozen=True)
class Ease:
    """How a segment joins the one before.

    The last pinned frame, less what `call` gave for it in its row `row`, is added to the segment's first frames with
    these weights.
    """

    call: CallId
    row: int
    weights: tuple[float, ...]


@dataclass(frozen=True)
class SegmentPlan:
    """A run of chunks: `calls` in an order to run them in, and what comes of the last step.

    `frames` are what its calls see, `pinned` frames included; `result` is what it adds to the clip, and `tail` the end
    of that, which the next segment repeats (no frames in the last segment). The tail is given apart because it waits
    for fewer calls. `ease` is None where nothing is repeated; it never reaches the tail.
    """

    index: int
    frames: range
    pinned: range
    calls: tuple[Call, ...]
    result: Gather
    tail: Gather
    ease: Ease | None = None

    def calls_of(self, step: int) -> tuple[Call, ...]:
        """The calls of one step, from left to right; all see equally many frames, and none depends on another."""
        return tuple(call for call in self.calls if call.id.step == step)


@dataclass(frozen=True)
class LongVideoPlan:
    """The plan of a clip of `num_frames` in `num_steps` solver steps. Segments are made when asked for.

    Segments have equal lengths, within a frame, so none is degenerate; every frame of the clip is in the result of one.
    """

    config: LongVideoConfig
    num_frames: int
    num_steps: int

    def __post_init__(self) -> None:
        if self.num_frames < 1:
            raise ValueError(f"num_frames is {self.num_frames}; a clip needs at least 1.")
        if self.num_steps < 1:
            raise ValueError(f"num_steps is {self.num_steps}; sampling needs at least 1.")

    @property
    def num_segments(self) -> int:
        """As few as the longest segment allows."""
        pinned = self.config.pinned_frames
        return max(1, _ceil_div(self.num_frames - pinned, self.config.segment_frames - pinned))

    @property
    def num_calls(self) -> int:
        """Of all segments and steps: the whole of `run`'s progress."""
        spans = (self._span(index) for index in range(self.num_segments))
        sizes = Counter((len(frames), len(self._held(repeated))) for frames, repeated in spans)
        return sum(
            count * len(_windows(self.config, length, pinned, step))
            for (length, pinned), count in sizes.items()
            for step in range(self.num_steps)
        )

    def segments(self, first: int = 0) -> Iterator[SegmentPlan]:
        """The segments in order, from the one with index `first`."""
        return (self.segment(index) for index in range(first, self.num_segments))

    def segment(self, index: int) -> SegmentPlan:
        """One segment's plan. Raises ValueError if the clip has no such segment."""
        if not 0 <= index < self.num_segments:
            raise ValueError(f"segment is {index}; the clip has 0..{self.num_segments - 1}.")
        frames, repeated = self._span(index)
        pinned = self._held(repeated)
        layers = [_windows(self.config, len(frames), len(pinned), step) for step in range(self.num_steps)]

        def gather(step: int, wanted: range) -> Gather:
            sources = _sources(layers[step], CallId(index, step, 0), frames.start, wanted) if step >= 0 else ()
            return Gather(wanted, sources)

        calls: list[Call] = []
        for step, windows in enumerate(layers):
            for chunk, window in enumerate(windows):
                start, stop = frames.start + window.frames.start, frames.start + window.frames.stop
                free = range(max(start, pinned.stop), stop)
                held = range(start, free.start)
                calls.append(Call(CallId(index, step, chunk), range(start, stop), held, gather(step - 1, free)))
        new = range(repeated.stop, frames.stop)
        num_tail = self.config.pinned_frames if index + 1 < self.num_segments else 0
        last = self.num_steps - 1
        result, tail = gather(last, new), gather(last, new[len(new) - num_tail :])
        ease = self._ease(next(call for call in calls if call.id.step == last), repeated, len(new) - num_tail)
        return SegmentPlan(index, frames, pinned, tuple(calls), result, tail, ease)

    def _held(self, repeated: range) -> range:
        """Those of the repeated frames that are pinned: all, or none."""
        return repeated if self.config.joint == "pinned" else range(repeated.start, repeated.start)

    def _ease(self, first: Call, repeated: range, most: int) -> Ease | None:
        """Over at most `most` frames; `first` is the first call of the last step, which sees the repeated frames."""
        num = min(self.config.eased_frames, most)
        if not repeated or num == 0:
            return None
        weights = tuple(1 - (frame + 1) / (num + 1) for frame in range(num))
        return Ease(first.id, repeated.stop - 1 - first.frames.start, weights)

    def _span(self, index: int) -> tuple[range, range]:
        """What a segment sees, and what of it is in the segment before too."""
        pinned = self.config.pinned_frames
        total = self.num_frames + (self.num_segments - 1) * pinned  # a pinned frame counts in both its segments
        start, stop = (total * edge // self.num_segments - index * pinned for edge in (index, index + 1))
        return range(start, stop), range(start, start + (pinned if index else 0))


@dataclass(frozen=True)
class _Window:
    """A chunk, in frames of its segment: what the network sees, and the part and weights of its result that are used."""

    frames: range
    kept: range
    weights: tuple[float, ...]


@lru_cache(maxsize=1024)
def _windows(config: LongVideoConfig, length: int, pinned: int, step: int) -> tuple[_Window, ...]:
    """The chunks of one step that cover a segment of `length` frames, of which the first `pinned` are pinned."""
    width = min(config.chunk_frames, length)
    last = length - width
    if config.fusion == "shift":
        offset = step * config.shift_stride % config.chunk_frames
        starts = range(offset - config.chunk_frames, length, config.chunk_frames)
    else:
        hop = config.chunk_frames - config.overlap_frames
        num_gaps = max(1, _ceil_div(length - config.chunk_frames, hop))
        starts = [last * chunk // num_gaps for chunk in range(num_gaps + 1)]
    chunks = [range(start, start + width) for start in sorted({min(max(start, 0), last) for start in starts})]

    if config.fusion == "shift":  # the frames nearer to this chunk's middle than to its neighbours'
        cuts = [_ceil_div(left.stop + right.start, 2) for left, right in zip(chunks, chunks[1:])]
        keeps = [range(*ends) for ends in zip([0, *cuts], [*cuts, length])]
    else:
        keeps = chunks
    keeps = [range(max(kept.start, pinned), kept.stop) for kept in keeps]

    windows = [(chunk, kept, np.array(kept)) for chunk, kept in zip(chunks, keeps) if kept]
    total = np.zeros(length)
    for chunk, _, frames in windows:
        total[frames] += _context(chunk, frames)
    return tuple(
        _Window(chunk, kept, tuple((_context(chunk, frames) / total[frames]).tolist()))
        for chunk, kept, frames in windows
    )


def _context(chunk: range, frames: Int[np.ndarray, "frames"]) -> Int[np.ndarray, "frames"]:
    """How many frames each is from the nearer edge of the chunk, itself included."""
    return np.minimum(frames - chunk.start + 1, chunk.stop - frames)


def _sources(windows: Sequence[_Window], step: CallId, origin: int, wanted: range) -> tuple[Source, ...]:
    """Where the `wanted` frames of the clip are among the results of a step; its windows count from frame `origin`."""
    sources = []
    for chunk, window in enumerate(windows):
        kept = origin + window.kept.start
        start, stop = max(kept, wanted.start), min(origin + window.kept.stop, wanted.stop)
        if start < stop:
            first, weights = start - origin - window.frames.start, window.weights[start - kept : stop - kept]
            sources.append(Source(step._replace(chunk=chunk), range(start, stop), first, weights))
    return tuple(sources)


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
        ValueError: if the calls are not of one step, or `predict` gives back another shape.
    """
    step = calls[0].id.step
    if any(call.id[:2] != calls[0].id[:2] for call in calls):
        raise ValueError(f"calls {[tuple(call.id) for call in calls]} differ in segment or step; run them apart.")
    x = torch.stack([gather_input(call, results, tail, noise, sigmas[step]) for call in calls])
    x0 = predict(x, sigmas[step], tuple(call.frames for call in calls))
    if x0.shape != x.shape:
        raise ValueError(
            f"predict gave {tuple(x0.shape)} for {tuple(x.shape)}; its result must have the input's shape."
        )
    stepped = euler_step(x, x0, sigmas[step], sigmas[step + 1])
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
    spread: Spread = map,
) -> Iterator[SegmentResult]:
    """Walk the plan in one process, giving each segment when it is done.

    Memory is a segment's: the chunks of two steps and the last result, however long the clip.

    Args:
        sigmas: the plan's `num_steps` noise levels, falling, and a final 0 (`diffusion.sigma_schedule`).
        noise: on the device to work on, in float32.
        batch_calls: how many chunks to stack into one call of `predict`.
        progress: told of each call when it is done, of `plan.num_calls`.
        resume_after: an earlier run's result; this one begins with the next segment.
        spread: `map`, or that of a pool of threads: the calls of a step do not depend on each other.

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
    return _walk(plan, predict, sigmas, noise, batch_calls, progress, resume_after, spread)


def _walk(
    plan: LongVideoPlan,
    predict: Predict,
    sigmas: Float[Tensor, "levels"],
    noise: Noise,
    batch_calls: int,
    progress: Callable[[Call], None] | None,
    resume_after: SegmentResult | None,
    spread: Spread,
) -> Iterator[SegmentResult]:
    tail = resume_after.frames if resume_after else None
    for segment in plan.segments(resume_after.segment + 1 if resume_after else 0):
        result = run_segment(segment, tail, predict, sigmas, noise, batch_calls, progress, spread)
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
    spread: Spread = map,
) -> SegmentResult:
    """All steps of one segment; `tail` are final frames of the segment before, None for the first. Otherwise as `run`."""
    before: dict[CallId, Tensor] = {}
    for step in range(len(sigmas) - 1):
        calls = segment.calls_of(step)
        batches = [calls[first : first + batch_calls] for first in range(0, len(calls), batch_calls)]

        def work(batch: Sequence[Call], results: Results = before) -> dict[CallId, Tensor]:
            return advance(batch, results, tail, noise, sigmas, predict)

        made: dict[CallId, Tensor] = {}
        for batch, part in zip(batches, spread(work, batches), strict=True):
            made |= part
            if progress:
                for call in batch:
                    progress(call)
        before = made
    frames = finish(segment.result, segment.ease, before, tail)
    return SegmentResult(segment.index, segment.result.frames.start, frames)


def _ceil_div(numerator: int, denominator: int) -> int:
    return -(-numerator // denominator)
