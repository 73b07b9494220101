"""What workers must agree on. One that gives up alone would leave the others waiting for it in a collective."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch.distributed as dist

from emotivetalk.errors import EmotiveTalkError

ResultT = TypeVar("ResultT")


class AgreedError(Exception):
    """Every worker raises this at the same place, so all can end in good order.

    Attributes:
        error: what was wrong, on one worker or on all.
    """

    def __init__(self, error: EmotiveTalkError) -> None:
        super().__init__(str(error))
        self.error = error


def agree(error: EmotiveTalkError | None) -> None:
    """Tells the others whether this worker has failed; all call it, and it holds up each until all have.

    Raises:
        AgreedError: some worker gave an error; of several, the one with the lowest rank is told.
    """
    mine = None if error is None else (type(error), error.code, error.message, error.remedy)
    found: list[tuple[type[EmotiveTalkError], str, str, str] | None] = [None] * dist.get_world_size()
    dist.all_gather_object(found, mine)
    for rank, failure in enumerate(found):
        if failure is not None:
            kind, code, message, remedy = failure
            place = f"worker {rank}: " if dist.get_world_size() > 1 else ""
            raise AgreedError(kind(code, f"{place}{message}", remedy)) from error


def agreed(work: Callable[[], ResultT]) -> ResultT:
    """What the work gives, once no worker's has failed; all call it.

    Raises:
        AgreedError: see `agree`.
    """
    try:
        result = work()
    except EmotiveTalkError as error:
        agree(error)
        raise  # not reached: our own error is one that all are told
    agree(None)
    return result
