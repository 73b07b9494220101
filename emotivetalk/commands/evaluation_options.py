"""The options that `evaluate` and `ablate` share."""

from pathlib import Path
from typing import Annotated

import typer

from emotivetalk.options import setting_option

CorpusOption = Annotated[Path, typer.Option(help="Corpus with held-out people, from `emotivetalk synthesize`.")]
ReaderOption = Annotated[
    Path | None,
    typer.Option(
        help="Network that reads the frames; by default one for avatars and one for photographs, which ship with the package."
    ),
]
NumStepsOption = Annotated[int | None, setting_option("num_steps")]
SeedOption = Annotated[int, setting_option("seed")]
CheckpointArgument = Annotated[
    Path | None, typer.Argument(help="Checkpoint folder; the default is the starter that ships with the package.")
]
DEFAULT_CORPUS = Path("build/corpus/starter")
