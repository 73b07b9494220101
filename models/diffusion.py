"""Arithmetic of diffusion: noise levels, preconditioning and targets, guidance, and the solver's step.

The convention is that of EDM (Karras et al. 2022) with unit data variance and v-prediction. Stable Video Diffusion uses the
same, so its weights fit. A noisy sample is `x = x0 + sigma * noise`; the network F reads it scaled:

    v  = F(c_in * x, 0.25 * ln sigma)          x0 = c_skip * x + c_out * v
    c_in = 1 / sqrt(sigma^2 + 1)   c_skip = 1 / (sigma^2 + 1)   c_out = -sigma / sqrt(sigma^2 + 1)

`predict_v` and `denoise` own these factors; no network and no sampler repeats them. A network is any callable: the caller
binds conditions (speech, emotion, portrait) to it. `x` stays float32, because at sigma 700 a half-precision sample would
lose the picture.

Noise levels have the leading axes of `x`: none (one level for all), "batch", or "batch frames".
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from diffusers import EulerDiscreteScheduler
from jaxtyping import Float
from torch import Tensor

Network = Callable[[Float[Tensor, "*shape"], Float[Tensor, "*lead"]], Float[Tensor, "*shape"]]
"""Function of (scaled noisy sample, timestep) that predicts v."""

Evaluate = Callable[[], Float[Tensor, "*shape"]]
"""Deferred prediction; guidance evaluates only those with a weight other than 0."""


@dataclass(frozen=True)
class Preconditioning:
    """Scaling factors around the network at a noise level; each has the noise level's shape."""

    c_in: Float[Tensor, "*lead"]
    c_skip: Float[Tensor, "*lead"]
    c_out: Float[Tensor, "*lead"]
    timestep: Float[Tensor, "*lead"]


def precondition(sigma: Float[Tensor, "*lead"]) -> Preconditioning:
    """Compute EDM's factors for v-prediction with data variance 1; `sigma` is positive."""
    variance = sigma.square() + 1
    return Preconditioning(
        c_in=variance.rsqrt(), c_skip=1 / variance, c_out=-sigma * variance.rsqrt(), timestep=0.25 * sigma.log()
    )


def predict_v(network: Network, x: Float[Tensor, "*shape"], sigma: Float[Tensor, "*lead"]) -> Float[Tensor, "*shape"]:
    """Predict v for a noisy sample at level `sigma`; training compares it with `v_target`."""
    factors = precondition(sigma)
    return network(_over(factors.c_in, x) * x, factors.timestep)


def x0_from_v(
    x: Float[Tensor, "*shape"], v: Float[Tensor, "*shape"], sigma: Float[Tensor, "*lead"]
) -> Float[Tensor, "*shape"]:
    """Compute the clean sample from a noisy one and its v."""
    factors = precondition(sigma)
    return _over(factors.c_skip, x) * x + _over(factors.c_out, x) * v


def denoise(network: Network, x: Float[Tensor, "*shape"], sigma: Float[Tensor, "*lead"]) -> Float[Tensor, "*shape"]:
    """Estimate the clean sample, x0, from a noisy one at level `sigma`."""
    return x0_from_v(x, predict_v(network, x, sigma), sigma)


def sample(
    network: Network, noise: Float[Tensor, "batch ..."], sigmas: Float[Tensor, "levels"]
) -> Float[Tensor, "..."]:
    """Sample from standard normal noise by solver steps down the noise levels of `sigma_schedule`."""
    x = noise * sigmas[0]
    for sigma, sigma_next in pairwise(sigmas):
        level = sigma.expand(len(x))
        x = euler_step(x, denoise(network, x, level).to(x), level, sigma_next.expand(len(x)))
    return x


def training_sigma(shape: Sequence[int], mean: float, std: float, generator: torch.Generator) -> Float[Tensor, "*lead"]:
    """Draw log-normal noise levels for training, `ln sigma ~ N(mean, std^2)` (EDM, table 1), on the generator's device."""
    return (mean + std * torch.randn(tuple(shape), generator=generator, device=generator.device)).exp()


def noisy(
    x0: Float[Tensor, "*shape"], noise: Float[Tensor, "*shape"], sigma: Float[Tensor, "*lead"]
) -> Float[Tensor, "*shape"]:
    """Add noise: `x0 + sigma * noise`."""
    return x0 + _over(sigma, x0) * noise


def v_target(
    x0: Float[Tensor, "*shape"], noise: Float[Tensor, "*shape"], sigma: Float[Tensor, "*lead"]
) -> Float[Tensor, "*shape"]:
    """Compute the v that yields `x0` exactly: `(noise - sigma * x0) / sqrt(sigma^2 + 1)`."""
    level = _over(sigma, x0)
    return (noise - level * x0) * (level.square() + 1).rsqrt()


