"""`emotivetalk generate`: one portrait, speech and an emotion in; a video out."""

from pathlib import Path
from typing import Annotated

import typer

from emotivetalk.checks import check_output
from emotivetalk.emotion_options import EmotionOptions
from emotivetalk.files import check_readable
from emotivetalk.limits import Limits
from emotivetalk.media.checkpoints import find_checkpoint, trained_on


def generate(
    portrait: Annotated[Path, typer.Option(help="A picture with a face, seen from the front.")],
    audio: Annotated[Path, typer.Option(help="Speech: any audio file, or a video with sound.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The video to write, an MP4.")],
    emotion: Annotated[
        str | None, typer.Option(metavar="NAME[:INTENSITY]", help="A named emotion, such as happy or sad:0.6.")
    ] = None,
    emotion_text: Annotated[str | None, typer.Option(metavar="TEXT", help='In words, such as "Be cheerful".')] = None,
    emotion_image: Annotated[Path | None, typer.Option(help="The expression of a face in a picture.")] = None,
    emotion_video: Annotated[Path | None, typer.Option(help="The expressions of a face in a video.")] = None,
    emotion_track: Annotated[
        Path | None, typer.Option(help='Emotions along time, JSON: [{"time_s": 0, "emotion": "sad"}, ...].')
    ] = None,
    emotion_from_speech: Annotated[
        bool, typer.Option("--emotion-from-speech", help="The emotion that is heard in the speech.")
    ] = False,
    checkpoint: Annotated[
        Path | None, typer.Option(help="A checkpoint folder; without it, the starter that ships with the project.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Same seed and inputs, same video.")] = 0,
    steps: Annotated[
        int | None, typer.Option(min=1, max=1000, help="Denoising steps [default: the checkpoint's].")
    ] = None,
    guidance: Annotated[
        float, typer.Option(min=0, max=10, help="How strongly the emotion shows: 1 as asked, 2 exaggerated.")
    ] = 1.0,
    face: Annotated[
        int | None, typer.Option(min=1, help="Which face, counted from the left, where the portrait shows several.")
    ] = None,
    paste_back: Annotated[bool, typer.Option("--paste-back", help="Put the face back into the whole picture.")] = False,
    max_minutes: Annotated[
        float, typer.Option(min=0.01, max=600, help="Refuse speech that is longer: a minute of video takes about one.")
    ] = 30,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the output where it exists.")] = False,
) -> None:
    """Make a portrait speak with the emotion that you choose.

    \b
    Example:
      emotivetalk generate --portrait me.png --audio hello.wav --emotion happy:0.8 -o hello.mp4
      emotivetalk generate --portrait me.png --audio hello.wav --emotion-text "Speak seriously" -o hello.mp4
    """
    limits = Limits(audio_s=60 * max_minutes)
    check_output(output, (".mp4",), overwrite)
    check_readable(portrait, "image", limits.image_bytes)
    check_readable(audio, "audio", limits.media_bytes)
    options = EmotionOptions(emotion, emotion_text, emotion_image, emotion_video, emotion_track, emotion_from_speech)
    options.check()
    folder = find_checkpoint(checkpoint)
    data = trained_on(folder)
    if data is not None:
        typer.echo(f"note: {folder.name} was trained on {data}; a portrait of another kind comes out worse", err=True)

    from emotivetalk.generation import Request, Sampling, generate_video

    sampling = Sampling(seed, steps, guidance)
    timings = generate_video(Request(portrait, audio, output, folder, options, sampling, face, paste_back), limits)
    typer.echo(
        f"{output}: {timings.video_s:.1f} s of video in {timings.total_s:.1f} s; first frame after "
        f"{timings.first_frame_s:.1f} s ({timings.load_s:.1f} s of it loading), {timings.realtime_factor:.2f} times "
        "its length without loading"
    )
