"""Benchmark of training on workers on this machine: `python -m benchmarks.training`.

Each round trains the same steps of the starter's ETHD on a few synthetic clips in the plain loop, on one worker and on
two. The table shows samples per second of the median step, and the median ratio to the plain loop of the same round. Only
rounds of one run are comparable; their spread shows the load of the machine. The first steps do not count.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
from io import StringIO
from pathlib import Path

OUTPUT = Path("build/bench/training")
CONFIG = Path("train_configs/ethd_starter.yaml")
NUM_WARM_UP_STEPS = 3
SETTINGS = (
    "optimizer.name=adamw",  # available in every ZeRO stage
    "optimizer.warmup_steps=1",
    "checkpoint_every=null",
    "validate_every=null",
    "preview_every=null",
    "threads=1",
    "stage.checkpoint=checkpoints/starter",
    "stage.initial=null",
    f"stage.corpus={OUTPUT}/corpus",
    f"stage.cache={OUTPUT}/latents",
)
RUNS = (
    # name, workers, loaders, ZeRO stage
    ("plain loop", 0, 0, 0),
    ("1 worker", 1, 0, 0),
    ("2 workers, ZeRO 0", 2, 0, 0),
    ("2 workers, ZeRO 2", 2, 0, 2),
    ("2 workers, ZeRO 3", 2, 0, 3),
    ("2 workers, 2 loaders", 2, 2, 0),
)


def main() -> None:
    """Print the table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=20)
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("RAY_worker_niceness", "0")  # the plain loop has niceness 0 too
    import ray
    import torch

    from emotivetalk.corpus.synthesize import synthesize

    settings = [*SETTINGS, f"steps={arguments.steps}"]
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, PyTorch {torch.__version__}")
    print(f"{CONFIG}, {', '.join(settings)}\n")
    shutil.rmtree(OUTPUT, ignore_errors=True)
    synthesize(OUTPUT / "corpus", 8, 2, num_held_out=1)
    # Ray reserves a CPU for each worker and loader; they share the actual cores.
    ray.init(num_cpus=max(4, os.cpu_count() or 1), include_dashboard=False, log_to_driver=False)
    rates: dict[str, list[float]] = {name: [] for name, *_ in RUNS}
    waits: dict[str, list[float]] = {name: [] for name, *_ in RUNS}
    for number in range(arguments.rounds):
        for name, workers, loaders, zero in RUNS:
            rate, waited = _run(settings, workers, loaders, zero)
            rates[name].append(rate)
            waits[name].append(waited)
            print(f"round {number + 1}, {name}: {rate:.2f} samples/s", flush=True)
    print(
        "\n| run | samples/s | data wait, s | ratio to the plain loop | efficiency of each worker |\n|---|---|---|---|---|"
    )
    for name, workers, *_ in RUNS:
        ratios = [rate / plain for rate, plain in zip(rates[name], rates["plain loop"], strict=True)]
        median_ratio = statistics.median(ratios)
        print(
            f"| {name} | {statistics.median(rates[name]):.2f} | {statistics.median(waits[name]):.3f} | "
            f"**{median_ratio:.2f}** ({min(ratios):.2f} to {max(ratios):.2f}) | {100 * median_ratio / max(workers, 1):.0f} % |"
        )


def _run(settings: list[str], workers: int, loaders: int, zero: int) -> tuple[float, float]:
    """Return samples per second and the seconds of waiting for data, both of the median step."""
    import torch
    from rich.console import Console

    from emotivetalk.actors.training.driver import Launch, train_on_ray
    from emotivetalk.training.run.config import load_config
    from emotivetalk.training.run.loop import train

    folder = OUTPUT / "run"
    shutil.rmtree(folder, ignore_errors=True)
    config = load_config(CONFIG, [*settings, f"zero={zero}", f"output={folder}", f"checkpoint={folder}/checkpoint"])
    console = Console(file=StringIO())
    if workers:
        train_on_ray(config, Launch(workers, num_loaders=loaders), console=console)
    else:
        torch.set_num_threads(1)
        train(config, console=console)
    steps = [json.loads(line) for line in (folder / "steps.jsonl").read_text().splitlines()][NUM_WARM_UP_STEPS:]
    seconds = statistics.median(step["seconds"] for step in steps)
    return config.batch_size / seconds, statistics.median(step["wait_seconds"] for step in steps)


if __name__ == "__main__":
    main()
