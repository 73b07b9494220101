"""`emotivetalk avatar`: draw a portrait of a synthetic person, like those the starter checkpoint was trained on."""

from pathlib import Path
from typing import Annotated

import typer

from emotivetalk.checks import check_output
from emotivetalk.output import say
from emotivetalk.request import emotion_index, parse_label


def avatar(
    output: Annotated[Path, typer.Option("-o", "--output", help="The portrait to write, a PNG.")],
    seed: Annotated[
        int, typer.Option(min=0, max=2**63 - 1, help="Random seed for the traits that no option sets.")
    ] = 0,
    emotion: Annotated[
        str, typer.Option(help="Named emotion, with an intensity of 0 to 1, such as happy:0.8.")
    ] = "neutral",
    size: Annotated[int, typer.Option(min=64, max=2048, help="Width and height, pixels.")] = 512,
    skin: Annotated[str | None, typer.Option(metavar="COLOR", help="Such as porcelain, tan or deep.")] = None,
    hair: Annotated[str | None, typer.Option(metavar="COLOR", help="Such as black, chestnut or ginger.")] = None,
    hair_style: Annotated[str | None, typer.Option(metavar="STYLE", help="Such as fringe, parted or crop.")] = None,
    long_hair: Annotated[bool | None, typer.Option("--long-hair/--short-hair", help="Length of the hair.")] = None,
    eyes: Annotated[str | None, typer.Option(metavar="COLOR", help="Such as hazel, blue or green.")] = None,
    cloth: Annotated[str | None, typer.Option(metavar="COLOR", help="Such as blue, coral or charcoal.")] = None,
    background: Annotated[str | None, typer.Option(metavar="COLOR", help="Such as sky, peach or paper.")] = None,
    glasses: Annotated[bool | None, typer.Option("--glasses/--no-glasses", help="With or without glasses.")] = None,
    beard: Annotated[bool | None, typer.Option("--beard/--no-beard", help="With or without a beard.")] = None,
    freckles: Annotated[bool | None, typer.Option("--freckles/--no-freckles", help="With or without freckles.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing output.")] = False,
) -> None:
    """Draw the portrait of a person who does not exist.

    An unknown name of a trait is answered with the known ones.

    \b
    Example:
      emotivetalk avatar --seed 7 --hair ginger --glasses --emotion happy:0.5 -o portrait.png
    """
    check_output(output, (".png",), overwrite)
    label = parse_label(emotion)

    import torch

    from emotivetalk.corpus.avatar import Identity
    from emotivetalk.corpus.parameters import EMOTION_TARGETS, POSE_AT_REST
    from emotivetalk.corpus.renderer import render
    from emotivetalk.media.image import save_image

    person = Identity.from_traits(
        seed,
        skin=skin,
        hair=hair,
        eyes=eyes,
        cloth=cloth,
        background=background,
        hair_style=hair_style,
        long_hair=long_hair,
        glasses=glasses,
        beard=beard,
        freckles=freckles,
    )
    face = torch.from_numpy(EMOTION_TARGETS)[emotion_index(label.emotion)] * label.intensity
    drawn = render(person, torch.zeros(1, 6), face[None], torch.from_numpy(POSE_AT_REST)[None], size, supersample=2)
    pixels = (drawn.images[0].clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    save_image(output, pixels)
    say(f"{output}: {size} x {size} pixels, {label.emotion} {label.intensity:g}, seed {seed}")
