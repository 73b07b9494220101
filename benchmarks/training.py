"""What training on workers costs and gains on this machine: `python -m benchmarks.training`.

The same steps of one debug stage in the plain loop, on one worker and on two, with and without loaders, one after the other in
one run: samples per second, and the efficiency against the plain loop. Compare rows of one run only; the plain loop runs
once more at the end, to show how still the machine was. The first steps are not counted.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import statistics
from io import StringIO
from pathlib import Path

OUTPUT = Path("build/bench/training")
CONFIG = Path("train_configs/autoencoder_debug.yaml")
WARM_UP = 5
SETTINGS = (
    "steps=60",
    "batch_size=8",
    "stage.size=128",
    "optimizer.name=adamw",
    "checkpoint_every=null",
    "validate_every=null",
    "threads=1",
)


def main() -> None:
    """Print the table in Markdown."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("RAY_worker_niceness", "0")  # by default workers step back for others, the plain loop doesn't
    import ray
    import torch
    from rich.console import Console

    from actors.training.driver import Launch, train_on_ray
    from training.config import load_config
    from training.loop import train

    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, PyTorch {torch.__version__}")
    print(f"{CONFIG}, {', '.join(SETTINGS)}\n")
    shutil.rmtree(OUTPUT, ignore_errors=True)
    # Workers and loaders together have a CPU each, as far as Ray counts; they share the cores that there are.
    ray.init(num_cpus=max(4, os.cpu_count() or 1), include_dashboard=False, log_to_driver=False)
    console = Console(file=StringIO())
    print(
        "| run | samples/s | seconds per step | data wait | against the plain loop | per worker |\n|---|---|---|---|---|---|"
    )
    plain = None
    for name, workers, loaders, zero in (
        ("plain loop", 0, 0, 0),
        ("1 worker", 1, 0, 0),
        ("1 worker, 1 loader", 1, 1, 0),
        ("2 workers, ZeRO 0", 2, 0, 0),
        ("2 workers, 2 loaders", 2, 2, 0),
        ("2 workers, ZeRO 2", 2, 0, 2),
        ("2 workers, ZeRO 3", 2, 0, 3),
        ("plain loop again", 0, 0, 0),
    ):
        folder = OUTPUT / name.replace(" ", "_").replace(",", "")
        config = load_config(CONFIG, [*SETTINGS, f"zero={zero}", f"output={folder}", f"checkpoint={folder}/checkpoint"])
        if workers:
            train_on_ray(config, Launch(workers, num_loaders=loaders), console=console)
        else:
            torch.set_num_threads(1)
            train(config, console=console)
        steps = [json.loads(line) for line in (folder / "steps.jsonl").read_text().splitlines()][WARM_UP:]
        seconds = statistics.mean(step["seconds"] for step in steps)
        waited = statistics.mean(step["wait_seconds"] for step in steps)
        rate = config.batch_size / seconds
        plain = plain or rate
        print(
            f"| {name} | {rate:.1f} | {seconds:.3f} | {waited:.3f} | {rate / plain:.2f} x | "
            f"{100 * rate / plain / max(workers, 1):.0f} % |",
            flush=True,
        )


if __name__ == "__main__":
    main()
