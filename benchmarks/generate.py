"""How fast the shipped checkpoint turns a portrait and speech into video on this machine: `make bench`.

Three tables: the command from a cold start; the loaded pipeline and where its time goes; and clips of doubling length,
each in a process of its own, whose time may at most double and whose memory must stay flat. Compare rows of one run.
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

PORTRAIT, SPEECH, OUTPUT = Path("examples/portrait.png"), Path("examples/hello.wav"), Path("build/bench")
LENGTHS_S = (5, 10, 20, 40)


def main() -> None:
    """Print the tables in Markdown."""
    import torch

    from media.checkpoints import checkpoint_id, find_checkpoint

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
    took = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
    print("| video | wall | peak memory |\n|---|---|---|")
    print(f"| {_seconds(SPEECH):.1f} s | {took:.1f} s | {peak:.2f} GB |\n")


def _loaded() -> None:
    """Frames per second once loaded, by part, with 2, 3 and 4 steps; the first pass warms up and is not shown."""
    import torch

    from emotivetalk.pictures import to_tensor
    from media.audio import load_speech
    from media.checkpoints import find_checkpoint
    from media.faces import choose_face, crop_portrait
    from media.image import load_image
    from media.mux import VideoWriter
    from models.autoencoder import LatentCodec
    from models.emotion import EmotionLabel
    from models.pipeline import load_pipeline

    pipeline = load_pipeline(find_checkpoint(None))
    picture, speech = load_image(PORTRAIT), load_speech(SPEECH)
    portrait = to_tensor(crop_portrait(picture, choose_face(picture, None, "portrait"), pipeline.image_size).image)
    waveform = torch.from_numpy(speech.waveform)

    def run(num_steps: int) -> dict[str, float]:
        times = {}
        mark = time.perf_counter()

        def lap(name: str) -> None:
            nonlocal mark
            now = time.perf_counter()
            times[name], mark = times.get(name, 0.0) + now - mark, now

        performance = pipeline.perform(portrait, waveform, EmotionLabel("happy"))
        lap("V-AID")
        latents = torch.cat(list(pipeline.render_latents(performance, num_steps=num_steps)))
        lap("ETHD")
        codec, dtype = LatentCodec(pipeline.vae), pipeline.vae.dtype
        frames = []
        with torch.no_grad():
            seen = codec.portrait(portrait[None].to(dtype).contiguous(memory_format=torch.channels_last))
            for part in latents.to(dtype).split(8):
                images = codec.decode(part.contiguous(memory_format=torch.channels_last), seen).float()
                frames.append(((images + 1) * 127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy())
        lap("decoder")
        side = pipeline.image_size
        with VideoWriter(OUTPUT / "loaded.mp4", side, side, waveform=speech.waveform, metadata={}) as writer:
            for batch in frames:
                writer.write(batch)
        lap("H.264 and AAC")
        return times

    run(2)
    print("## Once loaded: frames per second, by part and end to end\n")
    num_frames = -(-len(waveform) // 640)
    names = ("V-AID", "ETHD", "decoder", "H.264 and AAC")
    print(f"| steps | {' | '.join(names)} | end to end |\n|---|---|---|---|---|---|")
    for num_steps in (2, 3, 4):
        times = run(num_steps)
        cells = [f"{num_frames / times[name]:.0f}" for name in names]
        print(f"| {num_steps} | {' | '.join(cells)} | {num_frames / sum(times.values()):.1f} |")
    print()


def _doubling() -> None:
    print("## Twice as long: time once loaded, and peak memory, each in a new process\n")
    print("| video | generating | times the row above | peak memory |\n|---|---|---|---|")
    before = None
    for length_s in LENGTHS_S:
        code = f"from benchmarks.generate import one_length; one_length({length_s})"
        done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
        took, peak = (float(word) for word in done.stdout.split()[-2:])
        ratio = "" if before is None else f"{took / before:.2f}"
        print(f"| {length_s} s | {took:.1f} s | {ratio} | {peak:.2f} GB |")
        before = took
    print()


def one_length(length_s: int) -> None:
    """Print the seconds that a clip of this length takes once loaded, and the process's peak memory in GB."""
    import soundfile

    from emotivetalk.emotion_options import EmotionOptions
    from emotivetalk.generation import Request, generate_video
    from media.checkpoints import find_checkpoint

    samples, rate = soundfile.read(SPEECH, dtype="float32")
    path = OUTPUT / f"speech_{length_s}.wav"
    soundfile.write(path, np.resize(samples, length_s * rate), rate)
    took = generate_video(
        Request(PORTRAIT, path, OUTPUT / f"long_{length_s}.mp4", find_checkpoint(None), EmotionOptions(label="happy"))
    )
    print(took.total_s - took.load_s, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6)


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
