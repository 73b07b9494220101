"""Ablations as data: the part that is removed, the stages that are trained again, and the figures that show it (ours).

An ablation combines up to three kinds of change: `settings` of the pipeline, such as the fusion of chunks;
`disabled_part`, a part that is switched off in a checkpoint that was trained with it; and `trains`, stages that
`training/ablation.py` trains again from the other stages' networks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Literal

import torch

from emotivetalk.errors import InputError
from emotivetalk.evaluation.cases import EvaluationCase
from emotivetalk.evaluation.measurements import MotionSource
from emotivetalk.evaluation.settings import EvaluationSettings
from emotivetalk.models.edi import EDI
from emotivetalk.models.emotion import EmotionSpeech, EmotionTrack, EmotionVideo
from emotivetalk.models.pipeline import EmotiveTalkPipeline, MotionSequence

DisabledPart = Literal["edi", "dicte", "vaid"]


@dataclass(frozen=True)
class RetrainedStage:
    """A stage that is trained again with overrides of `train_configs/<stage>_<size>.yaml`.

    Attributes:
        stage: name of the stage.
        change: overrides that make the ablation.
        always: overrides that the control needs too, such as the folder of an earlier stage, {folder}/...
        into: folder for the networks. "checkpoint" is measured; later stages read the others.
    """

    stage: str
    change: tuple[str, ...]
    always: tuple[str, ...] = ()
    into: str = "checkpoint"


@dataclass(frozen=True)
class Ablation:
    """A change of the model whose effect on some figures is measured.

    Attributes:
        name: name on the command line.
        title: description of the change.
        figure_keys: keys of the figures to measure, or prefixes of keys.
        disabled_part: part that is switched off at inference.
        settings: overrides of the pipeline's settings (`model_index.json`).
        trains: stages to train again, in order.
    """

    name: str
    title: str
    figure_keys: tuple[str, ...]
    disabled_part: DisabledPart | None = None
    settings: Mapping[str, object] = field(default_factory=dict)
    trains: tuple[RetrainedStage, ...] = ()


def _ethd(*change: str) -> tuple[RetrainedStage, ...]:
    """Return ETHD's two stages, as the starter trained them: images, then video."""
    return (
        RetrainedStage("ethd_images", change, into="images"),
        RetrainedStage("ethd", change, always=("stage.initial={folder}/images",)),
    )


_LIPS, _EMOTION = ("mouth_r.held_out", "mouth_r.swapped"), ("emotion.label", "emotion.copied")

ABLATIONS: tuple[Ablation, ...] = (
    Ablation(
        "no-vaid",
        "without V-AID: audio features straight into ETHD, end to end",
        (*_LIPS, *_EMOTION),
        disabled_part="vaid",
        trains=_ethd("stage.lips=audio_features", "stage.other_voices=false"),
    ),
    Ablation(
        "no-push-loss",
        "without the push loss between lip and expression latents",
        ("retrieval", "decoupling.", *_LIPS, *_EMOTION),
        trains=(RetrainedStage("vaid", ("stage.push_weight=0",)),),
    ),
    Ablation("no-edi", "without EDI", (*_EMOTION, *_LIPS), disabled_part="edi"),
    Ablation(
        "no-dicte",
        "without Di-CTE: the utterance vector held constant",
        ("motion.", *_EMOTION, *_LIPS),
        disabled_part="dicte",
    ),
    Ablation(
        "separate-edi-weights",
        "EDI's two cross-attentions with weights of their own",
        (*_EMOTION, *_LIPS, "driven.", "edi."),
        trains=_ethd("stage.edi_shares_weights=false"),
    ),
    Ablation("shift-fusion", "chunks joined by shift", ("long.", *_LIPS), settings={"fusion": "shift"}),
    Ablation("overlap-fusion", "chunks joined by overlap", ("long.", *_LIPS), settings={"fusion": "overlap"}),
)

_SETTINGS_BY_FIGURE = {
    "mouth_r.held_out": ("audio_clips",),
    "mouth_r.swapped": ("label_clips",),
    "mouth_r.foreign": ("foreign_clips",),
    "emotion.": ("label_clips",),
    "motion.": ("label_clips", "motion_clips"),
    "edi.": ("label_clips", "edi_clips"),
    "retrieval": ("latent_clips",),
    "decoupling.": ("latent_clips",),
    "driven.": ("driven_clips",),
    "long.": ("long_s", "long_clips"),
}
"""Settings that a figure needs, by prefix of its key."""


def find_ablation(name: str) -> Ablation:
    """Return the ablation with this name.

    Raises:
        InputError: the name is unknown.
    """
    by_name = {ablation.name: ablation for ablation in ABLATIONS}
    if name not in by_name:
        raise InputError("ablation_unknown", f"there is no ablation '{name}'", f"Choose one of {', '.join(by_name)}.")
    return by_name[name]


