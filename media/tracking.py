"""Faces through a scene, and a crop that follows one of them steadily.

Every few frames the faces that are known are looked for where they were; at every second look the whole picture is
surveyed for new ones. The crop has one size for a whole clip and stands still while the head only moves about its place: what
talks is the head, and a crop that trembles with the detector would teach a network to tremble.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, UInt8

from emotivetalk.media.cascades import FaceBox, refine_by_eyes, survey_faces, track_face
from emotivetalk.media.faces import Framing, cut_square, resize_square

LOOK_EVERY = 6  # frames
SURVEY_EVERY = 2  # looks: a second face that is hard to see is seen in one survey of three
MAX_MISSES = 3  # looks in a row without the face end its track
SAME_FACE_IOU = 0.25
STILL = 0.06  # of the crop's side: a face that stays this near to its median place is not followed
SMOOTHING_FRAMES = 12.0  # standard deviation of the Gaussian over a moving face's path

# Measured on avatars in front of rooms, in the corpus's own framing: the median of corrected boxes.
VIDEO_FRAMING = Framing(center_x=0.492, center_y=0.525, width=0.598)


@dataclass
class Track:
    """One face through a scene: the frames in which it was seen, rising, and its box in each.

    misses: how often it was not seen since.
    refined: boxes that its eyes told too, each as x, y and width in units of the box that it refines.
    """

    frames: list[int] = field(default_factory=list)
    boxes: list[FaceBox] = field(default_factory=list)
    misses: int = 0
    refined: list[tuple[float, float, float]] = field(default_factory=list)

    @property
    def is_sure(self) -> bool:
        """Whether its eyes were seen once: it is no chance likeness."""
        return bool(self.refined)

    @property
    def correction(self) -> tuple[float, float, float]:
        """How `emotivetalk.media.cascades.detect_faces` would have its boxes: the median of `refined`."""
        x, y, width = np.median(self.refined or [(0.0, 0.0, 1.0)], axis=0).tolist()
        return x, y, width

    def refine(self, picture: UInt8[np.ndarray, "height width 3"]) -> None:
        """Look for the eyes where it is now."""
        box = self.boxes[-1]
        better = refine_by_eyes(picture, box)
        if better is not None:
            unit = box.width
            self.refined.append(((better.x - box.x) / unit, (better.y - box.y) / unit, better.width / unit))

    def add(self, frame: int, box: FaceBox) -> None:
        """It was seen."""
        self.frames.append(frame)
        self.boxes.append(box)
        self.misses = 0

    def share(self, looks: Sequence[int]) -> float:
        """In how many of these frames it was seen, of 1."""
        return len(set(looks) & set(self.frames)) / max(1, len(looks))

    def width(self, frames: range) -> float:
        """The median width of its boxes in these frames, corrected, in pixels; 0 if there are none."""
        widths = [box.width * self.correction[2] for frame, box in zip(self.frames, self.boxes) if frame in frames]
        return float(np.median(widths)) if widths else 0.0

    def scaled(self, factor: float) -> Track:
        """The same in pictures that are so much larger."""
        boxes = [FaceBox(b.x * factor, b.y * factor, b.width * factor, b.height * factor) for b in self.boxes]
        return Track(list(self.frames), boxes, self.misses, list(self.refined))


def looks_of(scene: range) -> range:
    """The frames of a scene in which `track_faces` wants to look."""
    return range(scene.start, scene.stop, LOOK_EVERY)


def track_faces(pictures: Iterable[tuple[int, UInt8[np.ndarray, "height width 3"]]]) -> list[Track]:
    """Follow the faces of one scene.

    Args:
        pictures: the scene's pictures at `looks_of`, each with its frame.
    """
    ended: list[Track] = []
    live: list[Track] = []
    for look, (frame, picture) in enumerate(pictures):
        is_survey = look % SURVEY_EVERY == 0
        boxes = [track_face(picture, track.boxes[-1]) for track in live]
        seen = [box for box in boxes if box is not None]
        found = survey_faces(picture, seen, is_thorough=not live) if is_survey else []
        for track, box in zip(live, boxes):
            box = box or _take_same(track.boxes[-1], found)
            if box is None:
                track.misses += 1
            else:
                track.add(frame, box)
        ended += [track for track in live if track.misses == MAX_MISSES]
        live = [track for track in live if track.misses < MAX_MISSES]
        for box in found:
            if not any(overlap(box, track.boxes[-1]) > SAME_FACE_IOU for track in live):
                live.append(Track([frame], [box]))
        if is_survey:
            for track in live:
                if track.misses == 0:
                    track.refine(picture)
    return sorted(ended + live, key=lambda track: (track.frames[0], track.boxes[0].x))


def _take_same(box: FaceBox, found: list[FaceBox]) -> FaceBox | None:
    """The found box that overlaps most with a known one; it is taken out of the list."""
    best = max(found, key=lambda other: overlap(box, other), default=None)
    if best is None or overlap(box, best) <= SAME_FACE_IOU:
        return None
    found.remove(best)
    return best


def overlap(one: FaceBox, other: FaceBox) -> float:
    """Intersection over union."""
    width = min(one.x + one.width, other.x + other.width) - max(one.x, other.x)
    height = min(one.y + one.height, other.y + other.height) - max(one.y, other.y)
    shared = max(0.0, width) * max(0.0, height)
    return shared / (one.width * one.height + other.width * other.height - shared)


@dataclass(frozen=True)
class SteadyCrop:
    """A square of one size for each frame of a clip; it may reach beyond the picture, whose edge is then repeated."""

    side: int
    left: tuple[int, ...]
    top: tuple[int, ...]

    def cut(
        self, index: int, picture: UInt8[np.ndarray, "height width 3"], size: int
    ) -> UInt8[np.ndarray, "size size 3"]:
        """The crop of the clip's frame `index`, at another size."""
        return resize_square(cut_square(picture, self.left[index], self.top[index], self.side), size)


