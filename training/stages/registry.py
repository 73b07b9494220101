"""The stages by name, in the order in which a checkpoint is trained; a stage's module is imported on demand."""

from __future__ import annotations

from emotivetalk.training.stages.stage import Stage

STAGE_NAMES = (
    *("autoencoder", "lip_sync", "expression", "photograph_encoders", "audio_encoder", "emotion_sources"),
    *("vaid", "projector", "ethd", "reader"),
)


def stage_class(name: str) -> type[Stage]:
    """Import a stage's module and return the stage's class.

    Raises:
        ValueError: there is no stage of that name.
    """
    match name:
        case "autoencoder":
            from emotivetalk.training.stages.autoencoder import AutoencoderStage

            return AutoencoderStage
        case "lip_sync":
            from emotivetalk.training.stages.lip_sync import LipSyncStage

            return LipSyncStage
        case "expression":
            from emotivetalk.training.stages.expression import ExpressionStage

            return ExpressionStage
        case "photograph_encoders":
            from emotivetalk.training.stages.photograph_encoders import PhotographEncodersStage

            return PhotographEncodersStage
        case "audio_encoder":
            from emotivetalk.training.stages.audio_encoder import AudioEncoderStage

            return AudioEncoderStage
        case "emotion_sources":
            from emotivetalk.training.stages.emotion_sources import EmotionSourcesStage

            return EmotionSourcesStage
        case "vaid":
            from emotivetalk.training.stages.vaid import VAIDStage

            return VAIDStage
        case "projector":
            from emotivetalk.training.stages.projector import ProjectorStage

            return ProjectorStage
        case "ethd":
            from emotivetalk.training.stages.ethd import ETHDStage

            return ETHDStage
        case "reader":
            from emotivetalk.training.stages.reader import ReaderStage

            return ReaderStage
        case _:
            raise ValueError(f"there is no stage {name!r}; the stages are {', '.join(STAGE_NAMES)}")
