"""Make people from a folder of portraits; a person is a pure function of its seed and the portraits' hashes (ours).

A training person is a portrait or a morph of two or three, possibly mirrored, with other colors, light and background.
A held-out person is one unchanged held-out portrait. Held-out portraits are never part of a morph.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from emotivetalk.corpus.landmarks import NO_JITTER, CropJitter, FramedPortrait
from emotivetalk.corpus.morph import morph
from emotivetalk.corpus.person import Avatar, Person
from emotivetalk.corpus.photo_glasses import GlassesStyle
from emotivetalk.corpus.photo_renderer import PhotoRenderer
from emotivetalk.corpus.photo_style import Style, restyled
from emotivetalk.corpus.portraits import Portraits, PortraitSplit, read_portraits
from emotivetalk.corpus.records import PHOTOGRAPHS_LISTING
from emotivetalk.errors import InputError

FIRST_PHOTOGRAPH_IDENTITY = 2**22
"""First identity seed of photographs; smaller seeds are avatars."""

HELD_OUT_OFFSET = 2**20
"""Offset of the first held-out seed of each kind (equals `emotivetalk.corpus.synthesize.FIRST_HELD_OUT_IDENTITY`)."""

_IDENTITIES_PER_SEED = 4096
_MAX_TURN_APART = 0.15  # largest difference in `Portrait.turn` between the parents of a morph
_CACHED_PEOPLE = 24  # about 6 MB each
_GLASSES_CHANCE = 0.12
_NUM_PARENTS = ((1, 0.2), (2, 0.5), (3, 0.3))


@dataclass(frozen=True)
class Recipe:
    """Parameters from which a person is made.

    Attributes:
        parents: hashes of the portraits; the first gives hair and background.
        weights: weight of each parent in the morph.
        mirrored: flag of each parent.
        style: colors, light and background.
        teeth_seed: seed of the teeth.
        glasses: glasses to add.
        jitter: difference of the crop from the usual one.
    """

    parents: tuple[str, ...]
    weights: tuple[float, ...]
    mirrored: tuple[bool, ...]
    style: Style
    teeth_seed: int
    glasses: GlassesStyle | None = None
    jitter: CropJitter = NO_JITTER


class PhotoPeople:
    """The people of a folder of portraits.

    Args:
        portraits: contents of the folder.
        splits: hashes and splits of the portraits to use; all accepted portraits by default. The same hashes give the
            same people; other files in the folder do not matter.

    Raises:
        InputError: a portrait in `splits` is missing or refused.
    """

    def __init__(self, portraits: Portraits, splits: Mapping[str, PortraitSplit] | None = None) -> None:
        accepted = {portrait.sha256: portrait for portrait in portraits.accepted}
        self.splits: dict[str, PortraitSplit] = (
            dict(splits) if splits is not None else {key: portrait.split for key, portrait in accepted.items()}
        )
        missing = sorted(set(self.splits) - set(accepted))
        if missing:
            raise InputError(
                "photograph_missing",
                f"{portraits.folder} lacks {len(missing)} of the {len(self.splits)} portraits that the corpus was made "
                f"with; the first has the SHA-256 {missing[0]}",
                f"Put them back, or write the new path of their folder into the corpus's {PHOTOGRAPHS_LISTING}.",
            )
        self.folder = portraits.folder
        self._portraits = accepted
        self._train = sorted(key for key, split in self.splits.items() if split == "train")
        self._held_out = sorted(key for key, split in self.splits.items() if split == "held_out")
        self._person = lru_cache(_CACHED_PEOPLE)(self._make)

    def __reduce__(self) -> tuple[object, ...]:
        return _reopen, (self.folder, tuple(self.splits.items()))

    def num_held_out(self) -> int:
        """Return the number of held-out people: one per held-out portrait."""
        return len(self._held_out)

    def recipe(self, identity_seed: int) -> Recipe:
        """Return the recipe of the person with this seed.

        Raises:
            InputError: the folder has no portraits of the person's split.
            ValueError: the seed belongs to an avatar.
        """
        if identity_seed < FIRST_PHOTOGRAPH_IDENTITY:
            raise ValueError(
                f"identity {identity_seed} is an avatar. Give a seed of at least {FIRST_PHOTOGRAPH_IDENTITY}."
            )
        number = identity_seed - FIRST_PHOTOGRAPH_IDENTITY
        held_out = number >= HELD_OUT_OFFSET
        names = self._held_out if held_out else self._train
        if not names:
            split = "held-out" if held_out else "training"
            raise InputError(
                "photographs_missing", f"{self.folder} has no {split} portraits", "Add portraits of this split."
            )
        rng = np.random.default_rng([identity_seed, 0xF070])
        if held_out:
            name = names[number % _IDENTITIES_PER_SEED % len(names)]
            return Recipe((name,), (1.0,), (False,), Style(), int(rng.integers(2**31)))
        parents, mirrored = self._parents(rng)
        weights = rng.dirichlet([3.0] * len(parents)) if len(parents) > 1 else np.ones(1)
        weights = np.maximum(np.sort(weights)[::-1], 0.1)
        return Recipe(
            parents=parents,
            weights=tuple(round(float(weight), 4) for weight in weights / weights.sum()),
            mirrored=mirrored,
            style=Style.sample(rng),
            teeth_seed=int(rng.integers(2**31)),
            glasses=GlassesStyle.sample(rng) if rng.random() < _GLASSES_CHANCE else None,
            jitter=CropJitter.sample(rng),
        )

    def person(self, identity_seed: int) -> PhotoRenderer:
        """Return the person with this seed. The most recently used people stay in memory."""
        return self._person(identity_seed)

    def portrait(self, identity_seed: int) -> FramedPortrait:
        """Return the portrait of the person with this seed, without glasses."""
        recipe = self.recipe(identity_seed)
        framed = []
        for name, mirrored in zip(recipe.parents, recipe.mirrored, strict=True):
            parent = self._portraits[name].framed(recipe.jitter)
            framed.append(parent.mirrored() if mirrored else parent)
        portrait = framed[0] if len(framed) == 1 else morph(framed, recipe.weights)
        return restyled(portrait, recipe.style)

    def _make(self, identity_seed: int) -> PhotoRenderer:
        recipe = self.recipe(identity_seed)
        return PhotoRenderer(self.portrait(identity_seed), recipe.teeth_seed, recipe.glasses)

    def _parents(self, rng: np.random.Generator) -> tuple[tuple[str, ...], tuple[bool, ...]]:
        """Sample portraits whose heads turn by nearly the same angle after mirroring."""
        counts, chances = zip(*_NUM_PARENTS, strict=True)
        num_parents = int(rng.choice(counts, p=chances))
        first = self._train[rng.integers(len(self._train))]
        parents, mirrored = [first], [bool(rng.random() < 0.5)]
        turn = self._turn(first, mirrored[0])
        for number in rng.permutation(len(self._train)):
            if len(parents) == num_parents:
                break
            name, flipped = self._train[number], bool(rng.random() < 0.5)
            if name not in parents and abs(self._turn(name, flipped) - turn) < _MAX_TURN_APART:
                parents.append(name)
                mirrored.append(flipped)
        return tuple(parents), tuple(mirrored)

    def _turn(self, name: str, mirrored: bool) -> float:
        turn = self._portraits[name].turn
        return -turn if mirrored else turn

    def write_listing(self, corpus: Path, identity_seeds: Sequence[int]) -> Path:
        """Write the file by which a corpus is drawn: folder and hashes of the portraits, and the recipes of its people."""
        people = {str(seed): asdict(self.recipe(seed)) for seed in sorted(set(identity_seeds))}
        content = {"folder": str(self.folder.resolve()), "portraits": self.splits, "people": people}
        path = corpus / PHOTOGRAPHS_LISTING
        path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        return path


def is_photograph(identity_seed: int | None) -> bool:
    """Tell whether the seed is that of a person in a photograph, and not of an avatar or None (real video)."""
    return identity_seed is not None and identity_seed >= FIRST_PHOTOGRAPH_IDENTITY


def sample_identity_like(identity_seed: int | None, generator: np.random.Generator) -> int:
    """Sample the seed of a training person of the same kind: an avatar for an avatar or None, else a photograph."""
    number = int(generator.integers(HELD_OUT_OFFSET))
    return FIRST_PHOTOGRAPH_IDENTITY + number if is_photograph(identity_seed) else number


def person_of(identity_seed: int, listing: Path | None = None) -> Person:
    """Return the person of an identity seed: an avatar, or a person from the photographs of a corpus.

    Args:
        listing: `photographs.json` of the corpus.

    Raises:
        InputError: photographs of the listing are missing or changed.
        ValueError: the seed belongs to a photograph, and `listing` is None.
    """
    if identity_seed < FIRST_PHOTOGRAPH_IDENTITY:
        return Avatar.sample(identity_seed)
    if listing is None:
        raise ValueError(
            f"identity {identity_seed} is a photograph, and the corpus has no {PHOTOGRAPHS_LISTING}. Make the corpus again."
        )
    return _read_listing(listing).person(identity_seed)


@lru_cache(4)
def open_people(folder: Path) -> PhotoPeople:
    """Return the people of a folder of portraits, and cache them. Raises InputError as `read_portraits` does."""
    return PhotoPeople(read_portraits(folder))


@lru_cache(4)
def _read_listing(listing: Path) -> PhotoPeople:
    content = json.loads(listing.read_text(encoding="utf-8"))
    folder = Path(content["folder"])
    return PhotoPeople(
        read_portraits(folder if folder.is_absolute() else listing.parent / folder), content["portraits"]
    )


def _reopen(folder: Path, splits: tuple[tuple[str, PortraitSplit], ...]) -> PhotoPeople:
    return PhotoPeople(read_portraits(folder), dict(splits))
