"""Figures from landmarks: what they measure, and what they do not depend on."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from emotivetalk.evaluation.observed_faces import (
    ObservedCase,
    ObservedFaces,
    brow_height,
    corner_height,
    expression_figures,
    eye_openings,
    face_figures,
    identity_figure,
    lip_distance,
    mouth_against_real,
    mouth_figure,
    observe_faces,
    outline_distance,
    track_of,
)
from emotivetalk.media.face_observer import FaceObservation
from tests.corpus.drawn_face import drawn_landmarks
from tests.evaluation import made_measurements as made

NUM = 12


def face(opening: float = 0.0, smile: float = 0.0, brows: float = 0.0, lid: float = 0.0) -> np.ndarray:
    """Return the mean face's landmarks with the lips apart, the corners, the brows or the left lower lid raised, in pixels."""
    points = drawn_landmarks().astype(np.float64)
    points[14, 1] += opening
    points[[61, 291], 1] -= smile
    points[[105, 334], 1] -= brows
    points[145, 1] -= lid
    return points


def observation(*faces: np.ndarray, identity: np.ndarray | None = None) -> FaceObservation:
    embeddings = np.full((len(faces), 128), np.nan) if identity is None else np.tile(identity, (len(faces), 1))
    return FaceObservation(np.stack(faces).astype(np.float32), embeddings.astype(np.float32))


def turned(points: np.ndarray) -> np.ndarray:
    """Roll, scale and move a face."""
    angle = 0.3
    rotation = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    return 1.7 * points @ rotation.T + np.array([40, -25, 3])


def nothing(num: int = NUM) -> FaceObservation:
    return FaceObservation(np.full((num, 478, 3), np.nan, np.float32), np.full((num, 128), np.nan, np.float32))


@pytest.mark.parametrize(
    ("measure", "change"),
    [(lip_distance, {"opening": 20}), (corner_height, {"smile": 9}), (brow_height, {"brows": 9})],
)
def test_a_measure_follows_its_part_alone(measure, change):
    rest, moved = measure(face()[None])[0], measure(face(**change)[None])[0]
    assert moved > rest + 0.02
    assert measure(turned(face(**change))[None])[0] == pytest.approx(moved, rel=1e-5)
    others = {"opening": 20, "smile": 9, "brows": 9} | dict.fromkeys(change, 0)
    if measure is not corner_height:  # the middle of the lips moves with the lower lip
        assert measure(face(**others)[None])[0] == pytest.approx(rest, rel=1e-5)


def test_each_eye_is_measured_by_its_own_width():
    (left, right), (closed, same) = eye_openings(face()[None])[:, 0], eye_openings(face(lid=6)[None])[:, 0]
    assert closed < left - 0.05 and same == pytest.approx(right)


def test_the_outline_is_free_of_where_the_head_is():
    assert outline_distance(face()[None], turned(face())[None]) == pytest.approx(0, abs=1e-5)
    wider = face()
    wider[[234, 454], 0] += np.array([-20, 20])
    assert outline_distance(face()[None], wider[None]) > 0.003


def test_frames_without_a_face_are_interpolated():
    partly = observation(face(), face(), face(opening=20))
    partly.landmarks[1] = np.nan
    opening = track_of(lip_distance, partly)
    assert opening[1] == pytest.approx((opening[0] + opening[2]) / 2)
    assert track_of(lip_distance, nothing()).tolist() == [0.0] * NUM


def clips(is_right: bool = True) -> list[ObservedCase]:
    """Make four people who open the mouth and smile as their truth says, or as the next one's."""
    rng = np.random.default_rng(4)
    jaws = rng.uniform(0, 1, (4, NUM))
    smiles, brows, people = np.array([0.0, 1.0, -0.5, 0.5]), np.array([0.5, 0.0, 1.0, -1.0]), rng.normal(size=(4, 128))
    made_clips = []
    for k in range(4):
        case = made.case(num=NUM)
        case.lip[:, 0] = torch.from_numpy(jaws[k]).float()
        case = replace(case, expression=torch.zeros(NUM, 12))
        case.expression[:, 6] = float(smiles[k])
        drawn = k if is_right else (k + 1) % 4
        rest = 6 * k  # this person's brows are higher
        truth = observation(
            *(face(30 * jaw, 8 * smiles[k], 5 * brows[k] + rest) for jaw in jaws[k]), identity=people[k]
        )
        generated = observation(
            *(face(30 * jaw, 8 * smiles[drawn], 5 * brows[drawn] + rest, 6.0 * (not is_right)) for jaw in jaws[drawn]),
            identity=people[drawn],
        )
        portrait = observation(face(brows=rest), identity=people[k])
        made_clips.append(ObservedCase(case, ObservedFaces(portrait, generated, truth, nothing(1))))
    return made_clips


def faces_of(observed: list[ObservedCase]) -> list[ObservedFaces]:
    return [clip.faces for clip in observed]


def test_a_video_like_the_truth_reaches_the_ceilings_and_another_does_not():
    right, wrong = clips(), clips(is_right=False)
    figures = [mouth_figure("held_out", "mouth", right), *expression_figures(right), *face_figures(faces_of(right))]
    figures.append(identity_figure(faces_of(right)))
    for figure in figures:
        assert figure.value.value == pytest.approx(figure.ceiling.value, abs=1e-6), figure.key
        assert figure.holds is not False
    poor = [mouth_figure("held_out", "mouth", wrong), *expression_figures(wrong), *face_figures(faces_of(wrong))]
    poor.append(identity_figure(faces_of(wrong)))
    for good, bad in zip(figures, poor, strict=True):
        if good.key != "mesh.faces":
            assert abs(bad.value.value - good.value.value) > 0.02, good.key
    assert poor[-1].holds is False and poor[-2].holds is False  # identity, eyes
    assert figures[0].value.value > 0.99 and abs(figures[0].floor.value) < 0.7
    assert (figures[3].value.value, figures[3].floor.value) == (1.0, 0.0)


def test_a_mouth_that_moves_like_the_real_one_is_told_from_another():
    assert mouth_against_real(faces_of(clips())).value.value == pytest.approx(1)
    assert mouth_against_real(faces_of(clips(is_right=False))).value.value < 0.7


def test_without_embeddings_there_is_no_identity():
    blind = [replace(faces, portrait=nothing(1)) for faces in faces_of(clips())]
    assert identity_figure(blind) is None


def test_portrait_generated_and_true_frames_are_told_apart():
    class Observer:
        """Finds the mean color where a mesh would find a face."""

        def observe(self, frames, embedded):
            self.embedded, self.frames = list(embedded), frames
            means = frames.reshape(len(frames), -1).mean(1)
            return FaceObservation(np.tile(means[:, None, None], (1, 478, 3)), np.full((len(frames), 128), np.nan))

    generated = np.random.default_rng(0).integers(0, 255, (5, 64, 64, 3)).astype(np.uint8)
    observer = Observer()
    faces = observe_faces(observer, np.full((64, 64, 3), 7, np.uint8), generated, np.full((5, 64, 64, 3), 9, np.uint8))
    assert faces.portrait.landmarks[0, 0, 0] == 7
    assert [len(part.landmarks) for part in vars(faces).values()] == [1, 5, 5, 1]
    assert (faces.truth.landmarks == 9).all()
    assert observer.embedded == [0, 3, 4, 5, 8, 9, 10]  # the portrait, and frames 1 to 3 of both videos
    scrambled = observer.frames[1]
    assert not np.array_equal(scrambled, generated[2])
    assert np.array_equal(np.sort(scrambled.ravel()), np.sort(generated[2].ravel()))
