"""Thousands of people from a folder of portraits: each a pure function of a seed and of the portraits' hashes (ours).

A person to train on is a portrait or a morph of two or three, perhaps mirrored, in other colors, light and surroundings.
A person held out is one held-out portrait as it is; none is ever part of a morph.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from emotivetalk.corpus.landmarks import FramedPortrait
from emotivetalk.corpus.morph import morph
from emotivetalk.corpus.person import Avatar, Person
from emotivetalk.corpus.photo_glasses import GlassesStyle
from emotivetalk.corpus.photo_renderer import PhotoRenderer
from emotivetalk.corpus.photo_style import Style, restyled
from emotivetalk.corpus.portraits import Portraits, PortraitSplit, read_portraits
from emotivetalk.corpus.records import PHOTOGRAPHS_LISTING
from emotivetalk.errors import InputError

FIRST_PHOTOGRAPH_IDENTITY = 2**22
"""Identity seeds from here on are people in photographs; below, avatars."""

HELD_OUT_OFFSET = 2**20
"""Seeds of either kind are held out from this far on (`emotivetalk.corpus.synthesize.FIRST_HELD_OUT_IDENTITY`)."""

_IDENTITIES_PER_SEED = 4096
_MAX_TURN_APART = 0.15  # of the parents of a morph
_CACHED_PEOPLE = 24  # about 6 MB each
_GLASSES_CHANCE = 0.12
_NUM_PARENTS = ((1, 0.2), (2, 0.5), (3, 0.3))


@dataclass(frozen=True)
class Recipe:
    """How a person is made.

    Attributes:
        parents: hashes of portraits; the first gives hair and background.
        weights: of each parent.
        mirrored: of each parent.
    """

    parents: tuple[str, ...]
    weights: tuple[float, ...]
    mirrored: tuple[bool, ...]
    style: Style
    teeth_seed: int
    glasses: GlassesStyle | None = None


class PhotoPeople:
    """The people of a folder of portraits.

    Args:
        portraits: the folder.
        wanted: hashes and splits of the portraits that a corpus was made with; all that were accepted, by default. The
            same hashes give the same people, whatever else the folder holds.

    Raises:
        InputError: a wanted portrait is missing or refused; there are none to train on.
    """

    def __init__(self, portraits: Portraits, wanted: Mapping[str, PortraitSplit] | None = None) -> None:
        known = {portrait.sha256: portrait for portrait in portraits.accepted}
        self.splits: dict[str, PortraitSplit] = (
            dict(wanted) if wanted is not None else {key: portrait.split for key, portrait in known.items()}
        )
        missing = sorted(set(self.splits) - set(known))
        if missing:
            raise InputError(
                "photograph_missing",
                f"{portraits.folder} lacks {len(missing)} of the {len(self.splits)} portraits that the corpus was made "
                f"with; the first has the SHA-256 {missing[0]}",
                f"Put them back, or write their folder's new place into the corpus's {PHOTOGRAPHS_LISTING}.",
            )
        self.folder = portraits.folder
        self._portraits = known
        self._train = sorted(key for key, split in self.splits.items() if split == "train")
        self._held_out = sorted(key for key, split in self.splits.items() if split == "held_out")
        self._person = lru_cache(_CACHED_PEOPLE)(self._make)

    def __reduce__(self) -> tuple[object, ...]:
        return _reopened, (self.folder, tuple(self.splits.items()))

    def num_held_out(self) -> int:
        """How many held-out people there are: one for each portrait."""
        return len(self._held_out)

    def recipe(self, identity_seed: int) -> Recipe:
        """How the person of a seed is made.

        Raises:
            InputError: there are no portraits of its split.
            ValueError: the seed is an avatar's.
        """
        if identity_seed < FIRST_PHOTOGRAPH_IDENTITY:
            raise ValueError(
                f"identity {identity_seed} is an avatar's; photographs begin at {FIRST_PHOTOGRAPH_IDENTITY}"
            )
        number = identity_seed - FIRST_PHOTOGRAPH_IDENTITY
        held_out = number >= HELD_OUT_OFFSET
        names = self._held_out if held_out else self._train
        if not names:
            split = "held out" if held_out else "to train on"
            raise InputError(
                "photographs_missing", f"{self.folder} has no portraits {split}", "See its report of what was refused."
            )
        rng = np.random.default_rng([identity_seed, 0xF070])
        if held_out:
            chosen = names[number % _IDENTITIES_PER_SEED % len(names)]
            return Recipe((chosen,), (1.0,), (False,), Style(), int(rng.integers(2**31)))
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
        )

    def person(self, identity_seed: int) -> PhotoRenderer:
        """The person of a seed, made when first asked for; the latest stay in memory."""
        return self._person(identity_seed)

    def portrait(self, identity_seed: int) -> FramedPortrait:
        """The person's portrait, without motion and glasses."""
        recipe = self.recipe(identity_seed)
        framed = []
        for name, mirrored in zip(recipe.parents, recipe.mirrored, strict=True):
            one = self._portraits[name].framed()
            framed.append(one.mirrored() if mirrored else one)
        one = framed[0] if len(framed) == 1 else morph(framed, recipe.weights)
        return restyled(one, recipe.style)

    def _make(self, identity_seed: int) -> PhotoRenderer:
        recipe = self.recipe(identity_seed)
        return PhotoRenderer(self.portrait(identity_seed), recipe.teeth_seed, recipe.glasses)

    def _parents(self, rng: np.random.Generator) -> tuple[tuple[str, ...], tuple[bool, ...]]:
        """Portraits that look nearly the same way, after mirroring."""
        counts, chances = zip(*_NUM_PARENTS, strict=True)
        wanted = int(rng.choice(counts, p=chances))
        first = self._train[rng.integers(len(self._train))]
        parents, mirrored = [first], [bool(rng.random() < 0.5)]
        turn = self._turn(first, mirrored[0])
        for number in rng.permutation(len(self._train)):
            if len(parents) == wanted:
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
        """Write what a corpus needs to be drawn: where the portraits are, their hashes, and how its people are made."""
        people = {str(seed): asdict(self.recipe(seed)) for seed in sorted(set(identity_seeds))}
        content = {"folder": str(self.folder.resolve()), "portraits": self.splits, "people": people}
        path = corpus / PHOTOGRAPHS_LISTING
        path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        return path


