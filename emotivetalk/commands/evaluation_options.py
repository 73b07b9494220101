"""The options that `evaluate` and `ablate` share."""

from pathlib import Path
from typing import Annotated

import typer

from emotivetalk.options import setting_option

Corpus = Annotated[Path, typer.Option(help="Corpus with held-out people, from `emotivetalk synthesize`.")]
Reader = Annotated[
    Path | None, typer.Option(help="Network that measures the frames; the default ships with the package.")
]
NumSteps = Annotated[int | None, setting_option("num_steps")]
Seed = Annotated[int, setting_option("seed")]
Checkpoint = Annotated[
    Path | None, typer.Argument(help="Checkpoint folder; the default is the starter that ships with the package.")
]
DEFAULT_CORPUS = Path("build/corpus/starter")
