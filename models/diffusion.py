"""Diffusion's arithmetic: noise levels, what the network is asked for, guidance, and the solver's step.

The convention is EDM's (Karras et al. 2022) with unit data variance and v-prediction, which is Stable Video Diffusion's, so
its weights fit. A noisy sample is `x = x0 + sigma * noise`. The network F never sees it bare:

    v  = F(c_in * x, 0.25 * ln sigma)          x0 = c_skip * x + c_out * v
    c_in = 1 / sqrt(sigma^2 + 1)   c_skip = 1 / (sigma^2 + 1)   c_out = -sigma / sqrt(sigma^2 + 1)

`predict_v` and `denoise` own these factors; no network and no sampler repeats them. A network here is any callable, so
conditions (speech, emotion, portrait) are closed over by whoever calls. `x` stays float32: at sigma 700 a half-precision
sample would lose the picture in it.

Noise levels carry the leading axes of `x`: none (one level for all), "batch", or "batch frames".
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
"""(scaled noisy sample, timestep) -> v."""

Evaluate = Callable[[], Float[Tensor, "*shape"]]
"""A prediction not yet made: guidance calls only those that count."""


@dataclass(frozen=True)
class Preconditioning:
    """The factors round the network at one noise level; each has the noise level's shape."""

    c_in: Float[Tensor, "*lead"]
    c_skip: Float[Tensor, "*lead"]
    c_out: Float[Tensor, "*lead"]
    timestep: Float[Tensor, "*lead"]


def precondition(sigma: Float[Tensor, "*lead"]) -> Preconditioning:
    """EDM's factors for v-prediction with data variance 1. `sigma` is above 0."""
    variance = sigma.square() + 1
    return Preconditioning(
        c_in=variance.rsqrt(), c_skip=1 / variance, c_out=-sigma * variance.rsqrt(), timestep=0.25 * sigma.log()
    )


def predict_v(network: Network, x: Float[Tensor, "*shape"], sigma: Float[Tensor, "*lead"]) -> Float[Tensor, "*shape"]:
    """The network's own output, v, for a noisy sample at level `sigma`: what training compares with `v_target`."""
    factors = precondition(sigma)
    return network(_over(factors.c_in, x) * x, factors.timestep)


def x0_from_v(
    x: Float[Tensor, "*shape"], v: Float[Tensor, "*shape"], sigma: Float[Tensor, "*lead"]
) -> Float[Tensor, "*shape"]:
    """The clean sample that a noisy one and its v imply."""
    factors = precondition(sigma)
    return _over(factors.c_skip, x) * x + _over(factors.c_out, x) * v


def denoise(network: Network, x: Float[Tensor, "*shape"], sigma: Float[Tensor, "*lead"]) -> Float[Tensor, "*shape"]:
    """The network's estimate of the clean sample, x0, from a noisy one at level `sigma`."""
    return x0_from_v(x, predict_v(network, x, sigma), sigma)


def sample(
    network: Network, noise: Float[Tensor, "batch ..."], sigmas: Float[Tensor, "levels"]
) -> Float[Tensor, "..."]:
    """Clean samples from standard normal noise, by Euler's steps down the noise levels (`sigma_schedule`)."""
    x = noise * sigmas[0]
    for sigma, following in pairwise(sigmas):
        level = sigma.expand(len(x))
        x = euler_step(x, denoise(network, x, level).to(x), level, following.expand(len(x)))
    return x


def training_sigma(shape: Sequence[int], mean: float, std: float, generator: torch.Generator) -> Float[Tensor, "*lead"]:
    """Noise levels to train on: log-normal, `ln sigma ~ N(mean, std^2)` (EDM, table 1), on the generator's device."""
    return (mean + std * torch.randn(tuple(shape), generator=generator, device=generator.device)).exp()


def noisy(
    x0: Float[Tensor, "*shape"], noise: Float[Tensor, "*shape"], sigma: Float[Tensor, "*lead"]
) -> Float[Tensor, "*shape"]:
    """`x0 + sigma * noise`."""
    return x0 + _over(sigma, x0) * noise


def v_target(
    x0: Float[Tensor, "*shape"], noise: Float[Tensor, "*shape"], sigma: Float[Tensor, "*lead"]
) -> Float[Tensor, "*shape"]:
    """The v that gives back `x0` exactly: `(noise - sigma * x0) / sqrt(sigma^2 + 1)`."""
    level = _over(sigma, x0)
    return (noise - level * x0) * (level.square() + 1).rsqrt()


