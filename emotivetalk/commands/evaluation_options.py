"""Options that `evaluate` and `ablate` share."""

from pathlib import Path
from typing import Annotated

import typer

Corpus = Annotated[Path, typer.Option(help="A corpus with held-out people, from `emotivetalk synthesize`.")]
Reader = Annotated[Path | None, typer.Option(help="The network that reads the frames; without it, the one that ships.")]
Steps = Annotated[int | None, typer.Option(min=1, max=1000, help="Denoising steps [default: the checkpoint's].")]
Seed = Annotated[int, typer.Option(min=0, help="Draws the noise.")]
Checkpoint = Annotated[
    Path | None, typer.Argument(help="A checkpoint folder; without it, the starter that ships with the project.")
]
DEFAULT_CORPUS = Path("build/corpus/starter")
