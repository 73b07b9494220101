"""The sampler against closed forms, the convention against diffusers, guidance by its algebra."""

import math
from collections.abc import Callable

import pytest
import torch
from diffusers import EulerDiscreteScheduler
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from emotivetalk.models.diffusion import (
    Guidance,
    denoise,
    denoising_loss,
    euler_step,
    guide,
    noisy,
    precondition,
    predict_v,
    sigma_schedule,
    svd_scheduler,
    training_sigma,
    v_target,
    x0_from_v,
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=seeded(seed))


@settings(deadline=None)
@given(sigma=st.floats(0.002, 700))
def test_factors_give_the_network_unit_variance_in_and_out(sigma: float) -> None:
    factors = precondition(torch.tensor(sigma, dtype=torch.float64))
    # Var(c_in x), and Var((x0 - c_skip x) / c_out), for x0 of variance 1.
    assert factors.c_in**2 * (1 + sigma**2) == pytest.approx(1)
    assert ((1 - factors.c_skip) ** 2 + (factors.c_skip * sigma) ** 2) / factors.c_out**2 == pytest.approx(1)
    assert factors.timestep == pytest.approx(0.25 * math.log(sigma))


@pytest.mark.parametrize("lead", [(), (3,), (3, 4)])
def test_v_target_round_trips_to_x0(lead: tuple[int, ...]) -> None:
    x0, noise = normal(3, 4, 2, 5, 5), normal(3, 4, 2, 5, 5, seed=1)
    sigma = training_sigma(lead, 0.0, 1.0, seeded(2))
    target = v_target(x0, noise, sigma)
    timesteps = []

    def perfect(scaled: Tensor, timestep: Tensor) -> Tensor:
        timesteps.append(timestep)
        return target

    x = noisy(x0, noise, sigma)
    torch.testing.assert_close(denoise(perfect, x, sigma), x0, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(x0_from_v(x, predict_v(perfect, x, sigma), sigma), x0, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(timesteps[0], 0.25 * sigma.log())


def test_preconditioning_and_step_are_those_of_diffusers() -> None:
    scheduler = svd_scheduler()
    scheduler.set_timesteps(6)
    sigmas = sigma_schedule(scheduler, 6)
    x = ours = normal(2, 3, 4) * scheduler.init_noise_sigma

    def network(scaled: Tensor, timestep: Tensor) -> Tensor:
        return torch.tanh(2 * scaled) + timestep

    for step, timestep in enumerate(scheduler.timesteps):
        v = network(scheduler.scale_model_input(x, timestep), timestep)
        x = scheduler.step(v, timestep, x).prev_sample
        ours = euler_step(ours, denoise(network, ours, sigmas[step]), sigmas[step], sigmas[step + 1])
    torch.testing.assert_close(ours, x, atol=1e-4, rtol=1e-4)


def test_training_sigma_is_log_normal_and_reproducible() -> None:
    sigma = training_sigma((20_000,), 0.7, 1.6, seeded())
    assert sigma.log().mean() == pytest.approx(0.7, abs=0.05)
    assert sigma.log().std() == pytest.approx(1.6, abs=0.05)
    assert torch.equal(sigma, training_sigma((20_000,), 0.7, 1.6, seeded()))


def test_loss_is_a_weighted_mean_and_v_weighs_x0_as_edm_does() -> None:
    x0, noise, v = (normal(2, 3, 4, 5, seed=seed) for seed in range(3))
    sigma = torch.tensor([0.3, 5.0])
    target, ones = v_target(x0, noise, sigma), torch.ones(2)
    error = x0_from_v(noisy(x0, noise, sigma), v, sigma) - x0
    torch.testing.assert_close(
        denoising_loss(v, target, ones), denoising_loss(error, torch.zeros(2, 3, 4, 5), (sigma**2 + 1) / sigma**2)
    )
    mask = torch.zeros(2, 1, 4, 5)
    mask[..., 0] = 5.0
    torch.testing.assert_close(denoising_loss(v, target, mask), (v - target)[..., 0].square().mean())


def gaussian_denoiser(mean: float, std: float) -> Callable[[Tensor, Tensor], Tensor]:
    """The optimal denoiser of N(mean, std^2)."""
    return lambda x, sigma: (std**2 * x + sigma**2 * mean) / (std**2 + sigma**2)


def sampled(x: Tensor, sigmas: Tensor, denoiser: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    for sigma, sigma_next in zip(sigmas, sigmas[1:]):
        x = euler_step(x, denoiser(x, sigma), sigma, sigma_next)
    return x


def test_sampler_solves_the_gaussian_ode_to_first_order() -> None:
    mean, std, sigma_max = 0.4, 0.5, 80.0
    x = sigma_max * normal(4000).double()
    # x - mean follows sqrt(std^2 + sigma^2).
    exact = mean + (x - mean) * std / math.sqrt(std**2 + sigma_max**2)
    errors = []
    for num_steps in (40, 80, 160):
        sigmas = sigma_schedule(svd_scheduler(sigma_max=sigma_max), num_steps).double()
        errors.append((sampled(x, sigmas, gaussian_denoiser(mean, std)) - exact).abs().mean().item())
    assert errors[0] < 0.03
    assert errors[0] / errors[1] == pytest.approx(2, abs=0.25)
    assert errors[1] / errors[2] == pytest.approx(2, abs=0.15)


def test_last_step_gives_the_prediction_itself() -> None:
    x, x0 = 700 * normal(100), normal(100, seed=1)
    assert torch.equal(euler_step(x, x0, torch.tensor(0.002), torch.tensor(0.0)), x0)


@pytest.mark.parametrize("num_steps", [1, 2, 25])
def test_schedule_equals_diffusers_and_does_not_change_the_scheduler(num_steps: int) -> None:
    scheduler = svd_scheduler(sigma_min=0.01, sigma_max=50.0)
    scheduler.set_timesteps(7)
    sigmas = sigma_schedule(scheduler, num_steps)
    assert len(scheduler.sigmas) == 8
    scheduler.set_timesteps(num_steps)
    assert torch.equal(sigmas, scheduler.sigmas)
    assert len(sigmas) == num_steps + 1 and sigmas[0] == 50.0 and sigmas[-1] == 0
    assert (sigmas.diff() < 0).all()


def test_a_schedule_of_another_convention_is_refused() -> None:
    with pytest.raises(ValueError, match="prediction_type='epsilon'; set it to 'v_prediction'"):
        sigma_schedule(EulerDiscreteScheduler(), 4)
    with pytest.raises(ValueError, match="num_steps is 0"):
        sigma_schedule(svd_scheduler(), 0)


def never() -> Tensor:
    raise AssertionError("a branch that does not count was evaluated")


BRANCHES = tuple(normal(3, 4, seed=seed) for seed in range(3))


@settings(deadline=None)
@given(scale=st.floats(-2, 10))
def test_guidance_extrapolates(scale: float) -> None:
    low, high, _ = BRANCHES
    torch.testing.assert_close(
        guide(lambda: low, lambda: high, scale), low + scale * (high - low), atol=1e-5, rtol=1e-5
    )


@settings(deadline=None)
@given(lip=st.floats(0, 8), expression=st.floats(0, 8))
def test_sum_of_guidances(lip: float, expression: float) -> None:
    neither, lip_only, both = BRANCHES
    guidance = Guidance(lip=lip, expression=expression)
    expected = neither + lip * (lip_only - neither) + expression * (both - lip_only)
    got = guidance.guide(lambda: neither, lambda: lip_only, lambda: both)
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)
    assert sum(guidance.weights) == pytest.approx(1)


def test_guidance_skips_terms_without_effect() -> None:
    neither, lip_only, both = BRANCHES
    assert torch.equal(guide(never, lambda: both, 1.0), both)
    assert torch.equal(guide(lambda: neither, never, 0.0), neither)
    assert torch.equal(Guidance().guide(never, never, lambda: both), both)
    Guidance(lip=1.0, expression=3.0).guide(never, lambda: lip_only, lambda: both)
    Guidance(lip=3.0, expression=3.0).guide(lambda: neither, never, lambda: both)
    assert torch.equal(Guidance(lip=1.0, expression=0.0).guide(never, lambda: lip_only, never), lip_only)


def test_guiding_v_equals_guiding_x0() -> None:
    x, sigma = normal(3, 4, seed=9), torch.tensor(2.0)
    guidance = Guidance(lip=2.0, expression=5.0)
    of_v = guidance.guide(*(lambda v=v: v for v in BRANCHES))
    of_x0 = guidance.guide(*(lambda v=v: x0_from_v(x, v, sigma) for v in BRANCHES))
    torch.testing.assert_close(x0_from_v(x, of_v, sigma), of_x0, atol=1e-5, rtol=1e-5)
