"""The plan of a long video: chunks, segments and calls as data. `models/long_video.py` explains and executes it."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Int


@dataclass(frozen=True)
class LongVideoConfig:
    """Division of a clip into segments and chunks.

    Args:
        chunk_frames: frames that the network takes at a time. A shorter segment is one chunk of its length, so the network
            must accept shorter input (with `segment_chunks` of 2 or more, only if the whole clip is shorter).
        segment_chunks: length of the longest segment, in chunks. `shift` needs about one chunk more per segment and step.
        pinned_frames: frames at the start of a segment, except the first, that repeat the end of the previous one.
        fusion: how to combine the chunks of a segment.
        shift_stride: for `shift`, frames by which the grid moves each step; best coprime to `chunk_frames`.
        overlap_frames: for `overlap`, minimum number of frames that neighbouring chunks share.
        eased_frames: frames over which the jump between segments is spread.
        joint: "pinned" fixes a segment's repeated frames; "free" generates them again from the same noise. Free segments do
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

    @classmethod
    def from_checkpoint(cls, settings: Mapping[str, Any]) -> "LongVideoConfig":
        """Read how a checkpoint divides ETHD's clips from its `model_index.json`."""
        return cls(
            settings["chunk_frames"],
            settings["segment_chunks"],
            settings["pinned_frames"],
            settings["fusion"],
            settings["shift_stride"],
            settings["overlap_frames"],
            joint=settings["joint"],
        )

    @property
    def segment_frames(self) -> int:
        """Length of the longest segment, pinned frames included."""
        return self.segment_chunks * self.chunk_frames


class CallId(NamedTuple):
    """Name of a call. Sorted names are a valid order of execution."""

    segment: int
    step: int
    chunk: int


@dataclass(frozen=True)
class GatherSource:
    """Frames taken from one call's result: `frames` of the clip, from row `first` of the result on, with weights."""

    call: CallId
    frames: range
    first: int
    weights: tuple[float, ...]

    def within(self, frames: range) -> "GatherSource | None":
        """Return the part within these frames; None if there is none."""
        start, stop = max(self.frames.start, frames.start), min(self.frames.stop, frames.stop)
        if start >= stop:
            return None
        skipped = start - self.frames.start
        weights = self.weights[skipped : skipped + stop - start]
        return GatherSource(self.call, range(start, stop), self.first + skipped, weights)


@dataclass(frozen=True)
class Gather:
    """Frames of the clip as a weighted sum of call results. The weights of each frame sum to 1."""

    frames: range
    sources: tuple[GatherSource, ...]

    @cached_property
    def depends_on(self) -> frozenset[CallId]:
        """The calls whose results are read."""
        return frozenset(source.call for source in self.sources)

    def part(self, frames: range) -> "Gather":
        """Return the part for some of these frames.

        Raises:
            ValueError: the frames are not a part of these.
        """
        if not (self.frames.start <= frames.start < frames.stop <= self.frames.stop):
            raise ValueError(f"frames {frames} are not among {self.frames}.")
        return Gather(frames, tuple(part for source in self.sources if (part := source.within(frames)) is not None))


@dataclass(frozen=True)
class Call:
    """One step of one chunk, from noise level `step` to the next.

    Attributes:
        input: gathers the frames that are not pinned from the previous step. At step 0 it has no sources: they are noise.
        pinned: the leading frames that repeat the end of the previous segment's `SegmentPlan.tail`; may be empty.
    """

    id: CallId
    frames: range
    pinned: range
    input: Gather

    @property
    def depends_on(self) -> frozenset[CallId]:
        """The calls of this segment whose results are read. With `pinned` frames, the previous tail is read too."""
        return self.input.depends_on


@dataclass(frozen=True)
class Ease:
    """The join of a segment to the previous one.

    The last pinned frame minus row `row` of `call`'s result is added to the segment's first frames with these weights.
    """

    call: CallId
    row: int
    weights: tuple[float, ...]


@dataclass(frozen=True)
class SegmentPlan:
    """One segment.

    Attributes:
        frames: frames of all its calls, `pinned` ones included.
        calls: in a valid order of execution.
        result: the frames that it adds to the clip.
        tail: the end of `result`, which the next segment repeats; empty in the last segment. It depends on fewer calls.
        ease: None if nothing is repeated. It never reaches the tail.
    """

    index: int
    frames: range
    pinned: range
    calls: tuple[Call, ...]
    result: Gather
    tail: Gather
    ease: Ease | None = None

    def calls_of(self, step: int) -> tuple[Call, ...]:
        """Return the calls of one step in the order of their frames. They are equally long and independent."""
        return tuple(call for call in self.calls if call.id.step == step)


