"""`emotivetalk adopt`: Stable Video Diffusion's VAE and wav2vec 2.0 into a checkpoint folder that the stages train on."""

from pathlib import Path
from typing import Annotated

import typer

from emotivetalk.errors import InputError


def adopt(
    output: Annotated[Path, typer.Option("-o", "--output", help="The checkpoint folder of the stages.")],
    stable_video_diffusion: Annotated[
        Path | None, typer.Option(help="Its folder in diffusers' layout; the VAE is taken.")
    ] = None,
    wav2vec2: Annotated[Path | None, typer.Option(help="A folder of transformers, base or large.")] = None,
) -> None:
    """Put networks that others trained in the place of the small ones: the full size.

    The weights come from your disk. Stable Video Diffusion's U-Net needs no adopting: name its folder as `stage.initial` of
    stage ethd.

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
        typer.echo(adopt_vae(stable_video_diffusion, output))
    if wav2vec2 is not None:
        typer.echo(adopt_audio_encoder(wav2vec2, output))
