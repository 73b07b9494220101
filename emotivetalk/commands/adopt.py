"""`emotivetalk adopt`: copy Stable Video Diffusion's VAE and wav2vec 2.0 into a checkpoint folder for training."""

from pathlib import Path
from typing import Annotated

import typer

from emotivetalk.errors import InputError
from emotivetalk.output import say


def adopt(
    output: Annotated[Path, typer.Option("-o", "--output", help="Checkpoint folder of the training stages.")],
    stable_video_diffusion: Annotated[
        Path | None, typer.Option(help="Folder of Stable Video Diffusion in diffusers' layout; its VAE is copied.")
    ] = None,
    wav2vec2: Annotated[
        Path | None, typer.Option(help="Folder of wav2vec 2.0 in transformers' layout, base or large.")
    ] = None,
) -> None:
    """Replace the small networks of a checkpoint by pretrained ones, for training at full size.

    The weights are read from disk. Stable Video Diffusion's U-Net needs no command: name its folder as `stage.initial` of
    the stage ethd.

    \b
    Example:
      emotivetalk adopt --stable-video-diffusion weights/svd --wav2vec2 weights/wav2vec2 -o build/checkpoints/full
    """
    if stable_video_diffusion is None and wav2vec2 is None:
        raise InputError(
            "nothing_to_adopt", "there is nothing to adopt", "Give --stable-video-diffusion or --wav2vec2, or both."
        )
    from emotivetalk.training.checkpoints.adopt import adopt_audio_encoder, adopt_vae

    if stable_video_diffusion is not None:
        say(adopt_vae(stable_video_diffusion, output))
    if wav2vec2 is not None:
        say(adopt_audio_encoder(wav2vec2, output))
