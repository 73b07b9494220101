"""DeepSpeed's side: its configuration, the module and the optimiser as it wants them, and the optimiser's state by weight."""

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

BUCKET_ELEMENTS = 2**25  # of gradients that travel together; DeepSpeed's default would take 2 GB for each buffer
SMALL_ELEMENTS = 1024  # ZeRO 3 leaves weights up to this size, biases and norms, whole on every worker
MOMENTS = ("exp_avg", "exp_avg_sq")


class OptimizerGroup(Optimizer):
    """Several optimisers as the one that DeepSpeed takes; Muon and AdamW share the work between them."""

    def __init__(self, optimizers: Sequence[Optimizer]) -> None:
        super().__init__([group for optimizer in optimizers for group in optimizer.param_groups], {})
        self.optimizers = list(optimizers)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One step of each.

        Raises:
            ValueError: a closure was given; DeepSpeed has computed the gradients by now.
        """
        if closure is not None:
            raise ValueError("the gradients are there already: no closure")
        for optimizer in self.optimizers:
            optimizer.step()


class Loss(nn.Module):
    """A stage's module in the precision of the run, with an output that DeepSpeed's hooks can walk through.

    DeepSpeed switches off an autocast that is put around its engine, so it goes inside; weights stay float32.
    """

    def __init__(self, module: nn.Module, config: TrainConfig) -> None:
        super().__init__()
        self.module = module
        self.device = torch.device(config.device)
        self.is_bf16 = config.precision == "bf16"

    def forward(self, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """The stage's loss and its terms; what the batch is, only the stage knows."""
        with mixed_precision(self.device, self.is_bf16):
            loss: StepLoss = self.module(batch)
        return loss.total, {name: value.detach() for name, value in loss.terms.items()}


def has_plain_order(tensor: Tensor) -> bool:
    """Whether the last axis is the innermost in memory, and so on outwards.

    `is_contiguous` does not tell: it passes over axes of length one, as a 1 x 1 convolution in channels_last has, and
    DeepSpeed looks at the strides of those too.
    """
    return tensor.stride() == torch.empty(tensor.shape, device="meta").stride()


def build_engine(
    module: nn.Module, optimizers: Sequence[Optimizer], config: TrainConfig, num_workers: int
) -> DeepSpeedEngine:
    """Wraps a stage's module; torch's process group must be up."""
    # At a machine's first run DeepSpeed would compile sums over shared memory, which nothing here calls: for that it wants a
    # compiler and a minute, and a worker that is killed meanwhile leaves a lock file that all later ones wait for without end.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    settings = {
        "train_batch_size": config.batch_size,
        "train_micro_batch_size_per_gpu": config.batch_size // (num_workers * config.accumulate),
        "gradient_accumulation_steps": config.accumulate,
        # Without ZeRO the gradients are clipped by our trainer, which wants their norm before the update.
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
    engine, *_ = initialize(model=Loss(module, config), optimizer=optimizer, config=settings, dist_init_required=False)
    return engine


def whole_moments(engine: DeepSpeedEngine, parameter: nn.Parameter) -> dict[str, Tensor]:
    """AdamW's state of a weight, put together again under ZeRO. All workers call it."""
    state = {key: safe_get_full_optimizer_state(parameter, key) for key in MOMENTS}
    shape = getattr(parameter, "ds_shape", parameter.shape)
    zero: Any = engine.optimizer
    flat = next(iter(zero.optimizer.state.values()))
    moments = {key: value.reshape(shape) for key, value in state.items() if value is not None}
    return moments | {"step": flat["step"]}


def create_moments(engine: DeepSpeedEngine, num_updates: float) -> None:
    """Gives AdamW under ZeRO a state of zeros, as if it had made so many updates: a checkpoint's go into it.

    A new run needs it too: DeepSpeed links weights with their moments after the first group's first step, when the other
    groups have none yet, and would not find them ever after.
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
    """Puts a weight's moment into AdamW's state under ZeRO.

    Args:
        whole: the moment.
        part: of ZeRO 3, this worker's part of it.
    """
    if part is not None:
        safe_set_local_optimizer_state(parameter, part, key)
    else:
        safe_set_full_optimizer_state(parameter, whole.to(parameter.device), key)
