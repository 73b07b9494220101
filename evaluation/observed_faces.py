"""Figures from a packaged face mesh and a packaged face embedding, which know nothing of this project's people (ours).

The mesh's landmarks give mouth opening, smile, brows, the opening of each eye and the face's outline; the embedding gives the
identity. Lengths are in units of the distance between the outer corners of the eyes. All true frames are read in the same
way, which gives the ceilings.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, UInt8

from emotivetalk.corpus.parameters import EXPRESSION
from emotivetalk.evaluation import metrics
from emotivetalk.evaluation.cases import EvaluationCase
from emotivetalk.evaluation.figures import Figure
from emotivetalk.evaluation.metrics import Estimate
from emotivetalk.evaluation.reader import mouth_opening
from emotivetalk.media.face_observer import FaceObservation, FaceObserver

Landmarks = Float[np.ndarray, "frames 478 3"]
Track = Float[np.ndarray, " frames"]

# Indices in MediaPipe's face mesh.
_INNER_LIPS, _LIP_MIDLINE, _MOUTH_CORNERS = (13, 14), (13, 14, 0, 17), (61, 291)
_EYE_CORNERS, _NOSE_BASE, _BROWS = (33, 133, 362, 263), 2, (105, 334)
_EYES = ((159, 145, 33, 133), (386, 374, 362, 263))  # upper lid, lower lid, outer corner and inner corner of each eye
_OUTLINE = (
    *(10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377),
    *(152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109),
)

EYES_ALIKE_MARGIN, IDENTITY_SHARE = 0.02, 0.97
_NUM_EMBEDDED = 3  # frames of each video
_BLOCK = 32  # pixels
_SMILE = EXPRESSION.index("smile")


@dataclass(frozen=True, eq=False)
class ObservedFaces:
    """Observations of the mesh and the embedding in one case; `scrambled` is a picture without a face."""

    portrait: FaceObservation
    generated: FaceObservation
    truth: FaceObservation
    scrambled: FaceObservation


@dataclass(frozen=True, eq=False)
class ObservedCase:
    """A case and its observations."""

    case: EvaluationCase
    faces: ObservedFaces


def observe_faces(
    observer: FaceObserver,
    portrait: UInt8[np.ndarray, "H W 3"],
    generated: UInt8[np.ndarray, "frames H W 3"],
    truth: UInt8[np.ndarray, "frames H W 3"],
) -> ObservedFaces:
    """Observe the faces of a video; three frames of each kind, and the portrait, are embedded."""
    num, first = len(generated), 2
    frames = np.concatenate([portrait[None], _scrambled(generated[num // 2])[None], generated, truth])
    embedded = np.linspace(0, num - 1, _NUM_EMBEDDED + 2)[1:-1].round().astype(int)
    observed = observer.observe(frames, [0, *(first + embedded), *(first + num + embedded)])
    return ObservedFaces(observed[:1], observed[first : first + num], observed[first + num :], observed[1:2])


# ------------------------------------------------------------------------------------------------------ measures


def lip_distance(landmarks: Landmarks) -> Track:
    """Compute the distance between the inner edges of the lips."""
    return _distance(landmarks, *_INNER_LIPS) / _unit(landmarks)


def corner_height(landmarks: Landmarks) -> Track:
    """Compute the height of the mouth's corners over the middle of the lips: a smile raises it."""
    return _height(landmarks, _MOUTH_CORNERS, _LIP_MIDLINE)


def brow_height(landmarks: Landmarks) -> Track:
    """Compute the height of the brows over the corners of the eyes."""
    return _height(landmarks, _BROWS, _EYE_CORNERS)


def eye_openings(landmarks: Landmarks) -> Float[np.ndarray, "2 frames"]:
    """Compute the opening of each eye over its width."""
    return np.stack([_distance(landmarks, a, b) / _distance(landmarks, c, d) for a, b, c, d in _EYES])


def mean_outline(landmarks: Landmarks) -> Float[np.ndarray, "points 2"]:
    """Average the face's outline over frames, each moved, rotated and scaled to the same eyes."""
    points = landmarks[np.isfinite(landmarks[:, 0, 0]), :, :2].astype(np.float64)
    eyes = points[:, [_EYE_CORNERS[0], _EYE_CORNERS[3]]]
    across = eyes[:, 1] - eyes[:, 0]
    rotation = np.stack([across, np.stack([-across[:, 1], across[:, 0]], 1)], 1)
    outline = points[:, list(_OUTLINE)] - eyes.mean(1)[:, None]
    return np.einsum("fpi,fji->fpj", outline, rotation / np.square(across).sum(1)[:, None, None]).mean(0)