def another(identity_seed: int | None, generator: np.random.Generator) -> int:
    """Somebody at random to train on, of the same kind: an avatar for an avatar, a photograph for a photograph."""
    number = int(generator.integers(HELD_OUT_OFFSET))
    return number if (identity_seed or 0) < FIRST_PHOTOGRAPH_IDENTITY else FIRST_PHOTOGRAPH_IDENTITY + number


def person_of(identity_seed: int, listing: Path | None = None) -> Person:
    """Who an identity's seed stands for: an avatar, or somebody in the photographs that a corpus names.

    Args:
        listing: the corpus's `photographs.json`.

    Raises:
        InputError: the photographs are not where the listing says, or are others.
        ValueError: somebody in a photograph is asked for without a listing.
    """
    if identity_seed < FIRST_PHOTOGRAPH_IDENTITY:
        return Avatar.sample(identity_seed)
    if listing is None:
        raise ValueError(
            f"identity {identity_seed} is somebody in a photograph, and the corpus has no {PHOTOGRAPHS_LISTING}"
        )
    return _listed(listing).person(identity_seed)


@lru_cache(4)
def open_people(folder: Path) -> PhotoPeople:
    """The people of a folder of portraits, read once. Raises InputError as `read_portraits` does."""
    return PhotoPeople(read_portraits(folder))


@lru_cache(4)
def _listed(listing: Path) -> PhotoPeople:
    content = json.loads(listing.read_text(encoding="utf-8"))
    folder = Path(content["folder"])
    return PhotoPeople(
        read_portraits(folder if folder.is_absolute() else listing.parent / folder), content["portraits"]
    )


def _reopened(folder: Path, wanted: tuple[tuple[str, PortraitSplit], ...]) -> PhotoPeople:
    return PhotoPeople(read_portraits(folder), dict(wanted))