def steady_crop(track: Track, frames: range, framing: Framing = VIDEO_FRAMING) -> SteadyCrop:
    """The crop that follows a track through the frames of a clip.

    Args:
        track: seen at least once in these frames.
        framing: where in the crop the face's box is to be.
    """
    width = track.width(frames)
    assert width > 0, "the track was not seen in these frames"
    side = max(2, round(width / framing.width))
    dx, dy, factor = track.correction
    seen = [
        (frame, (box.x + (dx + factor / 2) * box.width, box.y + (dy + factor / 2) * box.width))
        for frame, box in zip(track.frames, track.boxes)
        if frame in frames
    ]
    times = np.array([frame for frame, _ in seen], np.float64)
    centers = np.array([center for _, center in seen])
    paths = [_steady(times, centers[:, axis], frames, STILL * side) for axis in (0, 1)]
    left = np.round(paths[0] - framing.center_x * side).astype(int)
    top = np.round(paths[1] - framing.center_y * side).astype(int)
    return SteadyCrop(side, tuple(left.tolist()), tuple(top.tolist()))


def _steady(
    times: Float[np.ndarray, " looks"], places: Float[np.ndarray, " looks"], frames: range, still: float
) -> Float[np.ndarray, " frames"]:
    """One coordinate of the path: its median while it stays near that, else smoothed over half a second."""
    middle = float(np.median(places))
    if len(places) >= 3:  # single looks that are off do not count
        padded = np.pad(places, 1, mode="edge")
        places = np.median(np.stack([padded[:-2], padded[1:-1], padded[2:]]), axis=0)
    if np.abs(places - middle).max() <= still:
        return np.full(len(frames), middle)
    path = np.interp(np.arange(frames.start, frames.stop), times, places)
    reach = round(3 * SMOOTHING_FRAMES)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / SMOOTHING_FRAMES) ** 2)
    # Mirrored through the ends' values, so that a steady motion stays one up to the ends.
    padded = (
        np.pad(path, reach, mode="reflect", reflect_type="odd")
        if len(path) > reach
        else np.pad(path, reach, mode="edge")
    )
    return np.convolve(padded, kernel / kernel.sum(), mode="valid")