def outline_distance(one: Landmarks, other: Landmarks) -> float:
    """Compute the mean distance between the outlines of two series of frames; NaN if one of them has no face."""
    return float(np.linalg.norm(mean_outline(one) - mean_outline(other), axis=1).mean())


def _distance(landmarks: Landmarks, one: int, other: int) -> Track:
    return np.linalg.norm(landmarks[:, one] - landmarks[:, other], axis=1)


def _unit(landmarks: Landmarks) -> Track:
    return _distance(landmarks, _EYE_CORNERS[0], _EYE_CORNERS[3])


def _height(landmarks: Landmarks, points: Sequence[int], base: Sequence[int]) -> Track:
    """Compute the height of the points' mean over the base's, along the line from the nose's base to the eyes."""
    up = landmarks[:, list(_EYE_CORNERS)].mean(1) - landmarks[:, _NOSE_BASE]
    up = up / np.linalg.norm(up, axis=1, keepdims=True)
    return ((landmarks[:, list(points)].mean(1) - landmarks[:, list(base)].mean(1)) * up).sum(1) / _unit(landmarks)


def track_of(measure: Callable[[Landmarks], Track], observation: FaceObservation) -> Track:
    """Measure each frame; frames without a face are interpolated, and a video without any face gives zeros."""
    has_face, frames = observation.has_face, np.arange(len(observation.landmarks))
    if not has_face.any():
        return np.zeros(len(frames))
    return np.interp(frames, frames[has_face], measure(observation.landmarks[has_face]).astype(np.float64))


# ------------------------------------------------------------------------------------------------------- figures


def mouth_figure(key: str, title: str, clips: Sequence[ObservedCase]) -> Figure:
    """Return the r of the mesh's mouth opening and the truth's. Floor: the next clip's speech."""
    generated, observed_truth = (_tracks(lip_distance, clips, name) for name in ("generated", "truth"))
    truth = [mouth_opening(clip.case.lip).numpy() for clip in clips]
    mismatched = [(a[: len(b)], b[: len(a)]) for a, b in zip(generated, _rotated(truth), strict=True)]
    return Figure(
        f"mesh.mouth_r.{key}",
        f"face mesh, {title}: r",
        metrics.correlation(generated, truth),
        metrics.correlation(observed_truth, truth),
        metrics.correlation(*zip(*mismatched, strict=True)),
    )


def mouth_against_real(clips: Sequence[ObservedFaces]) -> Figure:
    """Return the r of the mesh's mouth opening in generated and in real video. Floor: the next clip's real video."""
    generated, real = ([track_of(lip_distance, getattr(c, name)) for c in clips] for name in ("generated", "truth"))
    mismatched = [(a[: len(b)], b[: len(a)]) for a, b in zip(generated, _rotated(real), strict=True)]
    floor = metrics.correlation(*zip(*mismatched, strict=True)) if len(clips) > 1 else None
    title = "face mesh, mouth opening against the real video's: r"
    return Figure("mesh.mouth_r", title, metrics.correlation(generated, real), floor=floor)


def expression_figures(clips: Sequence[ObservedCase]) -> list[Figure]:
    """Return the r over clips of smile and brows.

    The corners of the mouth are compared with the true smile. The height of the brows differs more among people than
    among expressions, so it is taken relative to the portrait's and compared with the mesh's reading of the true frames;
    its ceiling is one half of the true frames against the other. Floors: the truth of the next clip.
    """
    smiles = np.array([float(clip.case.expression[:, _SMILE].mean()) for clip in clips])
    corners = {name: _means(corner_height, clips, name) for name in ("generated", "truth")}
    rest = _means(brow_height, clips, "portrait")
    brows = {name: _means(brow_height, clips, name) - rest for name in ("generated", "truth")}
    halves = [_means(brow_height, clips, "truth", half) - rest for half in (slice(0, None, 2), slice(1, None, 2))]
    return [
        Figure(
            "mesh.smile",
            "face mesh, corners of the mouth against the true smile, over clips: r",
            _r_over_clips(corners["generated"], smiles),
            _r_over_clips(corners["truth"], smiles),
            _r_over_clips(corners["generated"], np.roll(smiles, -1)),
        ),
        Figure(
            "mesh.brows",
            "face mesh, brows against those of true frames, over clips: r",
            _r_over_clips(brows["generated"], brows["truth"]),
            _r_over_clips(*halves),
            _r_over_clips(brows["generated"], np.roll(brows["truth"], -1)),
        ),
    ]


