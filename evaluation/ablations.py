"""Ablations as data: what is taken away, which stages learn again, and which figures show it (ours).

Three kinds of change meet here. `settings` are the pipeline's own, such as how chunks are joined; `switch` takes a part
out of a checkpoint that was trained with it; `trains` are stages that learn anew from the other stages' networks, by
`training/ablation.py`. An ablation may need one or several.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Literal

import torch

from emotivetalk.errors import InputError
from emotivetalk.evaluation.figures import Settings
from emotivetalk.evaluation.measurements import MotionSource
from emotivetalk.evaluation.test_cases import TestCase
from emotivetalk.models.edi import EDI
from emotivetalk.models.emotion import EmotionSpeech, EmotionTrack, EmotionVideo
from emotivetalk.models.pipeline import EmotiveTalkPipeline, MotionSequence

Switch = Literal["edi", "dicte", "vaid"]


@dataclass(frozen=True)
class Lesson:
    """A stage that is trained again: `train_configs/<stage>_<size>.yaml` with some overrides.

    change: what is ablated.
    always: what its place among the lessons asks for.
    into: which folder gets the networks: "checkpoint" is what is measured; others are for later lessons, which name
        them in `always` as {folder}/...
    """

    stage: str
    change: tuple[str, ...]
    always: tuple[str, ...] = ()
    into: str = "checkpoint"


@dataclass(frozen=True)
class Ablation:
    """One of the table.

    Args:
        name: of the command.
        title: what is different.
        shows: keys of the figures that are to tell, or their beginnings; the others are not measured.
        switch: the part that is taken out at work.
        settings: of the pipeline (`model_index.json`).
        trains: what is trained again, in order.
    """

    name: str
    title: str
    shows: tuple[str, ...]
    switch: Switch | None = None
    settings: Mapping[str, object] = field(default_factory=dict)
    trains: tuple[Lesson, ...] = ()


def _ethd(*change: str) -> tuple[Lesson, ...]:
    """ETHD as the starter learned it: pictures first, then video."""
    return (
        Lesson("ethd_images", change, into="images"),
        Lesson("ethd", change, always=("stage.initial={folder}/images",)),
    )


_LIPS, _EMOTION = ("mouth_r.held_out", "mouth_r.swapped"), ("emotion.label", "emotion.copied")

ABLATIONS: tuple[Ablation, ...] = (
    Ablation(
        "no-vaid",
        "without V-AID: audio features straight into ETHD, end to end",
        (*_LIPS, *_EMOTION),
        switch="vaid",
        trains=_ethd("stage.lips=audio_features", "stage.other_voices=false"),
    ),
    Ablation(
        "no-push-loss",
        "without the push loss between lip and expression latents",
        ("retrieval", "decoupling.", *_LIPS, *_EMOTION),
        trains=(Lesson("vaid", ("stage.push_weight=0",)),),
    ),
    Ablation("no-edi", "without EDI", (*_EMOTION, *_LIPS), switch="edi"),
    Ablation(
        "no-dicte",
        "without Di-CTE: the utterance vector held constant",
        ("motion.", *_EMOTION, *_LIPS),
        switch="dicte",
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

_CLIPS = {
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
"""Which settings make figures, by the beginning of their keys."""


def find_ablation(name: str) -> Ablation:
    """The ablation of a name.

    Raises:
        InputError: there is none.
    """
    found = {ablation.name: ablation for ablation in ABLATIONS}
    if name not in found:
        raise InputError("ablation_unknown", f"there is no ablation '{name}'", f"There are {', '.join(found)}.")
    return found[name]


def control_of(ablation: Ablation) -> Ablation:
    """The same lessons with nothing taken away: what to compare with where they are shorter than the checkpoint's own.

    Raises:
        InputError: the ablation trains nothing, so the checkpoint itself is the control.
    """
    if not ablation.trains:
        raise InputError(
            "ablation_untrained",
            f"{ablation.name} trains nothing, so the checkpoint itself is its control",
            "Compare with the report of `emotivetalk evaluate`.",
        )
    lessons = tuple(replace(lesson, change=()) for lesson in ablation.trains)
    title = f"nothing taken away: the control of {ablation.name}"
    return replace(ablation, name=f"{ablation.name}-control", title=title, switch=None, settings={}, trains=lessons)


def settings_of(ablation: Ablation, settings: Settings) -> Settings:
    """The settings with nothing but what the ablation's figures need."""
    parts = {part for made in _CLIPS.values() for part in made}
    parts |= {"image_clips", "text_clips", "video_clips", "speech_clips", "level_clips", "track_clips", "still_frames"}
    needed = {
        part
        for key in ablation.shows
        for beginning, made in _CLIPS.items()
        if key.startswith(beginning) or beginning.startswith(key)
        for part in made
    }
    return settings.model_copy(update=dict.fromkeys(parts - needed, 0) | {"sample_clips": 0})