@dataclass(frozen=True)
class LongVideoPlan:
    """The plan of a clip of `num_frames` in `num_steps` solver steps. Segments are planned on demand.

    The lengths of segments differ by at most one frame. Every frame of the clip is in the result of exactly one segment.

    Args:
        first_frames: length of the first segment, from a chunk to a longest segment; the others share the rest. None: all
            segments are equally long.
    """

    config: LongVideoConfig
    num_frames: int
    num_steps: int
    first_frames: int | None = None

    def __post_init__(self) -> None:
        if self.num_frames < 1:
            raise ValueError(f"num_frames is {self.num_frames}; a clip needs at least 1.")
        if self.num_steps < 1:
            raise ValueError(f"num_steps is {self.num_steps}; sampling needs at least 1.")
        shortest, longest = self.config.chunk_frames, self.config.segment_frames
        if self.first_frames is not None and not shortest <= self.first_frames <= longest:
            raise ValueError(
                f"first_frames is {self.first_frames}; keep it in {shortest}..{longest}, from a chunk to a segment."
            )

    @property
    def num_segments(self) -> int:
        """Number of segments: the fewest that the longest segment allows."""
        new_frames = self.config.segment_frames - self.config.pinned_frames
        if self.first_frames is not None:
            return 1 + max(0, _ceil_div(self.num_frames - self.first_frames, new_frames))
        return max(1, _ceil_div(self.num_frames - self.config.pinned_frames, new_frames))

    @property
    def num_calls(self) -> int:
        """Number of calls of all segments and steps, for progress."""
        spans = (self._span(index) for index in range(self.num_segments))
        sizes = Counter((len(frames), len(self._held(repeated))) for frames, repeated in spans)
        return sum(
            count * len(_windows(self.config, length, pinned, step))
            for (length, pinned), count in sizes.items()
            for step in range(self.num_steps)
        )

    def segments(self, first: int = 0) -> Iterator[SegmentPlan]:
        """Iterate over the segments from index `first` on."""
        return (self.segment(index) for index in range(first, self.num_segments))

    def segment(self, index: int) -> SegmentPlan:
        """Plan one segment. Raises ValueError if the clip has no such segment."""
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
        """Return the repeated frames that are pinned: all or none."""
        return repeated if self.config.joint == "pinned" else range(repeated.start, repeated.start)

    def _ease(self, first: Call, repeated: range, max_frames: int) -> Ease | None:
        """Ease over at most `max_frames`; `first` is the last step's first call, which has the repeated frames."""
        num = min(self.config.eased_frames, max_frames)
        if not repeated or num == 0:
            return None
        weights = tuple(1 - (frame + 1) / (num + 1) for frame in range(num))
        return Ease(first.id, repeated.stop - 1 - first.frames.start, weights)

    def _span(self, index: int) -> tuple[range, range]:
        """Return a segment's frames, and those of them that are in the previous segment too."""
        pinned = self.config.pinned_frames
        if self.first_frames is None:
            origin, earlier = 0, 0
        elif index == 0:
            return range(min(self.first_frames, self.num_frames)), range(0)
        else:
            origin, earlier = self.first_frames - pinned, 1
        number, place = self.num_segments - earlier, index - earlier
        total = self.num_frames - origin + (number - 1) * pinned  # a pinned frame counts in both its segments
        start, stop = (origin + total * edge // number - place * pinned for edge in (place, place + 1))
        return range(start, stop), range(start, start + (pinned if index else 0))


@dataclass(frozen=True)
class _Window:
    """A chunk in frames of its segment: the network's input, and the part of its result that is used, with weights."""

    frames: range
    kept: range
    weights: tuple[float, ...]


@lru_cache(maxsize=1024)
def _windows(config: LongVideoConfig, length: int, pinned: int, step: int) -> tuple[_Window, ...]:
    """Return the chunks of one step of a segment of `length` frames whose first `pinned` frames are pinned."""
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

    if config.fusion == "shift":  # keep the frames that are closer to this chunk's middle than to its neighbours'
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
    """Return each frame's distance to the nearer edge of the chunk, itself included."""
    return np.minimum(frames - chunk.start + 1, chunk.stop - frames)


def _sources(windows: Sequence[_Window], step: CallId, origin: int, wanted: range) -> tuple[GatherSource, ...]:
    """Locate the `wanted` frames of the clip in the results of a step, whose windows count from frame `origin`."""
    sources = []
    for chunk, window in enumerate(windows):
        kept = range(origin + window.kept.start, origin + window.kept.stop)
        first = window.kept.start - window.frames.start
        sources.append(GatherSource(step._replace(chunk=chunk), kept, first, window.weights).within(wanted))
    return tuple(source for source in sources if source is not None)


def _ceil_div(numerator: int, denominator: int) -> int:
    return -(-numerator // denominator)
