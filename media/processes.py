"""Processes that work for another one, and do not outlive it."""

from __future__ import annotations

import multiprocessing
import os
import threading


def end_with_parent() -> None:
    """End this process of a pool as soon as the process that started the pool has ended, killed or not.

    Without this the processes of a pool wait for their next task for ever, for each holds the other end of the pipe.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, name="parent", daemon=True).start()