def control_of(ablation: Ablation) -> Ablation:
    """Return the control of an ablation: the same training without the change.

    Compare with the control when the ablation's training is shorter than the checkpoint's own.

    Raises:
        InputError: the ablation trains nothing, so the checkpoint itself is the control.
    """
    if not ablation.trains:
        raise InputError(
            "ablation_untrained",
            f"{ablation.name} trains nothing, so the checkpoint itself is its control",
            "Compare with the report of `emotivetalk evaluate`.",
        )
    stages = tuple(replace(stage, change=()) for stage in ablation.trains)
    title = f"nothing removed: the control of {ablation.name}"
    return replace(
        ablation, name=f"{ablation.name}-control", title=title, disabled_part=None, settings={}, trains=stages
    )


def settings_of(ablation: Ablation, settings: EvaluationSettings) -> EvaluationSettings:
    """Return the settings with all parts switched off that the ablation's figures do not need."""
    parts = {name for name in EvaluationSettings.model_fields if name.endswith("_clips")} | {"still_frames", "long_s"}
    needed = {
        part
        for key in ablation.figure_keys
        for prefix, names in _SETTINGS_BY_FIGURE.items()
        if key.startswith(prefix) or prefix.startswith(key)
        for part in names
    }
    return settings.model_copy(update=dict.fromkeys(parts - needed, 0))


@contextmanager
def apply_ablation(ablation: Ablation, pipeline: EmotiveTalkPipeline) -> Iterator[MotionSource | None]:
    """Apply an ablation to the pipeline within the block; yield the replacement of V-AID, if it needs one.

    Raises:
        InputError: the pipeline has the ablation's settings already.
    """
    before = {name: pipeline.config[name] for name in ablation.settings}
    if ablation.settings and before == dict(ablation.settings):
        unchanged = ", ".join(f"{name}: {value}" for name, value in before.items())
        raise InputError(
            "ablation_idle",
            f"{ablation.name} changes nothing: the checkpoint has {unchanged} already",
            "Choose another ablation.",
        )
    pipeline.register_to_config(**ablation.settings)
    try:
        if ablation.disabled_part == "edi":
            with disable_edi(pipeline):
                yield None
        else:
            yield {"dicte": constant_expression, "vaid": audio_features_as_lips, None: None}[ablation.disabled_part]
    finally:
        pipeline.register_to_config(**before)


def has_edi(pipeline: EmotiveTalkPipeline) -> bool:
    """Return True if ETHD has EDI layers."""
    return any(isinstance(module, EDI) for module in pipeline.ethd.modules())


@contextmanager
def disable_edi(pipeline: EmotiveTalkPipeline) -> Iterator[None]:
    """Make EDI's layers return their input within the block."""

    def identity(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
        return inputs[0]

    hooks = [m.register_forward_hook(identity) for m in pipeline.ethd.modules() if isinstance(m, EDI)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@torch.no_grad()
def constant_expression(pipeline: EmotiveTalkPipeline, case: EvaluationCase, seed: int) -> MotionSequence:
    """Generate lips as usual, and replace Di-CTE's expression sequence by the mapped utterance vector in every frame.

    The keys of a track fade into each other as commanded. Expressions from a video stay, as Di-CTE does not make them.
    """
    emotion = case.emotion
    motion = pipeline.generate_motion(case.portrait, case.waveform, emotion, seed=seed)
    if isinstance(emotion, EmotionVideo):
        return motion
    conditions = pipeline.motion_generator.prepare(case.portrait, emotion)
    if isinstance(emotion, EmotionTrack):
        constant = pipeline.emotion_mapping.track(emotion, conditions.keys, len(motion.lip))
    elif isinstance(emotion, EmotionSpeech):
        constant = pipeline.emotion_mapping.speech(case.waveform[None]).expand_as(motion.expression)
    else:
        vector = conditions.expression_reference[None] if emotion is None else conditions.keys
        constant = vector.expand_as(motion.expression)
    return MotionSequence(case.portrait, motion.lip, constant.float(), conditions.expression_reference)


@torch.no_grad()
def audio_features_as_lips(pipeline: EmotiveTalkPipeline, case: EvaluationCase, seed: int) -> MotionSequence:
    """Use the audio encoder's features as lip latents, and the portrait's expression in every frame.

    Raises:
        InputError: ETHD was trained on lip latents of another size.
    """
    features = pipeline.audio_encoder(case.waveform[None])[0].float()
    dim_lip = pipeline.ethd.config["dim_lip"]
    if features.shape[1] != dim_lip:
        raise InputError(
            "ablation_untrained",
            f"this ETHD takes lip latents of size {dim_lip}, and audio features have size {features.shape[1]}",
            "Train an ETHD on audio features with `emotivetalk ablate no-vaid`.",
        )
    reference = pipeline.motion_generator.prepare(case.portrait, None).expression_reference
    return MotionSequence(case.portrait, features, reference.expand(len(features), -1), reference)
