"""What is seen in raw pictures: faces of every skin through a scene, and sharpness that a codec's noise is not taken for."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from emotivetalk.corpus.preparing.settings import Settings
from emotivetalk.corpus.synthesize import FIRST_HELD_OUT_IDENTITY
from emotivetalk.media.image_codec import scaled, sharpness
from emotivetalk.media.tracking import looks_of, track_faces
from tests.corpus.preparing.raw_videos import Raw, film, performance

LIGHT, DARK = FIRST_HELD_OUT_IDENTITY + 4, FIRST_HELD_OUT_IDENTITY + 5  # white of eye and teeth are bright in dark skin


def coded(picture: np.ndarray, quality: int) -> np.ndarray:
    """As a codec leaves it: blocks, and noise about edges."""
    _, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return cv2.imdecode(data, cv2.IMREAD_COLOR)


@pytest.mark.parametrize("size", [(360, 640), (480, 480), (482, 362)], ids=str)
def test_two_people_are_followed_whatever_their_skin(size: tuple[int, int]) -> None:
    (scene,), _ = film(Raw("", "two_faces", (LIGHT, DARK), size=size), 0)
    looks = looks_of(range(len(scene)))
    tracks = [track for track in track_faces((frame, coded(scene[frame], 50)) for frame in looks) if track.is_sure]
    middles = sorted(np.median([box.center[0] for box in track.boxes]) / size[0] for track in tracks)
    assert middles == pytest.approx([0.25, 0.75], abs=0.06)
    assert min(track.share(looks) for track in tracks) > 0.5


@pytest.mark.parametrize("number", [15, 159])
def test_two_blurs_in_a_room_are_no_eyes(number: int) -> None:
    (scene,), _ = film(Raw("", "no_face", (LIGHT,), size=(482, 362)), number)
    tracks = track_faces((frame, coded(scene[frame], 90)) for frame in looks_of(range(len(scene))))
    assert not any(track.is_sure for track in tracks)


@pytest.mark.parametrize("quality", [95, 60, 30])
def test_a_blurred_face_is_not_sharp_for_the_codecs_noise(quality: int) -> None:
    sharp = scaled(performance(DARK)[1][0], 300, 300)
    blurred = cv2.GaussianBlur(sharp, (0, 0), 5)
    found = [sharpness(scaled(coded(picture, quality), 256, 256)) for picture in (sharp, blurred)]
    assert found[1] < 0.5 * Settings().min_sharpness < 2 * Settings().min_sharpness < found[0]
