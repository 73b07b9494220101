"""Retrieval and decoupling on latents whose answer is known."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from emotivetalk.evaluation.decoupling import decoupling_figures, retrieval_figure
from emotivetalk.evaluation.latents import ClipLatents
from emotivetalk.evaluation.probes import read_classes, read_number

GENERATOR = torch.Generator().manual_seed(0)


def gauss(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=GENERATOR)


def clips(leak: float = 0.0, noise: float = 0.0, num: int = 32, frames: int = 32) -> list[ClipLatents]:
    """Lips are noise in time; `leak` of the emotion is in the lip latents, and of the jaw in the expression latents."""
    found = []
    for k in range(num):
        lip = gauss(frames, 6)
        emotion = k % 8
        mark = torch.nn.functional.one_hot(torch.tensor(emotion), 8).float()
        seen = lip @ MIX
        heard = seen + noise * gauss(*seen.shape)
        heard[:, :8] += leak * 4 * mark
        expression = gauss(frames, 18)
        made = gauss(frames, 10)
        made[:, 0] += leak * 4 * lip[:, 0]
        found.append(ClipLatents(k // 8, emotion, heard, seen, seen, made, lip, expression))
    return found


MIX = torch.randn(6, 16, generator=GENERATOR)


def test_perfect_lips_find_their_moment_and_others_do_not():
    found = retrieval_figure(clips())
    assert found.value.value == found.ceiling.value == 1
    assert found.floor.value == pytest.approx(1 / 16, abs=0.06)
    assert retrieval_figure(clips(noise=30)).value.value < 0.5


def test_latents_that_are_the_truth_tell_as_much_and_no_more():
    true = [replace(clip, lip_audio=clip.lip, expression_audio=clip.expression) for clip in clips()]
    for figure in decoupling_figures(true):
        assert figure.holds, figure.key
        assert figure.value == figure.ceiling
        assert figure.at_most == figure.ceiling.high


def test_leaks_are_found_by_both_probes():
    found = {figure.key: figure for figure in decoupling_figures(clips(leak=1))}
    for kind in ("linear", "mlp"):
        emotion, jaw = found[f"decoupling.emotion_in_lips.{kind}"], found[f"decoupling.jaw_in_expressions.{kind}"]
        assert emotion.value.value > 0.6 and emotion.holds is False
        assert emotion.floor.value < 0.4
        assert jaw.value.value > 0.8 and jaw.holds is False
        assert abs(jaw.floor.value) < 0.3


def test_what_is_hidden_in_a_product_only_the_network_reads():
    rows = gauss(3000, 2)
    people = [0] * 1500 + [1] * 1500
    targets = (rows[:, 0] * rows[:, 1] > 0).long()
    right = {
        kind: (read_classes(kind, rows, targets, people, 2) == targets.numpy()).mean() for kind in ("linear", "mlp")
    }
    assert right["linear"] < 0.6 < 0.85 < right["mlp"]


def test_a_probe_is_never_tested_on_whom_it_learned_from():
    """A number that belongs to the person alone cannot be read of another person."""
    rows = torch.nn.functional.one_hot(torch.arange(8).repeat_interleave(50), 8).float()
    people = np.repeat(np.arange(8), 50).tolist()
    secret = gauss(8).repeat_interleave(50)
    read = read_number("mlp", rows, secret, people)
    assert abs(np.corrcoef(read, secret.numpy())[0, 1]) < 0.9
    with pytest.raises(ValueError, match="two people"):
        read_number("linear", rows, secret, [1] * 400)


def test_probes_leave_the_callers_randomness_alone():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    read_number("linear", gauss(20, 2), gauss(20), [0] * 10 + [1] * 10)
    assert torch.equal(torch.get_rng_state(), before)
