"""Benchmark of generation with the shipped checkpoint on this machine: `make bench`.

It prints three tables: the command from a cold start; the loaded pipeline, in total and by part; and clips of doubling
length, each in a new process. Time should at most double from row to row, and memory should stay constant. Compare only
rows of one run.
"""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from emotivetalk.timebase import FRAME_RATE_HZ, SAMPLE_RATE_HZ

PORTRAIT, SPEECH, OUTPUT = Path("examples/portrait.png"), Path("examples/hello.wav"), Path("build/bench")
LENGTHS_S = (5, 10, 20, 40)
LOADED_S, NUM_PASSES = 10, 5


def main() -> None:
    """Print the tables in Markdown."""
    import torch

    from emotivetalk.media.checkpoints import checkpoint_id, find_checkpoint

    OUTPUT.mkdir(parents=True, exist_ok=True)
    print(f"{_processor()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, PyTorch {torch.__version__}")
    print(f"checkpoint {checkpoint_id(find_checkpoint(None))}, seed 0\n")
    _cold_start()
    _loaded()
    _doubling()


def _cold_start() -> None:
    print("## `emotivetalk generate`, start-up included\n")
    command = [sys.executable, "-m", "emotivetalk", "generate", "--portrait", str(PORTRAIT), "--audio", str(SPEECH)]
    command += ["--emotion", "happy", "-o", str(OUTPUT / "cold.mp4"), "--overwrite"]
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    duration_s = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
    print("| video | wall | peak memory |\n|---|---|---|")
    print(f"| {_seconds(SPEECH):.1f} s | {duration_s:.1f} s | {peak:.2f} GB |\n")


def _loaded() -> None:
    """Print frames per second of each part, and of pipeline and encoder together over several passes."""
    import torch

    from emotivetalk.media.audio import load_speech
    from emotivetalk.media.checkpoints import find_checkpoint
    from emotivetalk.media.faces import choose_face, crop_portrait
    from emotivetalk.media.image import load_image
    from emotivetalk.media.mux import VideoWriter
    from emotivetalk.models.emotion import EmotionLabel
    from emotivetalk.models.pipeline import load_pipeline
    from emotivetalk.pictures import to_tensor

    pipeline = load_pipeline(find_checkpoint(None))
    side = pipeline.image_size
    picture, speech = load_image(PORTRAIT), load_speech(SPEECH)
    portrait = to_tensor(crop_portrait(picture, choose_face(picture, None, "portrait"), side).image)
    waveform = torch.from_numpy(np.resize(speech.waveform, LOADED_S * SAMPLE_RATE_HZ))
    num_frames = LOADED_S * FRAME_RATE_HZ

    def end_to_end_rate(num_steps: int) -> float:
        start = time.perf_counter()
        with VideoWriter(OUTPUT / "loaded.mp4", side, side, waveform=waveform.numpy(), metadata={}) as writer:
            for pictures in pipeline(portrait, waveform, EmotionLabel("happy"), num_steps=num_steps):
                writer.write(pictures.numpy())
        return num_frames / (time.perf_counter() - start)

    def part_rates(num_steps: int) -> list[float]:
        start = time.perf_counter()
        motion = pipeline.generate_motion(portrait, waveform, EmotionLabel("happy"))
        motion_end = time.perf_counter()
        for _ in pipeline.render_latents(motion, num_steps=num_steps):
            pass
        render_end = time.perf_counter()
        return [num_frames / (motion_end - start), num_frames / (render_end - motion_end)]

    end_to_end_rate(2)
    print(f"## Once loaded: frames per second, {LOADED_S} s of video, {NUM_PASSES} passes\n")
    print("| steps | V-AID alone | ETHD alone | end to end, encoding included: median (lowest to highest) |")
    print("|---|---|---|---|")
    for num_steps in (2, 3, 4):
        parts, passes = part_rates(num_steps), sorted(end_to_end_rate(num_steps) for _ in range(NUM_PASSES))
        cells = [f"{rate:.0f}" for rate in parts]
        cells.append(f"{np.median(passes):.1f} ({passes[0]:.1f} to {passes[-1]:.1f})")
        print(f"| {num_steps} | {' | '.join(cells)} |")
    print()


def _doubling() -> None:
    print("## Doubling length: time once loaded, and peak memory, each in a new process\n")
    print("| video | generating | ratio to the row above | peak memory |\n|---|---|---|---|")
    before = None
    for length_s in LENGTHS_S:
        code = f"from benchmarks.generate import one_length; one_length({length_s})"
        done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
        duration_s, peak = (float(word) for word in done.stdout.split()[-2:])
        ratio = "" if before is None else f"{duration_s / before:.2f}"
        print(f"| {length_s} s | {duration_s:.1f} s | {ratio} | {peak:.2f} GB |")
        before = duration_s
    print()


def one_length(length_s: int) -> None:
    """Print the seconds for a clip of this length without loading, and the process's peak memory in GB."""
    import soundfile

    from emotivetalk.generation import Inputs, generate_video
    from emotivetalk.media.checkpoints import find_checkpoint
    from emotivetalk.request import parse_label

    samples, rate = soundfile.read(SPEECH, dtype="float32")
    path = OUTPUT / f"speech_{length_s}.wav"
    soundfile.write(path, np.resize(samples, length_s * rate), rate)
    inputs = Inputs(PORTRAIT, path, parse_label("happy"))
    result = generate_video(inputs, OUTPUT / f"long_{length_s}.mp4", find_checkpoint(None))
    print(result.total_s - result.load_s, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6)


def _seconds(path: Path) -> float:
    import soundfile

    return soundfile.info(path).duration


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
