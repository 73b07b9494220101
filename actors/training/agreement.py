"""Agreement between workers on errors. A worker that fails alone would leave the others waiting in a collective."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch.distributed as dist

from emotivetalk.errors import EmotiveTalkError

ResultT = TypeVar("ResultT")


class AgreedError(Exception):
    """An error that every worker raises at the same place, so that all end in order.

    Attributes:
        error: the error of one worker or of all.
    """

    def __init__(self, error: EmotiveTalkError) -> None:
        super().__init__(str(error))
        self.error = error


def agree(error: EmotiveTalkError | None) -> None:
    """Exchange errors with the other workers. All workers call it, and it waits for all.

    Raises:
        AgreedError: a worker gave an error. Among several, that of the lowest rank counts.
    """
    own = None if error is None else (type(error), error.code, error.message, error.remedy)
    found: list[tuple[type[EmotiveTalkError], str, str, str] | None] = [None] * dist.get_world_size()
    dist.all_gather_object(found, own)
    for rank, failure in enumerate(found):
        if failure is not None:
            kind, code, message, remedy = failure
            place = f"worker {rank}: " if dist.get_world_size() > 1 else ""
            raise AgreedError(kind(code, f"{place}{message}", remedy)) from error


def agreed(work: Callable[[], ResultT]) -> ResultT:
    """Do the work and return its result if no worker fails. All workers call it.

    Raises:
        AgreedError: see `agree`.
    """
    try:
        result = work()
    except EmotiveTalkError as error:
        agree(error)
        raise  # not reached: `agree` raises for the own error too
    agree(None)
    return result
