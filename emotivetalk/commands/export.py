"""`emotivetalk export`: what the stages trained, as a checkpoint that generates."""

from pathlib import Path
from typing import Annotated

import typer


def export(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="The folder that the stages wrote into.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The checkpoint to write; one there is replaced.")],
    trained_on: Annotated[str, typer.Option(help="The data, for whoever generates with it.")] = "drawn avatars only",
    image_size: Annotated[int, typer.Option(min=64, help="Side of the pictures it was trained on, pixels.")] = 256,
    chunk_frames: Annotated[int, typer.Option(min=2, help="Frames of ETHD's training windows.")] = 12,
    num_steps: Annotated[int, typer.Option("--steps", min=1, max=50, help="Of ETHD's sampling.")] = 3,
    noise_scale: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Of the noise that generating begins with.")
    ] = 0.5,
    expression_guidance: Annotated[
        float, typer.Option(min=0.0, max=4.0, help="Di-CTE's guidance at an emotion strength of 1.")
    ] = 2.5,
    expression_guidance_below: Annotated[
        float, typer.Option(min=0.0, help="The noise level from which on Di-CTE is guided; it begins at 20.")
    ] = 6.0,
) -> None:
    """Make one checkpoint, in half precision, of the networks that the stages trained.

    \b
    Example:
      emotivetalk export build/checkpoints/starter -o checkpoints/starter
    """
    from emotivetalk.training.checkpoints.export import export as write

    size = write(
        checkpoint,
        output,
        trained_on,
        image_size,
        chunk_frames,
        num_steps=num_steps,
        noise_scale=noise_scale,
        expression_guidance=expression_guidance,
        expression_guidance_below=expression_guidance_below,
    )
    typer.echo(f"{output}: {size / 1e6:.1f} MB")
