import copy

import pytest
import torch
from torch import nn

from emotivetalk.training.optim.muon import (
    Muon,
    OptimizerConfig,
    build_optimizers,
    learning_rate_at,
    orthogonalize,
    split_parameters,
)


def parameter(*shape: int, seed: int = 0) -> nn.Parameter:
    return nn.Parameter(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)))


def with_gradient(weight: nn.Parameter, seed: int) -> None:
    gradient = torch.randn(weight.shape, generator=torch.Generator().manual_seed(seed))
    weight.grad = torch.empty_like(weight).copy_(gradient)


@pytest.mark.parametrize("shape", [(3, 48, 64), (2, 64, 48), (1, 32, 32), (1, 32, 288)])
def test_orthogonalize_brings_singular_values_near_one(shape: tuple[int, ...]) -> None:
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 1e-3
    values = torch.linalg.svdvals(orthogonalize(matrices).float())
    # The iteration oscillates around 1; only the smallest values have not reached it.
    assert values.max() < 1.3
    assert values.median() > 0.65
    assert (values > 0.5).float().mean() > 0.9


def test_orthogonalize_keeps_the_singular_vectors() -> None:
    matrix = torch.randn(40, 64, generator=torch.Generator().manual_seed(1))
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    cosine = torch.cosine_similarity(orthogonalize(matrix[None])[0].float().flatten(), (left @ right).flatten(), dim=0)
    assert cosine > 0.95


def test_orthogonalize_leaves_zero_at_zero() -> None:
    assert torch.equal(orthogonalize(torch.zeros(1, 32, 32)), torch.zeros(1, 32, 32))


def test_an_update_has_the_size_of_adamws() -> None:
    weight = parameter(64, 96)
    before = weight.detach().clone()
    with_gradient(weight, seed=1)
    Muon([weight], lr=0.1).step()
    rms = (weight - before).square().mean().sqrt() / 0.1
    assert 0.12 < rms < 0.28  # Moonshot: 0.2


def test_the_memory_format_of_a_convolution_changes_nothing() -> None:
    plain = parameter(32, 48, 3, 3)
    last = nn.Parameter(plain.detach().clone(memory_format=torch.channels_last))
    optimizers = [Muon([plain], lr=0.02, weight_decay=0.1), Muon([last], lr=0.02, weight_decay=0.1)]
    for step in range(3):
        for weight, optimizer in zip((plain, last), optimizers, strict=True):
            with_gradient(weight, seed=step)
            optimizer.step()
    assert last.grad is not None
    assert last.grad.is_contiguous(memory_format=torch.channels_last)
    assert last.is_contiguous(memory_format=torch.channels_last)
    assert plain.is_contiguous()
    assert torch.equal(plain, last)


def test_a_linear_weight_equals_a_one_by_one_convolution() -> None:
    linear = parameter(32, 64)
    convolution = nn.Parameter(linear.detach().clone()[..., None, None])
    for weight in (linear, convolution):
        weight.grad = parameter(32, 64, seed=1).detach().reshape(weight.shape)
        Muon([weight], lr=0.1).step()
    assert torch.equal(linear, convolution[..., 0, 0])


def test_stacking_weights_of_equal_shape_changes_none() -> None:
    together = [parameter(32, 40, seed=seed) for seed in range(3)]
    alone = [nn.Parameter(weight.detach().clone()) for weight in together]
    for number, weight in enumerate(together + alone):
        with_gradient(weight, seed=number % 3)
    Muon(together, lr=0.1).step()
    for weight in alone:
        Muon([weight], lr=0.1).step()
    for first, second in zip(together, alone, strict=True):
        torch.testing.assert_close(first, second, atol=2e-3, rtol=0)


