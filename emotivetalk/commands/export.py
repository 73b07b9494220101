"""`emotivetalk export`: make a checkpoint for generating from the networks that the training stages wrote."""

from pathlib import Path
from typing import Annotated

import typer

from emotivetalk.output import say


def export(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="Folder that the training stages wrote to.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Checkpoint to write; an existing one is replaced.")],
    trained_on: Annotated[
        str, typer.Option(help="Description of the training data, shown when generating.")
    ] = "drawn avatars only",
    image_size: Annotated[int, typer.Option(min=64, help="Side of the training pictures, pixels.")] = 256,
    chunk_frames: Annotated[int, typer.Option(min=2, help="Frames of ETHD's training windows.")] = 12,
    num_steps: Annotated[int, typer.Option(min=1, max=50, help="Denoising steps of ETHD.")] = 3,
    noise_scale: Annotated[float, typer.Option(min=0.0, max=1.0, help="Scale of the noise at the first step.")] = 0.5,
    expression_guidance: Annotated[
        float, typer.Option(min=0.0, max=4.0, help="Guidance of Di-CTE at an emotion strength of 1.")
    ] = 2.5,
    expression_guidance_below: Annotated[
        float, typer.Option(min=0.0, help="Noise level below which Di-CTE is guided; sampling starts at 20.")
    ] = 6.0,
) -> None:
    """Write one checkpoint, in half precision, from the networks that the training stages wrote.

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
    say(f"{output}: {size / 1e6:.1f} MB")
