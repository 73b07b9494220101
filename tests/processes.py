"""Check for a running process."""

import os
import time


def is_there(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def ends(process: int, within_s: float = 20) -> bool:
    """Waits for it."""
    deadline = time.monotonic() + within_s
    while is_there(process) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not is_there(process)
