"""Processes that work for another one, and do not outlive it."""

from __future__ import annotations

import multiprocessing
import os
import threading


def end_with_parent() -> None:
    """In a process of a pool: end as soon as the one that started the pool has, killed or not.

    Without this the processes of a pool wait for their next task for ever, for each holds the other end of the pipe.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, name="parent", daemon=True).start()
