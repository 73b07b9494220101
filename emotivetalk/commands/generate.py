"""`emotivetalk generate`: make a video from one portrait, speech and an emotion."""

from pathlib import Path
from typing import Annotated, Any

import typer

from emotivetalk.checks import check_output
from emotivetalk.files import check_not_input, check_readable
from emotivetalk.limits import Limits
from emotivetalk.media.checkpoints import find_checkpoint, trained_on
from emotivetalk.options import EMOTION_OPTIONS, SETTINGS_OPTIONS, option_name
from emotivetalk.output import say
from emotivetalk.request import VideoSettings, checked, choose_emotion, show_parameters, split_arguments


@show_parameters([*EMOTION_OPTIONS, *SETTINGS_OPTIONS])
def generate(
    portrait: Annotated[Path, typer.Option(help="A picture of a face, seen from the front.")],
    audio: Annotated[Path, typer.Option(help="Speech: any audio file, or a video with sound.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The video to write, an MP4.")],
    checkpoint: Annotated[
        Path | None, typer.Option(help="A checkpoint folder; the default is the starter that ships with the package.")
    ] = None,
    paste_back: Annotated[bool, typer.Option("--paste-back", help="Put the face back into the whole picture.")] = False,
    max_minutes: Annotated[
        float, typer.Option(min=0.01, max=600, help="Refuse longer speech: a minute of video takes about a minute.")
    ] = 30,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing output.")] = False,
    **arguments: Any,
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
    emotion_arguments, values = split_arguments(arguments)
    emotion = choose_emotion(emotion_arguments, option_name)
    emotion_file: Path | None = None
    if emotion is not None and emotion.kind in ("image", "video"):
        emotion_file = emotion_arguments[f"emotion_{emotion.kind}"]
        assert emotion_file is not None
        check_readable(
            emotion_file, emotion.kind, limits.image_bytes if emotion.kind == "image" else limits.media_bytes
        )
    inputs_by_kind = {"image": portrait, "audio": audio}
    check_not_input(output, inputs_by_kind if emotion_file is None else inputs_by_kind | {"emotion": emotion_file})
    settings = checked(VideoSettings, **values)
    folder = find_checkpoint(checkpoint)
    data = trained_on(folder)
    if data is not None:
        say(f"note: {folder.name} was trained on {data}; other kinds of portraits come out worse", err=True)

    from emotivetalk.generation import Inputs, generate_video

    inputs = Inputs(portrait, audio, emotion, emotion_file)
    timings = generate_video(
        inputs, output, folder, settings, paste_back=paste_back, overwrite=overwrite, limits=limits
    )
    say(
        f"{output}: {timings.video_s:.1f} s of video in {timings.total_s:.1f} s; first frame after "
        f"{timings.first_frame_s:.1f} s ({timings.load_s:.1f} s of it loading), {timings.realtime_factor:.2f} times "
        "its length without loading"
    )