def denoising_loss(
    prediction: Float[Tensor, "*shape"], target: Float[Tensor, "*shape"], weight: Float[Tensor, "..."]
) -> Float[Tensor, ""]:
    """Average `weight * (prediction - target)^2` over all elements.

    Weight 1 on v is EDM's weighting, `(sigma^2 + 1) / sigma^2` on x0, under which all noise levels count alike. `weight` has
    leading axes of the prediction, each in full or of length 1: "batch", "batch frames", "batch 1 1 height width".
    """
    return (_over(weight, prediction) * (prediction - target).square()).mean()


def guide(unconditional: Evaluate, conditional: Evaluate, scale: float) -> Float[Tensor, "*shape"]:
    """Apply classifier-free guidance to v or x0: `unconditional + scale * (conditional - unconditional)`.

    Scale 1 skips the unconditional evaluation, scale 0 the conditional one.
    """
    return _weighted_sum((unconditional, conditional), (1 - scale, scale))


@dataclass(frozen=True)
class Guidance:
    """Guidance of ETHD by two conditions, each with its own scale: 1 is neutral, more exaggerates.

    Ours, after Sonic's three evaluations: `neither + lip * (lip_only - neither) + expression * (both - lip_only)`.
    """

    lip: float = 1.0
    expression: float = 1.0

    @property
    def weights(self) -> tuple[float, float, float]:
        """Weights of the predictions under neither condition, under the lips alone, and under both; their sum is 1.

        A prediction of weight 0 is not needed: a caller that stacks the three into one batch can leave it out.
        """
        return (1 - self.lip, self.lip - self.expression, self.expression)

    def guide(self, neither: Evaluate, lip_only: Evaluate, both: Evaluate) -> Float[Tensor, "*shape"]:
        """Combine predictions of v or of x0, evaluating only those whose weight is not 0."""
        return _weighted_sum((neither, lip_only, both), self.weights)


def euler_step(
    x: Float[Tensor, "*shape"],
    x0: Float[Tensor, "*shape"],
    sigma: Float[Tensor, "*lead"],
    sigma_next: Float[Tensor, "*lead"],
) -> Float[Tensor, "*shape"]:
    """Take one deterministic Euler step of `dx/dsigma = (x - x0) / sigma` from `sigma` (positive) to `sigma_next`.

    The only state is `x`, so the chunks of a long video can move between steps. A step to level 0 returns `x0`.
    """
    return x0 + _over(sigma_next / sigma, x) * (x - x0)


def svd_scheduler(sigma_min: float = 0.002, sigma_max: float = 700.0) -> EulerDiscreteScheduler:
    """Build diffusers' Euler scheduler with Stable Video Diffusion's settings; small networks need a lower `sigma_max`."""
    return EulerDiscreteScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        timestep_type="continuous",
        timestep_spacing="leading",
        steps_offset=1,
        use_karras_sigmas=True,
        sigma_min=sigma_min,
        sigma_max=sigma_max,
    )


def sigma_schedule(scheduler: EulerDiscreteScheduler, num_steps: int) -> Float[Tensor, "levels"]:
    """Compute the scheduler's `num_steps` descending noise levels and a final 0; the scheduler itself is not changed.

    Raises:
        ValueError: `num_steps` is below 1, or the scheduler's convention differs from this module's.
    """
    if num_steps < 1:
        raise ValueError(f"num_steps is {num_steps}; sampling needs at least 1.")
    expected = {"prediction_type": "v_prediction", "timestep_type": "continuous", "final_sigmas_type": "zero"}
    for name, value in expected.items():
        if scheduler.config[name] != value:
            raise ValueError(f"the scheduler has {name}={scheduler.config[name]!r}; set it to {value!r}.")
    scheduler = copy.deepcopy(scheduler)
    scheduler.set_timesteps(num_steps)
    return scheduler.sigmas


def _over(factor: Float[Tensor, "*lead"], x: Float[Tensor, "*shape"]) -> Float[Tensor, "..."]:
    """Append axes of length 1 to `factor`, whose axes are the leading ones of x, so that it broadcasts over x."""
    return factor.reshape(factor.shape + (1,) * (x.ndim - factor.ndim))


def _weighted_sum(branches: Sequence[Evaluate], weights: Sequence[float]) -> Float[Tensor, "*shape"]:
    terms = [branch() if weight == 1 else weight * branch() for branch, weight in zip(branches, weights) if weight]
    return sum(terms[1:], start=terms[0])