def denoising_loss(
    prediction: Float[Tensor, "*shape"], target: Float[Tensor, "*shape"], weight: Float[Tensor, "..."]
) -> Float[Tensor, ""]:
    """Mean of `weight * (prediction - target)^2` over all elements.

    Weight 1 on v is EDM's own weighting, `(sigma^2 + 1) / sigma^2` on x0: every noise level counts alike. `weight` has
    the leading axes of the prediction, each whole or of length 1: "batch", "batch frames", "batch 1 1 height width".
    """
    return (_over(weight, prediction) * (prediction - target).square()).mean()


def guide(unconditional: Evaluate, conditional: Evaluate, scale: float) -> Float[Tensor, "*shape"]:
    """Classifier-free guidance: `unconditional + scale * (conditional - unconditional)`, of v or of x0 alike.

    At scale 1 the unconditional branch is not evaluated, at scale 0 the conditional is not.
    """
    return _weighted_sum((unconditional, conditional), (1 - scale, scale))


@dataclass(frozen=True)
class Guidance:
    """ETHD's guidance on two conditions, each with its own strength; 1 adds nothing, more exaggerates.

    Ours, after Sonic's three evaluations: `neither + lip * (lip_only - neither) + expression * (both - lip_only)`.
    """

    lip: float = 1.0
    expression: float = 1.0

    @property
    def weights(self) -> tuple[float, float, float]:
        """Of the predictions under neither condition, under the lips alone, and under both; their sum is 1.

        A weight of 0 means that the prediction is not needed, so a caller who stacks the three into one batch can
        leave it out.
        """
        return (1 - self.lip, self.lip - self.expression, self.expression)

    def guide(self, neither: Evaluate, lip_only: Evaluate, both: Evaluate) -> Float[Tensor, "*shape"]:
        """The guided prediction, of v or of x0 alike, evaluating only the branches whose weight is not 0."""
        return _weighted_sum((neither, lip_only, both), self.weights)


def euler_step(
    x: Float[Tensor, "*shape"],
    x0: Float[Tensor, "*shape"],
    sigma: Float[Tensor, "*lead"],
    sigma_next: Float[Tensor, "*lead"],
) -> Float[Tensor, "*shape"]:
    """One deterministic Euler step of `dx/dsigma = (x - x0) / sigma` from `sigma` (above 0) to `sigma_next`.

    It keeps no state but `x`, which is what lets long video's chunks move between steps. To level 0 it gives `x0`.
    """
    return x0 + _over(sigma_next / sigma, x) * (x - x0)


def svd_scheduler(sigma_min: float = 0.002, sigma_max: float = 700.0) -> EulerDiscreteScheduler:
    """Diffusers' Euler scheduler, configured as Stable Video Diffusion's; a small network wants a lower `sigma_max`."""
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
    """The scheduler's `num_steps` noise levels, falling, and a final 0. The scheduler is not changed.

    Raises:
        ValueError: if there is no step, or the scheduler's convention is not this file's.
    """
    if num_steps < 1:
        raise ValueError(f"num_steps is {num_steps}; sampling needs at least 1.")
    expected = {"prediction_type": "v_prediction", "timestep_type": "continuous", "final_sigmas_type": "zero"}
    for name, value in expected.items():
        if scheduler.config[name] != value:
            raise ValueError(f"scheduler has {name}={scheduler.config[name]!r}; set it to {value!r}.")
    scheduler = copy.deepcopy(scheduler)
    scheduler.set_timesteps(num_steps)
    return scheduler.sigmas


def _over(factor: Float[Tensor, "*lead"], x: Float[Tensor, "*shape"]) -> Float[Tensor, "..."]:
    """`factor`, whose axes are x's leading ones, with axes of length 1 for the rest, so that it multiplies x."""
    return factor.reshape(factor.shape + (1,) * (x.ndim - factor.ndim))


def _weighted_sum(branches: Sequence[Evaluate], weights: Sequence[float]) -> Float[Tensor, "*shape"]:
    terms = [branch() if weight == 1 else weight * branch() for branch, weight in zip(branches, weights) if weight]
    return sum(terms[1:], start=terms[0])
