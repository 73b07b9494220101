"""A training run as one validated, immutable object, read from a YAML file."""

from __future__ import annotations

import difflib
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny, ValidationError

from emotivetalk.errors import InputError
from emotivetalk.resources import find_config
from emotivetalk.training.optim.muon import OptimizerConfig
from emotivetalk.training.run.divergence import DivergenceConfig
from emotivetalk.training.stages.registry import STAGE_NAMES, stage_class
from emotivetalk.training.stages.stage import StageConfig

Interval = Annotated[int, Field(ge=1)] | None


class TrainConfig(BaseModel):
    """All that decides a run, but the machine.

    name: which stage (`emotivetalk.training.stages.registry.STAGE_NAMES`).
    seed: of the initial weights and of every sample.
    steps, batch_size: updates, and samples in each (over all workers).
    ema_decay: of the averaged weights, which are validated and saved (null: the trained weights are).
    precision: "bf16" runs the loss under autocast (but on a CPU that would have to emulate it), weights and optimisers stay
        float32; "fp32" doesn't.
    device: "cpu" or "cuda".
    threads: torch's, on the CPU (null: torch's choice).
    prefetch: make the next batch in a background thread.
    validate_every, preview_every: steps; null: never, the end included.
    checkpoint_every: steps between training checkpoints, of which the last `keep` stay (null: only the last step's).
    keep_best: keep the one with the lowest mean loss since the checkpoint before it, too.
    accumulate: micro-batches that a worker goes through for one update, to need less memory.
    gradient_checkpointing: networks that can, ETHD so far, keep no activations inside their layers, and compute them
        again for the gradient: less memory, more time, the same losses. A stage without such a network refuses it.
    zero: how much DeepSpeed shares out among the workers: 0 nothing, 1 the optimizer's state, 2 gradients too, 3 weights
        too. One process, without workers, has nobody to share with and takes 0 only.
    divergence: what happens when a loss or a gradient is no number, or when a loss shoots up.
    output: the run's folder.
    checkpoint: the folder of diffusers' layout that gets the networks (null: `checkpoint` in `output`).
    stage: the stage's own settings, an instance of its `config_class`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    seed: int = Field(default=0, ge=0, lt=2**63)
    steps: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    optimizer: OptimizerConfig = OptimizerConfig()
    ema_decay: float | None = Field(default=0.999, ge=0, lt=1)
    precision: Literal["bf16", "fp32"] = "bf16"
    device: Literal["cpu", "cuda"] = "cpu"
    threads: int | None = Field(default=None, ge=1)
    prefetch: bool = True
    validate_every: Interval = None
    preview_every: Interval = None
    checkpoint_every: Interval = None
    keep: int = Field(default=2, ge=1)
    keep_best: bool = False
    accumulate: int = Field(default=1, ge=1)
    gradient_checkpointing: bool = False
    zero: Literal[0, 1, 2, 3] = 0
    divergence: DivergenceConfig = DivergenceConfig()
    output: Path
    checkpoint: Path | None = None
    stage: SerializeAsAny[StageConfig]

    @property
    def checkpoint_folder(self) -> Path:
        """Where the trained networks go."""
        return self.checkpoint if self.checkpoint is not None else self.output / "checkpoint"


def load_config(path: Path, overrides: Sequence[str] = ()) -> TrainConfig:
    """Reads a training YAML.

    Args:
        path: the file. Relative paths in it are relative to the working directory.
        overrides: "a.b=value", the value read as YAML; each replaces or adds one key.

    Raises:
        InputError: the file is missing or is not YAML, a key is unknown (the nearest known one is named), or a value is
            wrong or missing.
    """
    path = find_config(path, "train_configs")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            code="config_unreadable", message=f"{path} cannot be read: {error.strerror}", remedy="Give a training YAML."
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            code="config_not_yaml", message=f"{path} is not YAML: {reason}", remedy="Mend that line."
        ) from error
    if not isinstance(values, dict):
        raise InputError(
            code="config_not_yaml",
            message=f"{path} holds no keys",
            remedy="Start from a file in train_configs/.",
        )
    for override in overrides:
        _apply(values, override)
    return parse_config(values, source=str(path))


def parse_config(values: dict[str, object], source: str) -> TrainConfig:
    """Validates the mapping that a training YAML holds.

    Args:
        values: as read; not changed.
        source: what errors call it, usually the file's path.

    Raises:
        InputError: as for `load_config`.
    """
    name = values.get("name")
    if name not in STAGE_NAMES:
        raise InputError(
            code="config_invalid",
            message=f"{source}: name is {name!r}, which is no stage" if name else f"{source}: name is missing",
            remedy=_nearest(str(name), STAGE_NAMES) or f"The stages are {', '.join(STAGE_NAMES)}.",
        )
    config_class = stage_class(str(name)).config_class
    section = values.get("stage")
    try:
        stage = config_class.model_validate({} if section is None else section)
    except ValidationError as error:
        raise _input_error(error, config_class, source, prefix=("stage",)) from error
    try:
        return TrainConfig.model_validate(values | {"stage": stage})
    except ValidationError as error:
        raise _input_error(error, TrainConfig, source) from error


def _apply(values: dict[str, object], override: str) -> None:
    """Writes "a.b=value" into nested mappings."""
    dotted, equals, text = override.partition("=")
    keys = dotted.strip().split(".")
    if not equals or not all(keys):
        raise InputError(
            code="override_invalid",
            message=f"{override!r} is not an override",
            remedy="Write it as key.key=value, for example optimizer.learning_rate=0.001.",
        )
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(
            code="override_invalid", message=f"the value of {override!r} is not YAML", remedy="Quote it."
        ) from error
    for depth, key in enumerate(keys[:-1], start=1):
        if values.get(key) is None:
            values[key] = {}
        section = values[key]
        if not isinstance(section, dict):
            raise InputError(
                code="override_invalid",
                message=f"{override!r} goes inside {'.'.join(keys[:depth])}, which is a value and has no keys",
                remedy="Override that key itself.",
            )
        values = section
    values[keys[-1]] = value


def _input_error(
    error: ValidationError, model: type[BaseModel], source: str, prefix: tuple[str, ...] = ()
) -> InputError:
    """A ValidationError in one sentence, and the nearest right keys as the remedy."""
    messages, remedies = [], []
    for detail in error.errors():
        location = detail["loc"]
        dotted = ".".join(str(part) for part in (*prefix, *location)) or "the file"
        match detail["type"]:
            case "extra_forbidden":
                messages.append(f"{dotted} is not a known key")
                known = _known_keys(model, location[:-1])
                parent = ".".join(str(part) for part in (*prefix, *location[:-1])) or "the file"
                remedies.append(_nearest(str(location[-1]), known) or f"The keys of {parent} are {', '.join(known)}.")
            case "missing":
                messages.append(f"{dotted} is missing")
                remedies.append(f"Set {dotted}.")
            case _:
                messages.append(f"{dotted} is {detail['input']!r}: {_lower_first(detail['msg'])}")
                remedies.append(f"Change {dotted}.")
    return InputError(
        code="config_invalid", message=f"{source}: {'; '.join(messages)}", remedy=" ".join(dict.fromkeys(remedies))
    )


def _known_keys(model: type[BaseModel], location: Sequence[int | str]) -> tuple[str, ...]:
    """The keys of the nested model that a location of pydantic's leads to; none if it leads elsewhere."""
    for part in location:
        field = model.model_fields.get(str(part))
        candidates = [] if field is None else [field.annotation, *typing.get_args(field.annotation)]
        nested = [c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)]
        if not nested:
            return ()
        model = nested[0]
    return tuple(model.model_fields)


def _nearest(wrong: str, known: Sequence[str]) -> str:
    """A sentence that proposes the known word most like a wrong one; empty if none is near."""
    near = difflib.get_close_matches(wrong, known, n=1)
    return f"Did you mean {near[0]}?" if near else ""


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]
