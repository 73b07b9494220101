"""Tracks of the faces in a scene, and a steady crop that follows one of them.

Faces are detected in every sixth frame, and joined to tracks by overlap. The crop has one size for a whole clip, and
does not move while the head stays near its place: a crop that trembles would teach a network to tremble.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, UInt8

from emotivetalk.media.face_detection import FaceBox, detect_upright_faces, is_upright_face
from emotivetalk.media.faces import DEFAULT_FRAMING, Framing
from emotivetalk.media.squares import cut_square, resize_square

LOOK_EVERY = 6  # frames
EXAMINE_EVERY = 2  # searches: how often a track that is not yet sure is examined
MAX_MISSES = 3  # searches in a row without the face end its track
SAME_FACE_IOU = 0.25
STILL = 0.06  # of the crop's side: a face that stays so near to its median place is not followed
SMOOTHING_FRAMES = 12.0  # standard deviation of the Gaussian over a moving face's path


@dataclass
class Track:
    """One face through a scene: the rising numbers of the frames in which it was found, and its box in each.

    Attributes:
        misses: number of searches since then.
        is_sure: examined at all angles, and found to be a face.
    """

    frames: list[int] = field(default_factory=list)
    boxes: list[FaceBox] = field(default_factory=list)
    misses: int = 0
    is_sure: bool = False

    def add(self, frame: int, box: FaceBox) -> None:
        """Append a frame."""
        self.frames.append(frame)
        self.boxes.append(box)
        self.misses = 0

    def share(self, looks: Sequence[int]) -> float:
        """Share of these frames in which the face was found, 0 to 1."""
        return len(set(looks) & set(self.frames)) / max(1, len(looks))

    def width(self, frames: range) -> float:
        """Median width of its boxes in these frames, in pixels; 0 if there are none."""
        widths = [box.width for frame, box in zip(self.frames, self.boxes) if frame in frames]
        return float(np.median(widths)) if widths else 0.0

    def scaled(self, factor: float) -> Track:
        """Return the track for pictures that are larger by a factor."""
        boxes = [FaceBox(b.x * factor, b.y * factor, b.width * factor, b.height * factor) for b in self.boxes]
        return Track(list(self.frames), boxes, self.misses, self.is_sure)


def looks_of(scene: range) -> range:
    """The frames of a scene in which `track_faces` searches."""
    return range(scene.start, scene.stop, LOOK_EVERY)


def track_faces(pictures: Iterable[tuple[int, UInt8[np.ndarray, "height width 3"]]]) -> list[Track]:
    """Follow the faces of one scene.

    Args:
        pictures: the scene's pictures at `looks_of`, each with the number of its frame.
    """
    ended: list[Track] = []
    live: list[Track] = []
    for look, (frame, picture) in enumerate(pictures):
        found = detect_upright_faces(picture)
        for track in live:
            box = _take_same(track.boxes[-1], found)
            if box is None:
                track.misses += 1
            else:
                track.add(frame, box)
        ended += [track for track in live if track.misses == MAX_MISSES]
        live = [track for track in live if track.misses < MAX_MISSES]
        live += [Track([frame], [box]) for box in found]
        for track in live:
            if look % EXAMINE_EVERY == 0 and track.misses == 0 and not track.is_sure:
                track.is_sure = is_upright_face(picture, track.boxes[-1])
    return sorted(ended + live, key=lambda track: (track.frames[0], track.boxes[0].x))


def _take_same(box: FaceBox, found: list[FaceBox]) -> FaceBox | None:
    """Remove the box that overlaps most with a known one from the list, and return it; None if none overlaps enough."""
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


def steady_crop(track: Track, frames: range, framing: Framing = DEFAULT_FRAMING) -> SteadyCrop:
    """The crop that follows a track through the frames of a clip.

    Args:
        track: has at least one of these frames.
        framing: place of the face's box in the crop.
    """
    width = track.width(frames)
    assert width > 0, "the track has none of these frames"
    side = max(2, round(width / framing.width))
    found = [(frame, box.center) for frame, box in zip(track.frames, track.boxes) if frame in frames]
    times = np.array([frame for frame, _ in found], np.float64)
    centers = np.array([center for _, center in found])
    paths = [_steady(times, centers[:, axis], frames, STILL * side) for axis in (0, 1)]
    left = np.round(paths[0] - framing.center_x * side).astype(int)
    top = np.round(paths[1] - framing.center_y * side).astype(int)
    return SteadyCrop(side, tuple(left.tolist()), tuple(top.tolist()))


def _steady(
    times: Float[np.ndarray, " looks"], places: Float[np.ndarray, " looks"], frames: range, still: float
) -> Float[np.ndarray, " frames"]:
    """One coordinate of the path: its median if it stays near that, else the path smoothed over half a second."""
    middle = float(np.median(places))
    if len(places) >= 3:  # outliers of single searches do not count
        padded = np.pad(places, 1, mode="edge")
        places = np.median(np.stack([padded[:-2], padded[1:-1], padded[2:]]), axis=0)
    if np.abs(places - middle).max() <= still:
        return np.full(len(frames), middle)
    path = np.interp(np.arange(frames.start, frames.stop), times, places)
    reach = round(3 * SMOOTHING_FRAMES)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / SMOOTHING_FRAMES) ** 2)
    # Mirrored through the end points, so that steady motion stays steady up to the ends.
    padded = (
        np.pad(path, reach, mode="reflect", reflect_type="odd")
        if len(path) > reach
        else np.pad(path, reach, mode="edge")
    )
    return np.convolve(padded, kernel / kernel.sum(), mode="valid")
