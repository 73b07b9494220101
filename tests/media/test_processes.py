"""Processes of a pool end with their parent, also when it is killed."""

import os
import signal
import subprocess
import sys

from tests.processes import is_running, wait_until

PROGRAM = """
import multiprocessing, os, time
from concurrent.futures import ProcessPoolExecutor
from emotivetalk.media.processes import end_with_parent

if __name__ == "__main__":
    context = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(1, context, initializer=end_with_parent) as workers:
        print(workers.submit(os.getpid).result(), flush=True)
        time.sleep(60)
"""


def test_a_pool_does_not_outlive_a_killed_parent(tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    started = subprocess.Popen(
        [sys.executable, str(tmp_path / "program.py")],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    )
    assert started.stdout is not None
    worker = int(started.stdout.readline())
    assert is_running(worker)
    started.send_signal(signal.SIGKILL)
    started.wait()
    wait_until(lambda: not is_running(worker), timeout_s=20)
