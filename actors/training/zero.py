"""DeepSpeed: its configuration, wrappers of module and optimiser, and the optimiser's state by weight."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import deepspeed.ops
import torch
from deepspeed import DeepSpeedEngine, initialize
from deepspeed.utils import (
    lazy_init_hp_params_optimizer_state,
    safe_get_full_optimizer_state,
    safe_set_full_optimizer_state,
    safe_set_local_optimizer_state,
)
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from emotivetalk.models.precision import mixed_precision
from emotivetalk.training.run.config import TrainConfig
from emotivetalk.training.stages.stage import StepLoss

BUCKET_ELEMENTS = 2**25  # gradients per transfer; DeepSpeed's default needs 2 GB for each buffer
SMALL_ELEMENTS = 1024  # ZeRO 3 keeps weights up to this size (biases, norms) whole on every worker
MOMENTS = ("exp_avg", "exp_avg_sq")


class OptimizerGroup(Optimizer):
    """Several optimisers as one, as DeepSpeed requires: Muon and AdamW update different weights."""

    def __init__(self, optimizers: Sequence[Optimizer]) -> None:
        super().__init__([group for optimizer in optimizers for group in optimizer.param_groups], {})
        self.optimizers = list(optimizers)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Step each optimiser.

        Raises:
            ValueError: a closure was given, but DeepSpeed has already computed the gradients.
        """
        if closure is not None:
            raise ValueError("the gradients are already computed; give no closure")
        for optimizer in self.optimizers:
            optimizer.step()


class LossModule(nn.Module):
    """A stage's module in the precision of the run, with an output that DeepSpeed's hooks can traverse.

    DeepSpeed disables an autocast around its engine, so it is inside; weights stay float32.
    """

    def __init__(self, module: nn.Module, config: TrainConfig) -> None:
        super().__init__()
        self.module = module
        self.device = torch.device(config.device)
        self.is_bf16 = config.precision == "bf16"

    def forward(self, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the stage's loss and its terms. Only the stage knows the type of the batch."""
        with mixed_precision(self.device, self.is_bf16):
            loss: StepLoss = self.module(batch)
        return loss.total, {name: value.detach() for name, value in loss.terms.items()}


def has_plain_order(tensor: Tensor) -> bool:
    """Return True if the strides are those of row-major order.

    `is_contiguous` ignores axes of length one, as a 1 x 1 convolution in channels_last has, but DeepSpeed uses their strides.
    """
    return tensor.stride() == torch.empty(tensor.shape, device="meta").stride()


def build_engine(
    module: nn.Module, optimizers: Sequence[Optimizer], config: TrainConfig, num_workers: int
) -> DeepSpeedEngine:
    """Wrap a stage's module. torch's process group must be initialised."""
    # On a machine's first run DeepSpeed would compile shared-memory collectives, which are not used here. That takes a
    # compiler and a minute, and a worker that is killed meanwhile leaves a lock file on which all later ones wait forever.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    settings = {
        "train_batch_size": config.batch_size,
        "train_micro_batch_size_per_gpu": config.batch_size // (num_workers * config.accumulate),
        "gradient_accumulation_steps": config.accumulate,
        # Without ZeRO our trainer clips the gradients, since it needs their norm before the update.
        "gradient_clipping": (config.optimizer.clip_norm or 0.0) if config.zero else 0.0,
        "zero_allow_untested_optimizer": True,
        "zero_optimization": {
            "stage": config.zero,
            "reduce_bucket_size": BUCKET_ELEMENTS,
            "allgather_bucket_size": BUCKET_ELEMENTS,
            "stage3_prefetch_bucket_size": BUCKET_ELEMENTS,
            "stage3_param_persistence_threshold": SMALL_ELEMENTS,
        },
        "steps_per_print": None,
    }
    optimizer = optimizers[0] if len(optimizers) == 1 else OptimizerGroup(optimizers)
    engine, *_ = initialize(
        model=LossModule(module, config), optimizer=optimizer, config=settings, dist_init_required=False
    )
    return engine


def whole_moments(engine: DeepSpeedEngine, parameter: nn.Parameter) -> dict[str, Tensor]:
    """Return AdamW's whole state of a weight with ZeRO. All workers call it."""
    state = {key: safe_get_full_optimizer_state(parameter, key) for key in MOMENTS}
    shape = getattr(parameter, "ds_shape", parameter.shape)
    zero: Any = engine.optimizer
    flat = next(iter(zero.optimizer.state.values()))
    moments = {key: value.reshape(shape) for key, value in state.items() if value is not None}
    return moments | {"step": flat["step"]}


def create_moments(engine: DeepSpeedEngine, num_updates: float) -> None:
    """Create AdamW's state with ZeRO: zeros, as after `num_updates` updates, into which a checkpoint's moments can be set.

    A new run needs it too: DeepSpeed links weights to their moments after the first group's first step, when the other groups
    have none yet, and never again.
    """
    zero: Any = engine.optimizer  # its class depends on the stage
    adamw = zero.optimizer
    assert isinstance(adamw, AdamW)
    is_partitioned = engine.zero_optimization_stage() == 3
    parts = zero.fp32_partitioned_groups_flat if is_partitioned else zero.single_partition_of_fp32_groups
    for part in parts:
        adamw.state[part] = {"step": torch.tensor(float(num_updates))} | {
            key: torch.zeros_like(part, requires_grad=False) for key in MOMENTS
        }
    if not is_partitioned:
        for weights, part in zip(zero.bit16_groups, parts, strict=True):
            lazy_init_hp_params_optimizer_state(weights, part, adamw.state)


def set_moment(parameter: nn.Parameter, key: str, whole: Tensor, part: Tensor | None) -> None:
    """Set a weight's moment in AdamW's state with ZeRO.

    Args:
        whole: the moment.
        part: with ZeRO 3, this worker's part of it.
    """
    if part is not None:
        safe_set_local_optimizer_state(parameter, part, key)
    else:
        safe_set_full_optimizer_state(parameter, whole.to(parameter.device), key)
