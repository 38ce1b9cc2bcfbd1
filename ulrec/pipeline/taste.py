"""Tastes: whom and what to draw for when that is more, or less, than one user.

What a taste says is put in terms of the run's sources, each with a weight w_i of its own:

    guided = null + sum_i w_i (cond_i - null)

* Several users are the mean of their factors, by their weights: collaborative filtering scores
  items for it by the mean of their scores, and a group costs what one user costs. Averaging the
  users' denoisers instead served simulated groups of two and three no better and no worse
  (examples/benchmarks/RESULTS.md).
* Liked items go through the source of examples where the base has learnt one, else they are folded
  in to the factor of somebody who likes just these. Disliked ones go the same way and push.
* A category and texts need a base that was trained with these sources.

A single number as guidance is the whole pull: what pulls shares it evenly, and what pushes has half
of it, as a dislike counts half a like elsewhere (:mod:`ulrec.cf.taste`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from ulrec.cf.taste import DISLIKES_COUNT
from ulrec.conditioning.sources import CATEGORY, EXAMPLES, TEXT, USER
from ulrec.config import digest
from ulrec.data.ids import IdMap
from ulrec.errors import DataError
from ulrec.pipeline.draw import Steer, draw
from ulrec.pipeline.generation import Generation, sample_seeds
from ulrec.pipeline.guidance import load_guidance
from ulrec.pipeline.vectors import category_vectors, example_embeddings

if TYPE_CHECKING:
    from ulrec.pipeline.pipeline import Pipeline

__all__ = ["PARTS", "Guidance", "Taste", "calibrated", "generate_tastes", "scales_of"]

LIKED, DISLIKED, NOT_TEXT = "liked", "disliked", "not_text"
PARTS = ("users", LIKED, CATEGORY, TEXT, DISLIKED, NOT_TEXT)
"""What guidance may be given for, one by one: the fields of a taste that say something."""

PUSHING = (DISLIKED, NOT_TEXT)

Guidance = float | Mapping[str, float]
"""The whole pull, or a scale for each part of a taste that says something (:data:`PARTS`)."""


@dataclass(frozen=True, kw_only=True)
class Taste:
    """Whom and what to draw for; any of it may be left out, but not all.

    Attributes
    ----------
    users
        User ids: one, or several that are to like it together.
    weights
        A share for each user, evenly by default.
    liked, disliked
        Item ids: more like these, not like those.
    category
        A category of the catalogue.
    text, not_text
        What to show and what not: a text, or its embedding (E,).
    """

    users: Sequence[Any] = ()
    weights: Sequence[float] | None = None
    liked: Sequence[Any] = ()
    disliked: Sequence[Any] = ()
    category: str | None = None
    text: str | NDArray[np.float32] | None = None
    not_text: str | NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        if not self.said:
            raise DataError(
                "a taste has to say something, got nothing; name users, liked or disliked items, a "
                "category or a text (for nobody in particular: generate with guidance 0)"
            )
        shares = self.shares
        if len(shares) != len(self.users) or not all(0 <= s < math.inf for s in shares):
            raise DataError(
                f"weights have to be a number of at least 0 for each of {len(self.users)} users, "
                f"got {self.weights}"
            )
        if len(self.users) and sum(shares) == 0:
            raise DataError("at least one user of a taste needs a weight above 0")
        both = [item for item in self.liked if item in set(self.disliked)]
        if both:
            raise DataError(f"{both[0]!r} is liked and disliked in one taste; name it once")

    @property
    def shares(self) -> list[float]:
        """A share for each user."""
        return [1.0] * len(self.users) if self.weights is None else [float(w) for w in self.weights]

    @property
    def said(self) -> tuple[str, ...]:
        """Which of :data:`PARTS` say something."""
        found = {
            "users": len(self.users) > 0,
            LIKED: len(self.liked) > 0,
            CATEGORY: self.category is not None,
            TEXT: self.text is not None,
            DISLIKED: len(self.disliked) > 0,
            NOT_TEXT: self.not_text is not None,
        }
        return tuple(name for name in PARTS if found[name])

    @staticmethod
    def between(first: Any, second: Any, *, num: int) -> list[Taste]:
        """Return ``num`` tastes from one user to another, both ends included.

        Raises
        ------
        DataError
            If there are fewer than two.
        """
        if num < 2:
            raise DataError(f"a strip between two users has at least 2 tastes, got {num}")
        steps = np.linspace(0, 1, num).tolist()
        return [Taste(users=(first, second), weights=(1 - s, s)) for s in steps]


@dataclass(frozen=True, kw_only=True)
class _Part:
    """What a part of a taste says to a source: one vector (R,)."""

    name: str
    source: str
    vector: NDArray[np.float32]


def generate_tastes(
    pipeline: Pipeline,
    tastes: Sequence[Taste],
    *,
    per_taste: int,
    guidance: Sequence[Guidance],
    seed: int,
    seeds: NDArray[np.int64] | None,
    decode: bool,
    progress: Callable[[int], None] | None,
) -> Generation:
    """Generate for tastes; see :meth:`ulrec.Pipeline.generate_taste`.

    ``guidance`` is one a taste.
    """
    if len(tastes) == 0 or per_taste < 1:
        raise DataError(
            f"expected a taste and at least 1 sample of each, got {len(tastes)} tastes and "
            f"per_taste={per_taste}"
        )
    parts = [taste_parts(pipeline, taste) for taste in tastes]
    weights = [_weights(taste, scale) for taste, scale in zip(tastes, guidance, strict=True)]
    place = np.repeat(np.arange(len(tastes)), per_taste)
    if seeds is None:
        rows = np.array([_row(pipeline, taste) for taste in tastes])[place]
        seeds = sample_seeds(seed, rows, np.tile(np.arange(per_taste), len(tastes)))
    elif np.shape(seeds) != place.shape:
        raise DataError(f"seeds have to be one a sample, {place.shape}, got {np.shape(seeds)}")
    steers = [
        Steer(source=s.source, vectors=s.vectors[place], weights=s.weights[place])
        for s in _steers(pipeline, parts, weights)
    ]
    media, latents = draw(pipeline, steers, seeds=seeds, decode=decode, progress=progress)
    known = np.array([any(part.vector.any() for part in of) for of in parts])
    return Generation(
        user_ids=place,
        media=media,
        latents=latents,
        seeds=seeds,
        personal=known[place],
        can_fold_in=pipeline.factors.can_fold_in,
    )


def calibrated(pipeline: Pipeline, user_rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the calibrated guidance of users (N,)."""
    lengths = np.diff(pipeline.interactions.user_items.indptr)[user_rows]
    return load_guidance(pipeline.folder)(lengths)


