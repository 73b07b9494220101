"""Caches of latents: computed once, resumed after an interruption, recomputed for other networks."""

import resource
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from emotivetalk.corpus.drawing import draw_clip
from emotivetalk.corpus.photo_people import FIRST_PHOTOGRAPH_IDENTITY, PhotoPeople
from emotivetalk.corpus.portraits import read_portraits
from emotivetalk.corpus.records import read_corpus, write_shards
from emotivetalk.errors import OutputError
from emotivetalk.training.data.latents import cached, encode_motion, motion_encoders, video_latents
from tests.training import debug

NUM_CLIPS = 40  # in parts of 16


def encode(folder: Path, breaks_at: int, clips: range, more: int = 0) -> dict[str, np.ndarray]:
    """Compute squares plus `more`, and leave a file for each part; a second request for a part is an error."""
    if clips.start == breaks_at:
        raise OSError("the disk is gone")
    (folder / f"asked_{clips.start}").touch(exist_ok=False)
    return {"square": np.array([[clip**2 + more] for clip in clips], np.float32), "start": np.array(clips, np.int64)}


def made(folder: Path, key: str, breaks_at: int = -1) -> dict[str, np.ndarray]:
    return cached(folder / "cache", key, partial(encode, folder, breaks_at), NUM_CLIPS, num_workers=1)


def asked(folder: Path) -> set[str]:
    found = {path.name for path in folder.glob("asked_*")}
    for path in folder.glob("asked_*"):
        path.unlink()
    return found


def test_cached_latents_are_not_computed_again(tmp_path):
    first = made(tmp_path, "a")
    assert asked(tmp_path) == {"asked_0", "asked_16", "asked_32"}
    again = made(tmp_path, "a")
    assert asked(tmp_path) == set()
    for arrays in (first, again):
        assert arrays["square"][:, 0].tolist() == [clip**2 for clip in range(NUM_CLIPS)]
        assert arrays["start"].tolist() == list(range(NUM_CLIPS))


def test_an_interrupted_computation_is_resumed(tmp_path):
    with pytest.raises(OSError, match="the disk is gone"):
        made(tmp_path, "a", breaks_at=16)
    asked(tmp_path)
    assert made(tmp_path, "a")["square"][:, 0].tolist() == [clip**2 for clip in range(NUM_CLIPS)]
    assert "asked_0" not in asked(tmp_path)


def test_another_key_recomputes_everything(tmp_path):
    made(tmp_path, "a")
    asked(tmp_path)
    made(tmp_path, "b")
    assert len(asked(tmp_path)) == 3


def test_concurrent_runs_compute_the_latents_once(tmp_path):
    with ThreadPoolExecutor(2) as runs:
        for arrays in runs.map(lambda _: made(tmp_path, "a"), range(2)):
            assert arrays["start"].tolist() == list(range(NUM_CLIPS))
    assert len(asked(tmp_path)) == 3


def test_mapped_latents_stay_valid_when_another_run_replaces_them(tmp_path):
    first = made(tmp_path, "a")
    asked(tmp_path)
    second = cached(tmp_path / "cache", "b", partial(encode, tmp_path, -1, more=1), NUM_CLIPS, num_workers=1)
    for arrays, more in ((first, 0), (second, 1)):
        assert arrays["square"][:, 0].tolist() == [clip**2 + more for clip in range(NUM_CLIPS)]


def test_an_interrupted_recomputation_removes_the_old_latents(tmp_path):
    made(tmp_path, "a")
    asked(tmp_path)
    with pytest.raises(OSError, match="the disk is gone"):
        made(tmp_path, "b", breaks_at=16)
    asked(tmp_path)
    assert made(tmp_path, "a")["square"][:, 0].tolist() == [clip**2 for clip in range(NUM_CLIPS)]
    assert len(asked(tmp_path)) == 3


def test_a_full_disk_is_one_error_and_keeps_the_computed_parts(tmp_path):
    """A limit on the size of files stands in for a full disk."""
    allowed = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (128 + 20 * 8, allowed[1]))  # the header and twenty rows
    try:
        with pytest.raises(OutputError, match="cannot be written: File too large") as raised:
            made(tmp_path, "a")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, allowed)
    assert raised.value.code == "latents_unwritable"
    asked(tmp_path)
    assert made(tmp_path, "a")["start"].tolist() == list(range(NUM_CLIPS))
    assert "asked_0" not in asked(tmp_path)


@pytest.mark.parametrize("other_voices", [False, True])
@torch.inference_mode()
def test_faces_speak_their_own_words_or_anothers(workplace: Path, other_voices: bool) -> None:
    """The lips of a window are those of the clip named by `voice`, and the expressions are the clip's own."""
    corpus, checkpoint = workplace / "corpus", workplace / "checkpoint"
    made = video_latents(corpus, "train", checkpoint, workplace / "cache", 64, 4, 1, other_voices=other_voices)
    clips, encoders = read_corpus(corpus, "train"), motion_encoders(checkpoint)
    assert [int(voice) == k for k, voice in enumerate(made.voice)] == [not other_voices] * len(clips)
    for k in (0, 17, len(clips) - 1):
        window = range(int(made.start[k]), int(made.start[k]) + 4)
        spoken = torch.from_numpy(clips[int(made.voice[k])].lip[list(window)])
        images = draw_clip(clips[k], window, 64, lip=spoken).images * 2 - 1
        lip, expression = encode_motion(*encoders, images)
        np.testing.assert_allclose(made.lip[k], lip, atol=1e-2)
        np.testing.assert_allclose(made.expression[k], expression, atol=1e-2)


def test_photographs_are_driven_by_the_latents_of_an_avatar(workplace: Path, tmp_path: Path) -> None:
    people = PhotoPeople(read_portraits(workplace / "photographs"))
    clips = [debug.clip("train", identity, 0, 2) for identity in (1, FIRST_PHOTOGRAPH_IDENTITY + 1)]
    write_shards(clips, tmp_path / "corpus")
    people.write_listing(tmp_path / "corpus", [FIRST_PHOTOGRAPH_IDENTITY + 1])
    video = video_latents(tmp_path / "corpus", "train", workplace / "checkpoint", tmp_path / "cache", 64, 4, 1)
    assert torch.equal(video.driving[0], video.expression[0])
    assert not torch.equal(video.driving[1], video.expression[1])
