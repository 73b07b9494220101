"""The caches of what frozen encoders see: made once, gone on with where they stopped, made anew for other networks."""

import resource
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from media.errors import OutputError
from training.latents import cached

NUM_CLIPS = 40  # in parts of 16


def encode(folder: Path, breaks_at: int, clips: range) -> dict[str, np.ndarray]:
    """Squares; leaves a file for every part it was asked for."""
    if clips.start == breaks_at:
        raise OSError("the disk is gone")
    (folder / f"asked_{clips.start}").touch()
    return {"square": np.array([[clip**2] for clip in clips], np.float32), "start": np.array(clips, np.int64)}


def made(folder: Path, key: str, breaks_at: int = -1) -> dict[str, np.ndarray]:
    return cached(folder / "cache", key, partial(encode, folder, breaks_at), NUM_CLIPS, num_workers=1)


def asked(folder: Path) -> set[str]:
    found = {path.name for path in folder.glob("asked_*")}
    for path in folder.glob("asked_*"):
        path.unlink()
    return found


def test_what_is_kept_is_not_made_again(tmp_path):
    first = made(tmp_path, "a")
    assert asked(tmp_path) == {"asked_0", "asked_16", "asked_32"}
    again = made(tmp_path, "a")
    assert asked(tmp_path) == set()
    for arrays in (first, again):
        assert arrays["square"][:, 0].tolist() == [clip**2 for clip in range(NUM_CLIPS)]
        assert arrays["start"].tolist() == list(range(NUM_CLIPS))


def test_one_that_stopped_goes_on(tmp_path):
    with pytest.raises(OSError, match="the disk is gone"):
        made(tmp_path, "a", breaks_at=16)
    asked(tmp_path)
    assert made(tmp_path, "a")["square"][:, 0].tolist() == [clip**2 for clip in range(NUM_CLIPS)]
    assert "asked_0" not in asked(tmp_path)


def test_another_key_makes_all_anew(tmp_path):
    made(tmp_path, "a")
    asked(tmp_path)
    made(tmp_path, "b")
    assert len(asked(tmp_path)) == 3


def test_another_key_that_stopped_leaves_nothing_of_the_first(tmp_path):
    made(tmp_path, "a")
    with pytest.raises(OSError, match="the disk is gone"):
        made(tmp_path, "b", breaks_at=16)
    asked(tmp_path)
    assert made(tmp_path, "a")["square"][:, 0].tolist() == [clip**2 for clip in range(NUM_CLIPS)]
    assert len(asked(tmp_path)) == 3


def test_a_full_disk_is_one_line_and_what_was_made_stays(tmp_path):
    """A limit on the size of a file is as near to a full disk as a test comes."""
    allowed = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (128 + 20 * 8, allowed[1]))  # a header and twenty of 64-bit rows
    try:
        with pytest.raises(OutputError, match="cannot be written: File too large") as raised:
            made(tmp_path, "a")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, allowed)
    assert raised.value.code == "latents_unwritable"
    asked(tmp_path)
    assert made(tmp_path, "a")["start"].tolist() == list(range(NUM_CLIPS))
    assert "asked_0" not in asked(tmp_path)