def scales_of(
    pipeline: Pipeline, tastes: Sequence[Taste], guidance: Guidance | Literal["calibrated"]
) -> list[Guidance]:
    """Return guidance for each taste; of calibrated one that of as many items as are liked.

    A group counts with the mean history of its users. What is asked for by category or text alone
    is known well: it gets what the longest history gets.
    """
    if not isinstance(guidance, str):
        return [guidance] * len(tastes)
    if guidance != "calibrated":
        raise DataError(f"guidance has to be numbers or 'calibrated', got {guidance!r}")
    lengths = np.diff(pipeline.interactions.user_items.indptr)
    scale = load_guidance(pipeline.folder)
    known = []
    for taste in tastes:
        liked = float(len(taste.liked))
        if len(taste.users):
            rows = pipeline.factors.users.rows(list(taste.users))
            liked += float(np.average(lengths[rows], weights=taste.shares))
        asked = taste.category is not None or taste.text is not None
        known.append(math.inf if asked and liked == 0 else liked)
    return list(scale(known).tolist())


def taste_parts(pipeline: Pipeline, taste: Taste) -> list[_Part]:
    """Return what a taste says in terms of the pipeline's sources.

    Raises
    ------
    DataError
        If a user, an item or a category is unknown, or the run lacks the source that is needed.
    """
    parts = []
    if len(taste.users):
        parts.append(_Part(name="users", source=USER, vector=_of_users(pipeline, taste)))
    for name, items in ((LIKED, taste.liked), (DISLIKED, taste.disliked)):
        if len(items):
            source, vector = _of_items(pipeline, items)
            parts.append(_Part(name=name, source=source, vector=vector))
    if taste.category is not None:
        vector = _of_category(pipeline, taste.category)
        parts.append(_Part(name=CATEGORY, source=CATEGORY, vector=vector))
    for name, text in ((TEXT, taste.text), (NOT_TEXT, taste.not_text)):
        if text is not None:
            parts.append(_Part(name=name, source=TEXT, vector=_of_text(pipeline, text)))
    return parts


def _of_users(pipeline: Pipeline, taste: Taste) -> NDArray[np.float32]:
    """Return the mean factor of those users who have one; zeros where nobody has."""
    rows, shares = pipeline.factors.users.rows(IdMap(taste.users).ids), np.array(taste.shares)
    counted = shares * pipeline.factors.known_users[rows]
    total = counted.sum()
    if total == 0:
        return np.zeros(pipeline.factors.num_factors, np.float32)
    mean = (counted / total) @ pipeline.factors.user_factors[rows]
    return np.asarray(mean, np.float32)


