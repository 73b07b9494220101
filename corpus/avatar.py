"""Identities of avatars: shapes and colors that are the same in every frame (ours)."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor

from emotivetalk.errors import InvalidValueError

SKIN: Final = {
    "porcelain": (255, 224, 205),
    "light": (247, 205, 178),
    "rosy": (255, 210, 188),
    "beige": (234, 184, 150),
    "tan": (214, 158, 120),
    "bronze": (182, 124, 86),
    "brown": (146, 95, 64),
    "deep": (108, 70, 48),
}
HAIR: Final = {
    "black": (40, 32, 32),
    "espresso": (66, 42, 30),
    "brown": (104, 66, 40),
    "chestnut": (150, 98, 52),
    "golden": (206, 160, 90),
    "blonde": (232, 200, 140),
    "auburn": (122, 44, 32),
    "ginger": (194, 94, 50),
    "grey": (128, 128, 136),
    "indigo": (62, 60, 88),
    "white": (214, 210, 206),
}
EYES: Final = {
    "hazel": (104, 72, 44),
    "blue": (60, 112, 158),
    "green": (70, 124, 82),
    "amber": (130, 92, 40),
    "grey": (96, 108, 120),
    "dark": (52, 38, 32),
}
CLOTH: Final = {
    "blue": (52, 90, 140),
    "red": (176, 70, 66),
    "green": (70, 120, 92),
    "yellow": (236, 196, 92),
    "violet": (92, 76, 130),
    "charcoal": (60, 64, 74),
    "coral": (220, 130, 110),
    "silver": (210, 214, 220),
    "teal": (40, 130, 140),
}
BACKGROUND: Final = {
    "sky": (188, 214, 224),
    "peach": (240, 216, 200),
    "mint": (206, 222, 196),
    "lilac": (222, 208, 232),
    "cream": (244, 232, 196),
    "slate": (196, 204, 222),
    "paper": (226, 226, 222),
    "lagoon": (176, 206, 200),
}
HAIR_STYLES: Final = ("swept", "fringe", "parted", "crop")

Scalar = Float[Tensor, " batch"]
Color = Float[Tensor, "batch 3"]


@dataclass(frozen=True)
class Identity:
    """A batch of people. Lengths are in face units, see `renderer.FACE_TO_PICTURE`; colors are RGB in 0..1."""

    face_width: Scalar
    face_height: Scalar
    jaw_width: Scalar
    chin: Scalar
    eye_x: Scalar
    eye_y: Scalar
    eye_size: Scalar
    eye_tilt: Scalar
    brow_height: Scalar
    brow_thickness: Scalar
    nose_length: Scalar
    nose_width: Scalar
    mouth_y: Scalar
    mouth_width: Scalar
    lip_thickness: Scalar
    lip_redness: Scalar
    ear_size: Scalar
    hair_style: Scalar
    hairline: Scalar
    parting: Scalar
    hair_length: Scalar
    hair_wave: Scalar
    glasses: Scalar
    beard: Scalar
    freckles: Scalar
    skin: Color
    hair: Color
    iris: Color
    cloth: Color
    background: Color

    def __len__(self) -> int:
        return len(self.face_width)

    def __getitem__(self, index: slice | list[int] | Tensor) -> Identity:
        """Select people; `identity[[3] * 8]` repeats one."""
        return Identity(**{f.name: getattr(self, f.name)[index] for f in fields(self)})

    @staticmethod
    def concatenate(people: list[Identity]) -> Identity:
        """Concatenate batches of people."""
        return Identity(**{f.name: torch.cat([getattr(p, f.name) for p in people]) for f in fields(Identity)})

    @staticmethod
    def sample(num: int, seed: int) -> Identity:
        """Draw `num` people; the same seed gives the same people."""
        generator = torch.Generator().manual_seed(seed)

        def between(low: float, high: float) -> Scalar:
            return low + (high - low) * torch.rand(num, generator=generator)

        def chance(probability: float) -> Scalar:
            return (torch.rand(num, generator=generator) < probability).float()

        def color(palette: dict[str, tuple[int, int, int]], spread: float) -> Color:
            table = torch.tensor(list(palette.values()), dtype=torch.float32) / 255
            chosen = table[torch.randint(len(table), (num,), generator=generator)]
            brightness = spread * (torch.rand(num, 1, generator=generator) - 0.5)
            tint = 0.4 * spread * (torch.rand(num, 3, generator=generator) - 0.5)
            return (chosen + brightness + tint).clamp(0, 1)

        hair_length = chance(0.5) * between(0.6, 1.0)
        return Identity(
            face_width=between(0.43, 0.50),
            face_height=between(0.55, 0.62),
            jaw_width=between(0.74, 0.96),
            chin=between(-0.02, 0.03),
            eye_x=between(0.185, 0.215),
            eye_y=between(-0.06, 0.0),
            eye_size=between(0.105, 0.13),
            eye_tilt=between(-0.10, 0.16),
            brow_height=between(0.150, 0.178),
            brow_thickness=between(0.016, 0.030),
            nose_length=between(0.17, 0.23),
            nose_width=between(0.055, 0.08),
            mouth_y=between(0.30, 0.335),
            mouth_width=between(0.155, 0.19),
            lip_thickness=between(0.030, 0.050),
            lip_redness=between(0, 1),
            ear_size=between(0.8, 1.15),
            hair_style=torch.randint(len(HAIR_STYLES), (num,), generator=generator).float(),
            hairline=between(-0.40, -0.31),
            parting=between(-0.35, 0.35),
            hair_length=hair_length,
            hair_wave=between(0, 1),
            glasses=chance(0.15),
            beard=chance(0.2) * (hair_length == 0),
            freckles=chance(0.2),
            skin=color(SKIN, 0.05),
            hair=color(HAIR, 0.04),
            iris=color(EYES, 0.05),
            cloth=color(CLOTH, 0.08),
            background=color(BACKGROUND, 0.06),
        )

    @staticmethod
    def from_traits(
        seed: int,
        *,
        skin: str | None = None,
        hair: str | None = None,
        eyes: str | None = None,
        cloth: str | None = None,
        background: str | None = None,
        hair_style: str | None = None,
        long_hair: bool | None = None,
        glasses: bool | None = None,
        beard: bool | None = None,
        freckles: bool | None = None,
    ) -> Identity:
        """Draw one person from `seed`, and replace the given traits.

        Raises:
            InvalidValueError: a trait's value is unknown; the remedy lists the known ones.
        """
        person = Identity.sample(1, seed)

        def named(trait: str, palette: dict[str, tuple[int, int, int]], name: str) -> Color:
            if name not in palette:
                raise InvalidValueError(
                    "avatar_invalid", f"{trait} {name!r} is unknown", f"Choose {', '.join(palette)}."
                )
            return torch.tensor([palette[name]], dtype=torch.float32) / 255

        changes: dict[str, Tensor] = {}
        colors = {
            "skin": (SKIN, skin),
            "hair": (HAIR, hair),
            "iris": (EYES, eyes),
            "cloth": (CLOTH, cloth),
            "background": (BACKGROUND, background),
        }
        for trait, (palette, name) in colors.items():
            if name is not None:
                changes[trait] = named(trait, palette, name)
        if hair_style is not None:
            if hair_style not in HAIR_STYLES:
                raise InvalidValueError(
                    "avatar_invalid", f"hair style {hair_style!r} is unknown", f"Choose {', '.join(HAIR_STYLES)}."
                )
            changes["hair_style"] = torch.tensor([float(HAIR_STYLES.index(hair_style))])
        if long_hair is not None:
            changes["hair_length"] = torch.tensor([0.8 if long_hair else 0.0])
        for trait, flag in (("glasses", glasses), ("beard", beard), ("freckles", freckles)):
            if flag is not None:
                changes[trait] = torch.tensor([float(flag)])
        return replace(person, **changes)
