"""ETHD and EDI: properties that follow from Figure 2, on random weights."""

from dataclasses import replace

import pytest
import torch

from emotivetalk.models.edi import EDI
from emotivetalk.models.ethd import lip_windows
from tests.models import debug

FRAMES, SIDE = 4, 8


@pytest.fixture(scope="module")
def network():
    return debug.ethd()


@pytest.fixture
def noisy():
    return torch.randn(2, FRAMES, debug.LATENT_CHANNELS, SIDE, SIDE, generator=torch.Generator().manual_seed(3))


LEVEL = torch.tensor([0.3, -0.5])


def test_edi_with_equal_expressions_is_the_identity():
    edi = debug.stir(EDI(32, 2, 16), 0.5)
    hidden, expression, mask = torch.randn(3, 10, 32), torch.randn(3, 4, 16), torch.ones(3, 10, 1)
    assert torch.equal(edi(hidden, expression, expression, mask), hidden)
    other = edi(hidden, expression, torch.randn(3, 4, 16), mask)
    assert (other - hidden).abs().max() > 0.01


def test_edi_without_shared_weights_is_not():
    edi = debug.stir(EDI(32, 2, 16, shares_weights=False), 0.5)
    hidden, expression, mask = torch.randn(3, 10, 32), torch.randn(3, 4, 16), torch.ones(3, 10, 1)
    assert (edi(hidden, expression, expression, mask) - hidden).abs().max() > 0.01


def test_edi_injects_only_under_the_mask():
    edi = debug.stir(EDI(32, 2, 16), 0.5)
    hidden, mask = torch.randn(3, 10, 32), torch.zeros(3, 10, 1)
    mask[:, 4:7] = 1
    changed = (edi(hidden, torch.randn(3, 4, 16), torch.randn(3, 4, 16), mask) != hidden).any(-1).any(0)
    assert changed.tolist() == [4 <= token < 7 for token in range(10)]


def test_a_mask_of_zeros_keeps_every_path_free_of_expression(network, noisy):
    driving = torch.randn(2, FRAMES, debug.DIM_EXPRESSION, requires_grad=True)
    reference = torch.randn(2, debug.DIM_EXPRESSION, requires_grad=True)
    given = replace(debug.conditions(), expression_driving=driving, expression_reference=reference)
    open_ = network(noisy, LEVEL, given).square().sum()
    gradients = torch.autograd.grad(open_, [driving, reference])
    assert all(gradient.abs().sum() > 0 for gradient in gradients)
    shut = network(noisy, LEVEL, replace(given, face_mask=torch.zeros(2, 1, SIDE, SIDE))).square().sum()
    gradients = torch.autograd.grad(shut, [driving, reference])
    assert all(torch.count_nonzero(gradient) == 0 for gradient in gradients)


def frame_dependencies(network, noisy, given, is_image: bool) -> torch.Tensor:
    """Compute by gradients which input frames each output frame depends on, [output frame, input frame]."""
    noisy = noisy.clone().requires_grad_()
    output = network(noisy, LEVEL, given, is_image=is_image)
    rows = [torch.autograd.grad(output[:, f].sum(), noisy, retain_graph=True)[0] for f in range(FRAMES)]
    return torch.stack([row.abs().sum((0, 2, 3, 4)) > 0 for row in rows])


def test_video_frames_depend_on_each_other_and_pictures_do_not(network, noisy):
    assert frame_dependencies(network, noisy, debug.conditions(), is_image=False).all()
    dependencies = frame_dependencies(network, noisy, debug.conditions(), is_image=True)
    assert torch.equal(dependencies, torch.eye(FRAMES).bool())


def test_without_layers_over_time_a_frame_depends_only_on_its_own_lips(network, noisy):
    lip = debug.conditions().lip.requires_grad_()
    output = network(noisy, LEVEL, replace(debug.conditions(), lip=lip), is_image=True)
    for frame in range(FRAMES):
        gradient = torch.autograd.grad(output[:, frame].sum(), lip, retain_graph=True)[0]
        depends = gradient.abs().sum((0, 2, 3)) > 0
        assert depends.tolist() == [frame == other for other in range(FRAMES)]


def test_samples_of_a_batch_are_independent(network, noisy):
    given = debug.conditions()
    both = network(noisy, LEVEL, given)
    one = type(given)(*(value[1:] for value in vars(given).values()))
    torch.testing.assert_close(network(noisy[1:], LEVEL[1:], one), both[1:], rtol=1e-4, atol=1e-5)


def test_dropping_a_condition_is_the_null_condition(network, noisy):
    given = debug.conditions()
    without = given.without_expression()
    driven_by_own = replace(given, expression_driving=given.expression_reference[:, None].repeat(1, FRAMES, 1))
    assert torch.equal(network(noisy, LEVEL, without), network(noisy, LEVEL, driven_by_own))
    silent = replace(given, lip=torch.zeros_like(given.lip))
    assert torch.equal(network(noisy, LEVEL, given.without_lip()), network(noisy, LEVEL, silent))
    assert not torch.equal(network(noisy, LEVEL, silent), network(noisy, LEVEL, given))


def test_new_layers_start_as_the_identity():
    torch.manual_seed(1)
    fresh = type(debug.ethd())(**{k: v for k, v in debug.ethd().config.items() if not k.startswith("_")}).eval()
    noisy, given = torch.randn(2, FRAMES, 4, SIDE, SIDE), debug.conditions()
    others = debug.conditions(seed=9)
    changed = replace(
        given,
        lip=others.lip,
        expression_driving=others.expression_driving,
        expression_reference=others.expression_reference,
    )
    assert torch.equal(fresh(noisy, LEVEL, given), fresh(noisy, LEVEL, changed))


def test_odd_sizes_and_single_frames_are_accepted(network):
    given = debug.conditions(batch=1, frames=1, side=7)
    assert network(torch.randn(1, 1, 4, 7, 7), LEVEL[:1], given).shape == (1, 1, 4, 7, 7)


def test_gradient_checkpointing_changes_nothing(network, noisy):
    given = debug.conditions()
    plain = network(noisy, LEVEL, given)
    network.enable_gradient_checkpointing()
    try:
        kept = network(noisy.clone().requires_grad_(), LEVEL, given)
        assert torch.equal(kept, plain)
        kept.sum().backward()
    finally:
        network.disable_gradient_checkpointing()


def test_an_even_lip_window_is_refused():
    with pytest.raises(ValueError, match="lip_window is 4"):
        debug.ethd(lip_window=4)


def test_lip_windows_are_centred_and_repeat_the_ends():
    windows = lip_windows(torch.arange(6.0)[:, None], 5)
    assert windows[0, :, 0].tolist() == [0, 0, 0, 1, 2]
    assert windows[3, :, 0].tolist() == [1, 2, 3, 4, 5]
    assert windows[5, :, 0].tolist() == [3, 4, 5, 5, 5]


def test_a_saved_and_loaded_network_is_equal(network, noisy, tmp_path):
    network.save_pretrained(tmp_path)
    loaded = type(network).from_pretrained(tmp_path).eval()
    assert torch.equal(loaded(noisy, LEVEL, debug.conditions()), network(noisy, LEVEL, debug.conditions()))
