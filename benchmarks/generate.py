"""How fast the shipped checkpoint turns a portrait and speech into video on this machine: `make bench`.

Reading, generating and writing are one process, as with `emotivetalk generate`. The first row includes what PyTorch
prepares once; compare rows of one run on one machine only.
"""

import os
import platform
from pathlib import Path

import torch

from emotivetalk.checkpoint import checkpoint_id, find_checkpoint
from emotivetalk.emotion_options import EmotionOptions
from emotivetalk.generation import Request, Sampling, generate_video

NUM_STEPS = (4, 2, 4, 10)
OUTPUT = Path("build/bench/generate.mp4")


def main() -> None:
    """Print a table in Markdown."""
    checkpoint = find_checkpoint(None)
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    print(f"{_processor()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, PyTorch {torch.__version__}")
    print(f"checkpoint {checkpoint_id(checkpoint)}, seed 0\n")
    print("| steps | video | first frame | in all | loading | times its length |")
    print("|---|---|---|---|---|---|")
    for num_steps in NUM_STEPS:
        request = Request(
            portrait=Path("examples/portrait.png"),
            audio=Path("examples/hello.wav"),
            output=OUTPUT,
            checkpoint=checkpoint,
            emotion=EmotionOptions(label="happy"),
            sampling=Sampling(seed=0, num_steps=num_steps),
        )
        took = generate_video(request)
        print(
            f"| {num_steps} | {took.video_s:.1f} s | {took.first_frame_s:.1f} s | {took.total_s:.1f} s "
            f"| {took.load_s:.1f} s | {took.realtime_factor:.2f} |"
        )


def _processor() -> str:
    cpu_info = Path("/proc/cpuinfo")
    names = (
        [line for line in cpu_info.read_text().splitlines() if line.startswith("model name")]
        if cpu_info.is_file()
        else []
    )
    return names[0].partition(":")[2].strip() if names else platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