def _of_items(pipeline: Pipeline, items: Sequence[Any]) -> tuple[str, NDArray[np.float32]]:
    """Return the source that hears about examples, and what it is told."""
    if EXAMPLES not in pipeline.conditioner.names:
        return USER, pipeline.fold_in(items)
    rows = pipeline.latents.items.rows(IdMap(items).ids)
    grid = pipeline.conditioner.config.grid
    mean = example_embeddings(pipeline.latents.z[rows], grid=grid).mean(axis=0)
    return EXAMPLES, np.asarray(mean, np.float32)


def _of_category(pipeline: Pipeline, category: str) -> NDArray[np.float32]:
    _require_source(pipeline, CATEGORY, "name liked items of that category")
    names = pipeline.conditioner.config.categories
    if category not in names:
        raise DataError(f"there is no category {category!r}; there are {', '.join(names)}")
    return np.asarray(category_vectors([category], names)[0], np.float32)


def _of_text(pipeline: Pipeline, text: str | NDArray[np.float32]) -> NDArray[np.float32]:
    instead = "move latents by pipeline.text_shift: generate_for(shift=...)"
    _require_source(pipeline, TEXT, instead)
    if isinstance(text, str):
        text = np.asarray(pipeline.encode_text([text])[0], np.float32)
    length = pipeline.conditioner[TEXT].config.num_factors
    if np.shape(text) != (length,):
        raise DataError(
            f"the embedding of a text has to be ({length},), got {np.shape(text)}; use the model "
            "of the run's text_features"
        )
    return np.asarray(text, np.float32)


def _require_source(pipeline: Pipeline, name: str, instead: str) -> None:
    if name not in pipeline.conditioner.names:
        raise DataError(
            f"this run's base has no source of conditions '{name}', only "
            f"{', '.join(pipeline.conditioner.names)}; set base.sources.{name} (such as {{}}) and "
            f"run `ulrec condition`, or {instead}"
        )


def _weights(taste: Taste, guidance: Guidance) -> dict[str, float]:
    """Return the signed weight of each part that says something."""
    said = taste.said
    if isinstance(guidance, Mapping):
        if set(guidance) != set(said):
            raise DataError(
                f"guidance has to give a scale for each of {', '.join(said)}, which the taste says "
                f"something of, got {', '.join(guidance) or 'none'}"
            )
        scales = {name: float(guidance[name]) for name in said}
    else:
        pushing = [name for name in said if name in PUSHING]
        pull = float(guidance) / max(1, len(said) - len(pushing))
        push = DISLIKES_COUNT * float(guidance) / max(1, len(pushing))
        scales = {name: push if name in PUSHING else pull for name in said}
    if not all(math.isfinite(scale) for scale in scales.values()):
        raise DataError(f"guidance has to be finite, got {guidance}")
    return {name: -scale if name in PUSHING else scale for name, scale in scales.items()}


def _steers(
    pipeline: Pipeline, parts: Sequence[Sequence[_Part]], weights: Sequence[Mapping[str, float]]
) -> list[Steer]:
    """Lay the parts of T tastes beside one another: the nth of a source in its nth steer."""
    places: dict[tuple[str, int], list[tuple[int, _Part]]] = {}
    for row, of_taste in enumerate(parts):
        taken: dict[str, int] = {}
        for part in of_taste:
            number = taken.get(part.source, 0)
            taken[part.source] = number + 1
            places.setdefault((part.source, number), []).append((row, part))
    steers = []
    for (source, _), of_steer in places.items():
        length = pipeline.conditioner[source].config.num_factors
        vectors = np.zeros((len(parts), length), np.float32)
        scale = np.zeros(len(parts))
        for row, part in of_steer:
            vectors[row] = part.vector
            scale[row] = weights[row][part.name]
        steers.append(Steer(source=source, vectors=vectors, weights=scale))
    return steers


def _row(pipeline: Pipeline, taste: Taste) -> int:
    """Return what seeds a taste: of one user alone their row, so that ``generate`` draws alike."""
    if taste.said == ("users",) and len(taste.users) == 1:
        return int(pipeline.factors.users.rows(list(taste.users))[0])
    said = [
        [str(value) for value in (taste.users, taste.shares, taste.liked, taste.disliked)],
        [
            value if isinstance(value, str) else np.asarray(value, np.float64).tolist()
            for value in (taste.category, taste.text, taste.not_text)
            if value is not None
        ],
    ]
    return -1 - int(digest(said), 16)
