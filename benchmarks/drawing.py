"""Measure the frames per second of avatars and photographs on one thread: `python -m benchmarks.drawing FOLDER`.

FOLDER holds portraits with their landmarks (`corpus/portraits.py`). Rounds of both kinds alternate; the table has the
median and the slowest round. The time to make a person is measured separately.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
from pathlib import Path


def main() -> None:
    """Print the table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--frames", type=int, default=64)
    parser.add_argument("--at-once", type=int, default=8)
    parser.add_argument("--size", type=int, default=256)
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"  # before numpy and PyTorch are loaded
    import cv2
    import numpy as np
    import torch

    from emotivetalk.corpus.faces import sample_faces
    from emotivetalk.corpus.person import Avatar, Person
    from emotivetalk.corpus.photo_people import FIRST_PHOTOGRAPH_IDENTITY, open_people

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    people = open_people(arguments.folder)
    faces = sample_faces(arguments.frames, np.random.default_rng(0))
    tracks = [track.split(arguments.at_once) for track in (faces.lip, faces.expression, faces.pose)]

    def frames_per_s(person: Person) -> float:
        start = time.perf_counter()
        for lip, expression, pose in zip(*tracks, strict=True):
            person.frames(lip, expression, pose, arguments.size)
        return arguments.frames / (time.perf_counter() - start)

    speeds: dict[str, list[float]] = {"avatars": [], "photographs": []}
    making = []
    for number in range(arguments.rounds + 1):
        start = time.perf_counter()
        photograph = people.person(FIRST_PHOTOGRAPH_IDENTITY + number)
        made_s = time.perf_counter() - start
        speed = {"avatars": frames_per_s(Avatar.sample(number)), "photographs": frames_per_s(photograph)}
        if number:  # the first round warms up
            making.append(made_s)
            for kind, value in speed.items():
                speeds[kind].append(value)
    print(f"{platform.processor() or platform.machine()}, 1 thread, PyTorch {torch.__version__}, ", end="")
    print(f"{arguments.size} px, {arguments.at_once} frames at once\n")
    print("| | frames/s, median | slowest round |\n|---|---|---|")
    for kind, values in speeds.items():
        print(f"| {kind} | {statistics.median(values):.0f} | {min(values):.0f} |")
    print(f"\nMaking a person of photographs: {statistics.median(making) * 1e3:.0f} ms")


if __name__ == "__main__":
    main()
