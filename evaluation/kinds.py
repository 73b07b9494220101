"""The kinds of people that an evaluation measures apart (ours). The command line imports this file, so it imports little."""

from typing import Literal, get_args

Kind = Literal["avatars", "photographs"]
KINDS: tuple[Kind, ...] = get_args(Kind)
