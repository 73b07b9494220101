"""The reader: sizes, batches and saving; the shipped reader is accurate on true frames."""

from pathlib import Path

import numpy as np
import pytest
import torch

from emotivetalk.corpus.avatar import Identity
from emotivetalk.corpus.faces import sample_faces
from emotivetalk.corpus.renderer import render
from emotivetalk.corpus.synthesize import FIRST_HELD_OUT_IDENTITY
from emotivetalk.evaluation.metrics import correlation
from emotivetalk.evaluation.reader import Reader, mouth_opening, read_frames

SHIPPED = Path(__file__).resolve().parents[2] / "checkpoints" / "reader"


def test_pressed_lips_reduce_the_opening():
    lip = torch.tensor([[0.8, 0, 0, 0, 0, 0], [0.8, 0, 0, 1, 0, 0], [0.8, 0, 0, 0.5, 0, 0]])
    assert mouth_opening(lip).tolist() == pytest.approx([0.8, 0, 0.4])


def test_larger_pictures_are_downsampled(reader):
    small = torch.rand(2, 3, 128, 128) * 2 - 1
    large = small.repeat_interleave(2, 2).repeat_interleave(2, 3)
    one, other = reader(small), reader(large)
    for a, b in zip(vars(one).values(), vars(other).values(), strict=True):
        assert torch.allclose(a, b, atol=1e-5)


def test_batches_do_not_change_the_reading(reader):
    frames = (torch.rand(7, 128, 128, 3) * 255).byte()
    whole, parts = read_frames(reader, [frames]), read_frames(reader, frames.split(3))
    assert torch.allclose(whole.opening, parts.opening, atol=1e-5)
    assert whole.clip_emotion == parts.clip_emotion
    with pytest.raises(ValueError, match="without frames"):
        read_frames(reader, [])


def test_the_output_scale_is_set_from_faces():
    reader = Reader((16, 32, 32), 32)
    faces = torch.randn(500, 24) * 3 + 1
    reader.set_units(faces)
    reader.net[-1].weight.data.zero_()
    reader.net[-1].bias.data.zero_()
    read = reader(torch.zeros(1, 3, 128, 128))
    assert torch.allclose(torch.cat([read.lip, read.expression, read.pose], 1)[0], faces.mean(0))


def test_half_precision_weights_are_saved_and_loaded(reader, tmp_path):
    half = Reader((16, 32, 32), 32)
    half.load_state_dict(reader.state_dict())
    half.half().save_pretrained(tmp_path)
    again = Reader.from_pretrained(tmp_path)
    images = torch.rand(2, 3, 128, 128)
    assert torch.allclose(again(images).lip, reader(images).lip, atol=2e-2)


def test_the_shipped_reader_is_accurate_on_held_out_people():
    reader = Reader.from_pretrained(SHIPPED)
    assert sum(file.stat().st_size for file in SHIPPED.iterdir()) < 3e6
    faces = sample_faces(48, np.random.default_rng(3))
    people = Identity.sample(48, FIRST_HELD_OUT_IDENTITY + 77)
    images = render(people, faces.lip, faces.expression, faces.pose, 128).images
    with torch.no_grad():
        read = reader(images * 2 - 1)
    assert correlation([read.opening.numpy()], [mouth_opening(faces.lip).numpy()]).value > 0.95
    for column, least in ((6, 0.85), (5, 0.85)):  # smile, blink
        assert correlation([read.expression[:, column].numpy()], [faces.expression[:, column].numpy()]).value > least
