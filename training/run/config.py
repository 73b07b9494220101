"""Configuration of a training run: one validated, immutable object, read from a YAML file."""

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
    """Everything that determines a run, except the machine.

    Args:
        name: name of the stage (`emotivetalk.training.stages.registry.STAGE_NAMES`).
        seed: seed of the initial weights and of every sample.
        steps, batch_size: number of updates, and of samples in each over all workers.
        optimizer: see `OptimizerConfig`.
        ema_decay: decay of the averaged weights, which are validated and saved (null: the trained weights are).
        precision: "bf16" computes the loss under autocast where the device has bfloat16; weights and optimisers stay in
            float32. "fp32" uses float32 throughout.
        device: "cpu" or "cuda".
        threads: torch's threads on the CPU (null: torch's choice).
        prefetch: make the next batch in a background thread.
        validate_every, preview_every: interval in steps; the last step is always included (null: never).
        checkpoint_every: steps between training checkpoints (null: only after the last step).
        keep: number of most recent training checkpoints to keep.
        keep_best: also keep the checkpoint with the lowest mean loss since its predecessor.
        accumulate: micro-batches per update and worker; more of them need less memory.
        gradient_checkpointing: recompute activations in the backward pass instead of storing them: less memory, more time,
            the same losses. It is an error for a stage whose networks do not support it; ETHD does.
        zero: ZeRO stage, what DeepSpeed partitions among the workers: 0 nothing, 1 optimiser state, 2 also gradients, 3 also
            weights. A run in one process without workers supports 0 only.
        divergence: reaction to losses and gradients that are not finite, and to loss spikes.
        output: folder of the run.
        checkpoint: folder in diffusers' layout for the trained networks (null: `checkpoint` in `output`).
        stage: settings of the stage, an instance of its `config_class`.
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
        """Folder for the trained networks."""
        return self.checkpoint if self.checkpoint is not None else self.output / "checkpoint"


def load_config(path: Path, overrides: Sequence[str] = ()) -> TrainConfig:
    """Read a training YAML.

    Args:
        path: the file; paths in it are relative to the working directory.
        overrides: items "a.b=value", whose value is parsed as YAML; each replaces or adds one key.

    Raises:
        InputError: the file is missing or not YAML, a key is unknown (the error names the most similar one), or a value is
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
            code="config_not_yaml", message=f"{path} is not YAML: {reason}", remedy="Correct that line."
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
    """Validate the content of a training YAML.

    Args:
        values: the parsed YAML; it is not changed.
        source: name of the source for error messages, usually the file's path.

    Raises:
        InputError: see `load_config`.
    """
    name = values.get("name")
    if name not in STAGE_NAMES:
        raise InputError(
            code="config_invalid",
            message=f"{source}: name is {name!r}, which is not a stage" if name else f"{source}: name is missing",
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
    """Write an override "a.b=value" into nested mappings."""
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
                message=f"{override!r} sets a key inside {'.'.join(keys[:depth])}, which is a value and has no keys",
                remedy="Override that key itself.",
            )
        values = section
    values[keys[-1]] = value


def _input_error(
    error: ValidationError, model: type[BaseModel], source: str, prefix: tuple[str, ...] = ()
) -> InputError:
    """Convert a ValidationError to one sentence, with the most similar keys as the remedy."""
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
    """Return the keys of the nested model at a pydantic location; none if there is no model."""
    for part in location:
        field = model.model_fields.get(str(part))
        candidates = [] if field is None else [field.annotation, *typing.get_args(field.annotation)]
        nested = [c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)]
        if not nested:
            return ()
        model = nested[0]
    return tuple(model.model_fields)


def _nearest(wrong: str, known: Sequence[str]) -> str:
    """Suggest the known word most similar to a wrong one, in a sentence; empty if none is similar."""
    matches = difflib.get_close_matches(wrong, known, n=1)
    return f"Did you mean {matches[0]}?" if matches else ""


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]
