"""Detection in raw pictures: faces of every skin color throughout a shot, and sharpness despite a codec's noise."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from emotivetalk.corpus.preparing.settings import PrepareSettings
from emotivetalk.corpus.synthesize import FIRST_HELD_OUT_IDENTITY
from emotivetalk.media.image_codec import scaled, sharpness
from emotivetalk.media.tracking import looks_of, track_faces
from tests.corpus.preparing.raw_videos import RawVideoSpec, compose_video, rendered_person

LIGHT, DARK = FIRST_HELD_OUT_IDENTITY + 4, FIRST_HELD_OUT_IDENTITY + 5  # in dark skin, eyes and teeth are bright


def coded(picture: np.ndarray, quality: int) -> np.ndarray:
    """Compress a picture, which adds blocks and noise at edges."""
    _, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return cv2.imdecode(data, cv2.IMREAD_COLOR)


@pytest.mark.parametrize("size", [(360, 640), (480, 480), (482, 362)], ids=str)
def test_two_people_are_tracked_whatever_their_skin_color(size: tuple[int, int]) -> None:
    (shot,), _ = compose_video(RawVideoSpec("", "two_faces", (LIGHT, DARK), size=size), 0)
    looks = looks_of(range(len(shot)))
    tracks = [track for track in track_faces((frame, coded(shot[frame], 50)) for frame in looks) if track.is_sure]
    middles = sorted(np.median([box.center[0] for box in track.boxes]) / size[0] for track in tracks)
    assert middles == pytest.approx([0.25, 0.75], abs=0.06)
    assert min(track.share(looks) for track in tracks) > 0.5


@pytest.mark.parametrize("number", [15, 159])
def test_blurred_backgrounds_are_no_faces(number: int) -> None:
    (shot,), _ = compose_video(RawVideoSpec("", "no_face", (LIGHT,), size=(482, 362)), number)
    tracks = track_faces((frame, coded(shot[frame], 90)) for frame in looks_of(range(len(shot))))
    assert not any(track.is_sure for track in tracks)


@pytest.mark.parametrize("quality", [95, 60, 30])
def test_noise_of_a_codec_does_not_make_a_blurred_face_sharp(quality: int) -> None:
    sharp = scaled(rendered_person(DARK)[1][0], 300, 300)
    blurred = cv2.GaussianBlur(sharp, (0, 0), 5)
    found = [sharpness(scaled(coded(picture, quality), 256, 256)) for picture in (sharp, blurred)]
    assert found[1] < 0.5 * PrepareSettings().min_sharpness < 2 * PrepareSettings().min_sharpness < found[0]
