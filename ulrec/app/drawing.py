"""Pictures for a person, few at a time, so that they are seen as soon as they are made."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ulrec.app.loading import Shown
from ulrec.app.people import Person
from ulrec.app.sharing import Waiting
from ulrec.app.state import Wish
from ulrec.pipeline import Pipeline, sample_seeds

__all__ = ["Made", "between_items", "between_people", "drawn"]

AT_ONCE = {"Fine": 1, "Fast": 4}
CANDIDATES, LEVELS = 6, 4

Floats = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, slots=True)
class Made:
    """One picture: ``media`` uint8 (C, F, H, W), ``latent`` float32 (D, f, h, w)."""

    media: NDArray[np.uint8]
    latent: Floats


def drawn(shown: Shown, person: Person, wish: Wish, *, waiting: Waiting) -> Iterator[Made]:
    """Draw the pictures of a wish: those that the pipeline draws for person and seed, in order.

    A surprising one is the least likely of six, by the bits of the run's prior; a varied one that
    of six which is the least like those before. Others are drawn together where that is fast:
    four take half as long so, and are seen at once.

    Raises
    ------
    Busy
        If too many visitors are before this one.
    """
    away = None if person.away is None else person.away.tobytes()
    taste = (person.factor.tobytes(), away, person.is_known, person.row)
    how = (wish.guidance, wish.quality, wish.seed, wish.surprising, wish.varied, wish.text)
    at_once = 1 if wish.surprising or wish.varied else AT_ONCE[wish.quality]
    made: list[Made] = []
    for first in range(0, wish.pictures, at_once):
        numbers = range(first, min(first + at_once, wish.pictures))
        before = tuple(made)

        def make(numbers: Sequence[int], before: tuple[Made, ...] = before) -> list[Made]:
            if wish.surprising:
                seeds = _most_novel(shown, person, wish, numbers[0])
            elif wish.varied:
                seeds = _least_like(shown, person, wish, before)
            else:
                rows = np.full(len(numbers), person.row)
                seeds = sample_seeds(wish.seed, rows, np.array(numbers))
            media, latents = _for_seeds(shown, person, wish, seeds)
            return [Made(media=m, latent=z) for m, z in zip(media, latents, strict=True)]

        made += _kept(shown, {("draw", taste, how, n): n for n in numbers}, make, waiting)
        yield from made[first:]


def between_people(
    shown: Shown, people: tuple[Person, Person], wish: Wish, *, share: float, waiting: Waiting
) -> Made:
    """Draw for the factor between two people, the same noise for every share in [0, 1]."""
    factor = ((1 - share) * people[0].factor + share * people[1].factor).astype(np.float32)

    def make() -> Made:
        media, latents = pipeline_of(shown, wish).generate_for(
            factor[None], seeds=np.array([wish.seed]), guidance=wish.guidance
        )
        return Made(media=media[0], latent=latents[0])

    return _kept_one(shown, ("people", factor.tobytes(), wish), make, waiting)


def between_items(
    shown: Shown, latents: tuple[Floats, Floats], wish: Wish, *, share: float, waiting: Waiting
) -> Made:
    """Decode the latent between two, the same noise for every share in [0, 1]."""
    latent = ((1 - share) * latents[0] + share * latents[1]).astype(np.float32)

    def make() -> Made:
        media = pipeline_of(shown, wish).decode(latent[None], seeds=np.array([wish.seed]))
        return Made(media=media[0], latent=latent)

    return _kept_one(shown, ("items", latent.tobytes(), wish), make, waiting)


def pipeline_of(shown: Shown, wish: Wish) -> Pipeline:
    """Return the pipeline that draws at the quality wished for."""
    return shown.fast if wish.quality == "Fast" else shown.fine


def _most_novel(shown: Shown, person: Person, wish: Wish, number: int) -> NDArray[np.int64]:
    """Return of some candidates' seeds the one whose latent the prior charges the most bits for."""
    seeds, latents = _candidates(shown, person, wish, number)
    at = int(shown.fine.bits(latents, num_levels=LEVELS).argmax())
    return seeds[at : at + 1]


def _least_like(
    shown: Shown, person: Person, wish: Wish, before: Sequence[Made]
) -> NDArray[np.int64]:
    """Return of some candidates' seeds the one whose latent is the farthest from all before."""
    seeds, latents = _candidates(shown, person, wish, len(before))
    gaps = [np.square(latents - one.latent).sum(axis=(1, 2, 3, 4)) for one in before]
    at = int(np.min(gaps, axis=0).argmax()) if gaps else 0
    return seeds[at : at + 1]


def _candidates(
    shown: Shown, person: Person, wish: Wish, number: int
) -> tuple[NDArray[np.int64], Floats]:
    """Return the seeds (N,) and latents (N, D, f, h, w) that the ``number``-th is chosen from."""
    numbers = number * CANDIDATES + np.arange(CANDIDATES)
    seeds = sample_seeds(wish.seed, np.full(CANDIDATES, person.row), numbers)
    _, latents = _for_seeds(shown, person, wish, seeds, decode=False)
    return seeds, latents


def _for_seeds(
    shown: Shown, person: Person, wish: Wish, seeds: NDArray[np.int64], *, decode: bool = True
) -> tuple[NDArray[np.uint8], Floats]:
    num = len(seeds)
    return pipeline_of(shown, wish).generate_for(
        np.tile(person.factor, (num, 1)),
        seeds=seeds,
        personal=np.full(num, person.is_known),
        away=None if person.away is None else np.tile(person.away, (num, 1)),
        guidance=wish.guidance,
        text=wish.text or None,
        decode=decode,
    )


def _kept_one(shown: Shown, key: Hashable, make: Callable[[], Made], waiting: Waiting) -> Made:
    return _kept(shown, {key: 0}, lambda _: [make()], waiting)[0]


def _kept(
    shown: Shown,
    numbers: Mapping[Hashable, int],
    make: Callable[[Sequence[int]], list[Made]],
    waiting: Waiting,
) -> list[Made]:
    """Return what was made under the keys before; the numbers that are missing are made in turn."""
    found = {key: shown.kept.get(key) for key in numbers}
    missing = [key for key, one in found.items() if one is None]
    if missing:
        with shown.queue.turn(waiting):
            made = make([numbers[key] for key in missing])
        for key, one in zip(missing, made, strict=True):
            shown.kept.put(key, one)
            found[key] = one
    return list(found.values())
