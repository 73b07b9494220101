"""Folders of portraits: refusal with reasons, morphs, held-out people, identity by hash and drawing on demand."""

import hashlib
import json
import pickle
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from emotivetalk.corpus.drawing import draw_clip
from emotivetalk.corpus.landmarks import frame_portrait
from emotivetalk.corpus.morph import morph
from emotivetalk.corpus.photo_people import (
    FIRST_PHOTOGRAPH_IDENTITY,
    HELD_OUT_OFFSET,
    PhotoPeople,
    person_of,
    sample_identity_like,
)
from emotivetalk.corpus.photo_style import Style, person_mask, restyled
from emotivetalk.corpus.portraits import find_landmarks, read_portraits, reason_to_refuse, write_report
from emotivetalk.corpus.records import Clip, read_corpus, write_shards
from emotivetalk.corpus.synthesize import FIRST_HELD_OUT_IDENTITY, orders, synthesize
from emotivetalk.errors import InputError
from emotivetalk.timebase import SAMPLES_PER_FRAME
from tests.corpus.drawn_face import drawn_landmarks, drawn_picture, write_portraits

NUM_PORTRAITS, NUM_HELD_OUT = 8, 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Portraits of eight drawn people, two of them held out."""
    return write_portraits(tmp_path_factory.mktemp("portraits"), NUM_PORTRAITS, NUM_HELD_OUT)


@pytest.fixture(scope="module")
def people(folder) -> PhotoPeople:
    return PhotoPeople(read_portraits(folder))


def hash_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def turned(points: np.ndarray, share: float) -> np.ndarray:
    """Move the nose towards one cheek."""
    moved = points.copy()
    moved[:, 0] += share * np.exp(-(((points[:, 0] - points[1, 0]) / 60) ** 2)) * 135
    return moved


def opened(points: np.ndarray) -> np.ndarray:
    moved = points.copy()
    moved[[87, 14, 317], 1] += 20
    return moved


def shut_eye(points: np.ndarray) -> np.ndarray:
    moved = points.copy()
    moved[[7, 163, 144, 145, 153, 154, 155]] = moved[[246, 161, 160, 159, 158, 157, 173]]
    return moved


FACE = drawn_landmarks()


@pytest.mark.parametrize(
    ("landmarks", "reason"),
    [
        (np.zeros((0, 478, 3)), "no face was found"),
        (np.stack([FACE, FACE]), "2 faces"),
        (FACE * 0.2, "too small"),
        (turned(FACE, 0.9), "turned too far"),
        (opened(FACE), "mouth open"),
        (shut_eye(FACE), "an eye is shut"),
    ],
)
def test_refusals_have_reasons(landmarks, reason):
    assert reason in reason_to_refuse(landmarks)
    assert reason_to_refuse(FACE) is None


def test_report_names_every_picture(folder, tmp_path):
    portraits = read_portraits(folder)
    assert len(portraits.accepted) == NUM_PORTRAITS
    assert len(portraits.of("held_out")) == NUM_HELD_OUT
    write_report(portraits, tmp_path / "report.tsv")
    assert len((tmp_path / "report.tsv").read_text().splitlines()) == NUM_PORTRAITS + 1


def test_folder_without_landmarks_says_what_to_do(tmp_path):
    with pytest.raises(InputError, match="no pictures"):
        read_portraits(tmp_path)
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(InputError, match="--face-mesh-python"):
        read_portraits(tmp_path)
    with pytest.raises(InputError, match="cannot be run"):
        find_landmarks(tmp_path, tmp_path / "no_python")


def test_face_mesh_of_an_environment_without_it_says_so(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(InputError, match="mediapipe"):
        find_landmarks(tmp_path, Path(sys.executable))


def test_held_out_portraits_are_in_no_morph(people, folder):
    held_out = {hash_of(folder / f"person_{number}.png") for number in range(NUM_HELD_OUT)}
    counts = set()
    for number in range(300):
        recipe = people.recipe(FIRST_PHOTOGRAPH_IDENTITY + number)
        assert not held_out & set(recipe.parents)
        assert len(set(recipe.parents)) == len(recipe.parents)
        counts.add(len(recipe.parents))
    assert counts == {1, 2, 3}
    parents = set()
    for number in range(NUM_HELD_OUT):
        recipe = people.recipe(FIRST_PHOTOGRAPH_IDENTITY + HELD_OUT_OFFSET + number)
        assert recipe.style == Style() and len(recipe.parents) == 1
        parents |= set(recipe.parents)
    assert parents == held_out


def test_a_person_follows_from_seed_and_hashes(people, folder, tmp_path):
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    with np.load(folder / "landmarks.npz") as known:
        landmarks = dict(known)
    points = drawn_landmarks(width=0.33)
    cv2.imwrite(str(tmp_path / "another.png"), drawn_picture(points))
    np.savez(tmp_path / "landmarks.npz", another=points, **{"another.png": points}, **landmarks)
    (tmp_path / "portraits.tsv").write_text((folder / "portraits.tsv").read_text() + "another.png\ttrain\n")
    again = PhotoPeople(read_portraits(tmp_path), people.splits)
    copied = pickle.loads(pickle.dumps(people))
    for number in range(6):
        seed = FIRST_PHOTOGRAPH_IDENTITY + number
        assert again.recipe(seed) == people.recipe(seed) == copied.recipe(seed)
    seed = FIRST_PHOTOGRAPH_IDENTITY + 1
    assert torch.equal(again.portrait(seed).picture, people.portrait(seed).picture)


def test_missing_portrait_is_named_by_its_hash(folder):
    with pytest.raises(InputError, match="f" * 64):
        PhotoPeople(read_portraits(folder), {"f" * 64: "train"})


def test_morph_of_one_person_is_that_person():
    points = drawn_landmarks()
    person = frame_portrait(drawn_picture(points), points)
    same = morph([person, person], [1, 3])
    assert np.allclose(same.points, person.points)
    assert (same.picture - person.picture).abs().mean() < 0.003


def test_morph_lies_between_and_keeps_the_first_background():
    one, other = drawn_landmarks(width=0.40), drawn_landmarks(width=0.44)
    other[:, 0] = 320 + (other[:, 0] - 320) * 0.9
    people = [
        frame_portrait(drawn_picture(points, skin=skin), points)
        for points, skin in ((one, (200, 150, 125)), (other, (90, 60, 50)))
    ]
    between = morph(people, [1, 1])
    assert np.allclose(between.points, (people[0].points + people[1].points) / 2)
    assert (between.picture - people[0].picture)[:, :60, :60].abs().max() < 0.05
    forehead = between.picture[:, 170:190, 246:266].mean((1, 2)) - people[0].picture[:, 170:190, 246:266].mean((1, 2))
    assert forehead.abs().max() < 0.1
    with pytest.raises(ValueError, match="positive weight"):
        morph(people, [1, 0])


def test_new_background_leaves_the_face():
    points = drawn_landmarks()
    person = frame_portrait(drawn_picture(points), points)
    mask = person_mask(person)
    assert mask[256, 256] > 0.95 and mask[20, 20] < 0.05
    moved = (restyled(person, Style(background_seed=4)).picture - person.picture).abs().mean(0)
    assert moved[256, 256] < 0.02 < moved[20, 20]
    assert restyled(person, Style()) is person


def test_avatars_and_photographs_are_interleaved():
    half = {order.identity_seed for order in orders(6, 1, num_held_out=2, photograph_share=0.5)}
    photographs = {seed for seed in half if seed >= FIRST_PHOTOGRAPH_IDENTITY}
    assert photographs == {
        *range(FIRST_PHOTOGRAPH_IDENTITY, FIRST_PHOTOGRAPH_IDENTITY + 3),
        FIRST_PHOTOGRAPH_IDENTITY + FIRST_HELD_OUT_IDENTITY,
    }
    assert half - photographs == {0, 1, 2, FIRST_HELD_OUT_IDENTITY}


def test_corpus_names_its_photographs_and_is_drawn_from_them(people, tmp_path):
    assert HELD_OUT_OFFSET == FIRST_HELD_OUT_IDENTITY
    seed = FIRST_PHOTOGRAPH_IDENTITY + 2
    num_frames = 3
    clip = Clip(
        clip_id="train-photograph",
        split="train",
        identity_seed=seed,
        speaker=f"photograph-{seed}",
        text="",
        engine="espeak",
        voice="en",
        emotion=0,
        emotion_per_frame=np.zeros(num_frames, np.int64),
        intensity=1.0,
        waveform=np.zeros(num_frames * SAMPLES_PER_FRAME, np.float32),
        lip=np.linspace(0, 1, num_frames)[:, None].astype(np.float32) * np.eye(6, dtype=np.float32)[0],
        expression=np.zeros((num_frames, 12), np.float32),
        pose=np.tile(np.eye(6, dtype=np.float32)[3], (num_frames, 1)),
        seed=0,
    )
    write_shards([clip], tmp_path)
    with pytest.raises(ValueError, match="photograph"):
        draw_clip(read_corpus(tmp_path, "train")[0])
    listing = people.write_listing(tmp_path, [seed])
    read = read_corpus(tmp_path, "train")[0]
    frames = draw_clip(read, [0, 2])
    expected = people.person(seed).frames(
        *(torch.from_numpy(t[[0, 2]]) for t in (clip.lip, clip.expression, clip.pose))
    )
    assert torch.equal(frames.images, expected.images)
    assert torch.equal(
        person_of(seed, listing)
        .frames(*[torch.from_numpy(t[:1]) for t in (clip.lip, clip.expression, clip.pose)])
        .images,
        frames.images[:1],
    )
    content = json.loads(listing.read_text())
    assert set(content["people"][str(seed)]["parents"]) <= set(content["portraits"])


def test_synthesized_corpus_of_photographs(people, folder, tmp_path):
    with pytest.raises(InputError, match="held out"):
        synthesize(tmp_path, 1, 1, 6, NUM_HELD_OUT + 1, photographs=people, photograph_share=1.0)
    synthesize(tmp_path, 2, 1, 6, 1, photographs=people, photograph_share=1.0)
    content = json.loads((tmp_path / "photographs.json").read_text())
    assert content["portraits"] == people.splits
    for split, first in (("train", 0), ("held_out", FIRST_HELD_OUT_IDENTITY), ("foreign", FIRST_HELD_OUT_IDENTITY)):
        clip = read_corpus(tmp_path, split)[0]
        assert clip.identity_seed == FIRST_PHOTOGRAPH_IDENTITY + first
        assert clip.speaker == f"photograph-{clip.identity_seed}"
        assert draw_clip(clip, [0, 5], 64).images.shape == (2, 3, 64, 64)
    written = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert written < 0.5e6  # sound and tracks: no picture is among them


def test_sampled_identity_is_of_the_same_kind():
    generator = np.random.default_rng(0)
    for _ in range(5):
        assert sample_identity_like(3, generator) < FIRST_HELD_OUT_IDENTITY
        number = sample_identity_like(FIRST_PHOTOGRAPH_IDENTITY + 3, generator) - FIRST_PHOTOGRAPH_IDENTITY
        assert 0 <= number < FIRST_HELD_OUT_IDENTITY