def face_figures(clips: Sequence[ObservedFaces]) -> list[Figure]:
    """Return the share of frames with a face, and the difference between the eyes.

    Floors: a picture whose blocks are shuffled; the right eye of the next clip.
    """

    def share(name: str) -> Estimate:
        return metrics.mean_estimate([float(getattr(clip, name).has_face.mean()) for clip in clips])

    def difference(name: str, others: Sequence[ObservedFaces]) -> Estimate:
        values = []
        for clip, other in zip(clips, others, strict=True):
            left = track_of(lambda points: eye_openings(points)[0], getattr(clip, name))
            right = track_of(lambda points: eye_openings(points)[1], getattr(other, name))
            num = min(len(left), len(right))
            values.append(float(np.abs(left[:num] - right[:num]).mean()))
        return metrics.mean_estimate(values)

    alike = Figure(
        "mesh.eyes_alike",
        "face mesh, difference of the eyes' openings over their widths",
        difference("generated", clips),
        difference("truth", clips),
        difference("generated", _rotated(clips)),
    )
    assert alike.ceiling is not None
    return [
        Figure(
            "mesh.faces",
            "face mesh, share of frames with a face",
            share("generated"),
            share("truth"),
            share("scrambled"),
        ),
        replace(alike, at_most=alike.ceiling.value + EYES_ALIKE_MARGIN),
    ]


def identity_figure(clips: Sequence[ObservedFaces]) -> Figure | None:
    """Return the cosine of the embeddings of generated frames and the portrait; None without embeddings.

    Ceiling: true frames and the portrait. Floor: generated frames and the portrait of the next clip. The bound is a share
    of the ceiling.
    """

    def similarity(name: str, others: Sequence[ObservedFaces]) -> Estimate | None:
        values = []
        for clip, other in zip(clips, others, strict=True):
            cosines = _cosines(getattr(clip, name).embeddings, other.portrait.embeddings[0])
            values += [float(cosines.mean())] if len(cosines) else []
        return metrics.mean_estimate(values) if values else None

    value, ceiling = similarity("generated", clips), similarity("truth", clips)
    if value is None or ceiling is None:
        return None
    return Figure(
        "identity",
        "face embedding, generated frames against the portrait: cosine",
        value,
        ceiling,
        similarity("generated", _rotated(clips)),
        at_least=IDENTITY_SHARE * ceiling.value,
    )


def outline_figure(
    ends: Sequence[tuple[FaceObservation, FaceObservation]],
    true_ends: Sequence[tuple[FaceObservation, FaceObservation]],
    other: FaceObservation,
) -> Figure:
    """Return the distance between the outlines at the start and at the end of long clips.

    Args:
        ends, true_ends: first and last seconds of each clip, generated and true.
        other: another person's portrait, for the floor.
    """

    def distance(pairs: Sequence[tuple[FaceObservation, FaceObservation]]) -> Estimate:
        distances = [outline_distance(first.landmarks, last.landmarks) for first, last in pairs]
        return metrics.mean_estimate(distances)

    return Figure(
        "mesh.outline",
        "face mesh, long clips, outline at the end against the start, over the eyes' distance",
        distance(ends),
        distance(true_ends),
        distance([(first, other) for first, _ in ends]),
    )


def _tracks(measure: Callable[[Landmarks], Track], clips: Sequence[ObservedCase], name: str) -> list[Track]:
    return [track_of(measure, getattr(clip.faces, name)) for clip in clips]


def _means(
    measure: Callable[[Landmarks], Track], clips: Sequence[ObservedCase], name: str, frames: slice = slice(None)
) -> Float[np.ndarray, " clips"]:
    return np.array([track[frames].mean() for track in _tracks(measure, clips, name)])


def _r_over_clips(one: Float[np.ndarray, " clips"], other: Float[np.ndarray, " clips"]) -> Estimate:
    return metrics.bootstrap(lambda index: metrics.pooled_r([one[index]], [other[index]]), len(one))


def _cosines(embeddings: Float[np.ndarray, "frames 128"], other: Float[np.ndarray, "128"]) -> np.ndarray:
    embeddings = embeddings[np.isfinite(embeddings[:, 0])]
    if not len(embeddings) or not np.isfinite(other).all():
        return np.empty(0)
    return embeddings @ other / np.linalg.norm(embeddings, axis=1) / np.linalg.norm(other)


def _rotated(items: Sequence) -> list:
    return [*items[1:], items[0]]


def _scrambled(frame: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "H W 3"]:
    """Shuffle the blocks of a picture, so that its colors stay and no face is left."""
    height, width = (side // _BLOCK * _BLOCK for side in frame.shape[:2])
    blocks = frame[:height, :width].reshape(height // _BLOCK, _BLOCK, width // _BLOCK, _BLOCK, 3).swapaxes(1, 2)
    order = np.random.default_rng(0).permutation(blocks.shape[0] * blocks.shape[1])
    shuffled = frame.copy()
    shuffled[:height, :width] = (
        blocks.reshape(-1, _BLOCK, _BLOCK, 3)[order].reshape(blocks.shape).swapaxes(1, 2).reshape(height, width, 3)
    )
    return shuffled