@contextmanager
def at_work(ablation: Ablation, pipeline: EmotiveTalkPipeline) -> Iterator[MotionSource | None]:
    """The pipeline without what the ablation takes away, until the end of the block; gives what stands in for V-AID.

    Raises:
        InputError: the ablation asks for what this checkpoint does already.
    """
    before = {name: pipeline.config[name] for name in ablation.settings}
    if ablation.settings and before == dict(ablation.settings):
        said = ", ".join(f"{name}: {value}" for name, value in before.items())
        raise InputError(
            "ablation_idle", f"{ablation.name} changes nothing: the checkpoint has {said}", "Ablate something else."
        )
    pipeline.register_to_config(**ablation.settings)
    try:
        if ablation.switch == "edi":
            with without_edi(pipeline):
                yield None
        else:
            yield {"dicte": held_utterance, "vaid": audio_features, None: None}[ablation.switch]
    finally:
        pipeline.register_to_config(**before)


@contextmanager
def without_edi(pipeline: EmotiveTalkPipeline) -> Iterator[None]:
    """EDI's layers give back what they are given, until the end of the block; step 4 of the blocks goes on."""

    def untouched(module: torch.nn.Module, given: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
        return given[0]

    hooks = [m.register_forward_hook(untouched) for m in pipeline.ethd.modules() if isinstance(m, EDI)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@torch.no_grad()
def held_utterance(pipeline: EmotiveTalkPipeline, case: TestCase, seed: int) -> MotionSequence:
    """Lips as ever; instead of Di-CTE's sequence the mapped utterance source itself, the same for every frame.

    A track's keys fade into each other as commanded; a video brings its own expressions, which Di-CTE never made.
    """
    motion_generator, emotion = pipeline.motion_generator, case.emotion
    made = pipeline.generate_motion(case.portrait, case.waveform, emotion, seed=seed)
    if isinstance(emotion, EmotionVideo):
        return made
    role = motion_generator.prepare(case.portrait, emotion)
    if isinstance(emotion, EmotionTrack):
        held = pipeline.emotion_mapping.track(emotion, role.keys, len(made.lip))
    elif isinstance(emotion, EmotionSpeech):
        held = pipeline.emotion_mapping.speech(case.waveform[None]).expand_as(made.expression)
    else:
        held = (role.expression_reference[None] if emotion is None else role.keys).expand_as(made.expression)
    return MotionSequence(case.portrait, made.lip, held.float(), role.expression_reference)


@torch.no_grad()
def audio_features(pipeline: EmotiveTalkPipeline, case: TestCase, seed: int) -> MotionSequence:
    """The audio encoder's features in the place of lips, and no expression but the portrait's own.

    Raises:
        InputError: ETHD was trained on other lips.
    """
    features = pipeline.audio_encoder(case.waveform[None])[0].float()
    wanted = pipeline.ethd.config["dim_lip"]
    if features.shape[1] != wanted:
        raise InputError(
            "ablation_untrained",
            f"this ETHD takes lips of {wanted} numbers, and audio features have {features.shape[1]}",
            "Train one on them: `emotivetalk ablate no-vaid` does, unless it is told not to.",
        )
    reference = pipeline.motion_generator.prepare(case.portrait, None).expression_reference
    return MotionSequence(case.portrait, features, reference.expand(len(features), -1), reference)