def test_the_momentum_is_nesterovs() -> None:
    weight = parameter(32, 32)
    optimizer = Muon([weight], lr=1.0)
    gradients = [torch.randn(32, 32, generator=torch.Generator().manual_seed(seed)) for seed in range(2)]
    for gradient in gradients:
        before = weight.detach().clone()
        weight.grad = gradient
        optimizer.step()
    average = 0.95 * 0.05 * gradients[0] + 0.05 * gradients[1]
    direction = 0.05 * gradients[1] + 0.95 * average
    expected = before - 0.2 * 32**0.5 * orthogonalize(direction[None])[0].float()
    torch.testing.assert_close(weight.detach(), expected, atol=2e-2, rtol=0)


def test_a_parameter_without_gradient_stays() -> None:
    used, unused = parameter(32, 32), parameter(32, 32, seed=1)
    before = unused.detach().clone()
    with_gradient(used, seed=2)
    Muon([used, unused], lr=0.1, weight_decay=0.5).step()
    assert torch.equal(unused, before)


def test_muon_refuses_vectors() -> None:
    with pytest.raises(ValueError, match="2 or more dimensions"):
        Muon([parameter(32)], lr=0.1)


def network() -> nn.Module:
    layers = {
        "first": nn.Conv2d(3, 64, 3),
        "hidden": nn.Conv2d(64, 32, 3),
        "depthwise": nn.Conv2d(64, 64, 3, groups=64),
        "norm": nn.GroupNorm(8, 64),
        "embedding": nn.Embedding(100, 64),
        "linear": nn.Linear(64, 48),
        "last": nn.Linear(48, 8),
        "frozen": nn.Linear(64, 64).requires_grad_(False),
    }
    return nn.ModuleDict(layers)


def test_hidden_weights_go_to_muon_and_the_rest_to_adamw() -> None:
    groups = split_parameters(network())
    assert set(groups.hidden) == {"hidden.weight", "linear.weight"}
    assert "frozen.weight" not in groups.named()
    assert {"first.weight", "depthwise.weight", "embedding.weight", "last.weight", "norm.bias"} <= set(groups.rest)
    muon, adamw = build_optimizers(groups, OptimizerConfig(weight_decay=0.1))
    assert isinstance(muon, Muon)
    assert adamw.defaults["betas"] == (0.9, 0.98)
    decays = {p.ndim >= 2: group["weight_decay"] for group in adamw.param_groups for p in group["params"]}
    assert decays == {True: 0.1, False: 0.0}


def test_adamw_can_train_all_parameters() -> None:
    groups = split_parameters(network())
    (adamw,) = build_optimizers(groups, OptimizerConfig(name="adamw"))
    assert sum(len(group["params"]) for group in adamw.param_groups) == len(groups.named())


def test_a_module_without_trainable_parameters_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing to train"):
        build_optimizers(split_parameters(nn.ReLU()), OptimizerConfig())


def test_the_state_can_be_saved_and_loaded() -> None:
    first, second = parameter(32, 48, 3, 3), parameter(32, 48, 3, 3)
    optimizers = [Muon([first], lr=0.02), Muon([second], lr=0.5)]
    with_gradient(first, seed=3)
    optimizers[0].step()
    second.data.copy_(first.data)
    optimizers[1].load_state_dict(copy.deepcopy(optimizers[0].state_dict()))
    for weight, optimizer in zip((first, second), optimizers, strict=True):
        with_gradient(weight, seed=4)
        optimizer.step()
    assert torch.equal(first, second)


def test_the_learning_rate_rises_stays_and_falls_to_zero() -> None:
    config = OptimizerConfig(learning_rate=1.0, warmup_steps=3, decay_start=0.5)
    rates = [learning_rate_at(step, 20, config) for step in range(21)]
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0]
    assert rates[4:11] == [1.0] * 7
    assert rates[10:] == pytest.approx([1 - 0.1 * i for i in range(11)])
    linear = OptimizerConfig(learning_rate=1.0)
    assert [learning_rate_at(step, 4, linear) for step in range(5)] == [1.0, 0.75, 0.5, 0.25, 0.0]
    constant = OptimizerConfig(learning_rate=1.0, decay_start=1.0)
    assert [learning_rate_at(step, 4, constant) for step in range(4)] == [1.0] * 4
