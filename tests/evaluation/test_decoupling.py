"""Retrieval and decoupling on latents with a known answer."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from emotivetalk.evaluation.decoupling import decoupling_figures, retrieval_figure
from emotivetalk.evaluation.latents import ClipLatents
from emotivetalk.evaluation.probes import PROBE_KINDS, predict_classes, predict_values

GENERATOR = torch.Generator().manual_seed(0)


def gauss(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=GENERATOR)


def clips(leak: float = 0.0, noise: float = 0.0, num: int = 32, frames: int = 32) -> list[ClipLatents]:
    """Make clips of noise with a leak of the emotion into lip latents, and of the jaw into expression latents."""
    made = []
    for k in range(num):
        lip = gauss(frames, 6)
        emotion = k % 8
        mark = torch.nn.functional.one_hot(torch.tensor(emotion), 8).float()
        visual = lip @ MIX
        audio = visual + noise * gauss(*visual.shape)
        audio[:, :8] += leak * 4 * mark
        expression = gauss(frames, 18)
        expression_audio = gauss(frames, 10)
        expression_audio[:, 0] += leak * 4 * lip[:, 0]
        made.append(ClipLatents(k // 8, emotion, audio, visual, visual, expression_audio, lip, expression))
    return made


MIX = torch.randn(6, 16, generator=GENERATOR)


def test_equal_latents_retrieve_their_moment_and_mismatched_ones_do_not():
    found = retrieval_figure(clips())
    assert found.value.value == found.ceiling.value == 1
    assert found.floor.value == pytest.approx(1 / 16, abs=0.06)
    assert retrieval_figure(clips(noise=30)).value.value < 0.5


def test_true_parameters_as_latents_score_the_ceiling():
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


def test_only_the_mlp_probe_finds_a_product():
    rows = gauss(3000, 2)
    people = [0] * 1500 + [1] * 1500
    targets = (rows[:, 0] * rows[:, 1] > 0).long()
    right = {
        kind: (predict_classes(kind, rows, targets, people, 2) == targets.numpy()).mean() for kind in ("linear", "mlp")
    }
    assert right["linear"] < 0.6 < 0.85 < right["mlp"]


@pytest.mark.parametrize("kind", PROBE_KINDS)
def test_a_probe_is_never_tested_on_people_that_it_was_trained_on(kind):
    """A value that depends on the person alone cannot be predicted for another person from a one-hot identity."""
    identity = torch.arange(8).repeat_interleave(50)
    rows = torch.nn.functional.one_hot(identity, 8).float()
    secret = torch.tensor([1.0, 1.0, -1.0, -1.0, 1.0, 1.0, -1.0, -1.0])[identity]
    predicted = predict_values(kind, rows, secret, identity.tolist())
    assert np.square(predicted - secret.numpy()).mean() > 0.9  # no better than the mean, which is 0
    prediction = predict_values(kind, rows, secret, (torch.arange(400) % 2).tolist())
    assert np.square(prediction - secret.numpy()).mean() < 0.1  # people in both halves: the value is predictable
    with pytest.raises(ValueError, match="at least two people"):
        predict_values("linear", rows, secret, [1] * 400)


def test_probes_restore_the_random_state():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    predict_values("linear", gauss(20, 2), gauss(20), [0] * 10 + [1] * 10)
    assert torch.equal(torch.get_rng_state(), before)
