"""P(like | user, picture) by a model that knows real train likes only, in features of its own.

A generator is steered by collaborative filtering and draws in its own latents. The verifier sees
neither: a user is the mean of what they liked in features that the generator never met, so that
what it says of a picture is a second opinion. How much that opinion is worth, its AUROC on real
held-out items, is measured when it is made and goes with every score.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.special import expit

from ulrec.errors import DataError
from ulrec.evaluation.auroc import HeldoutAuroc, heldout_auroc
from ulrec.evaluation.classification import Classifier, fit_classifier
from ulrec.evaluation.features import unit_rows
from ulrec.evaluation.personalization import Generated, Taste
from ulrec.evaluation.protocol import Protocol
from ulrec.evaluation.scores import UserScores, score_arms

__all__ = ["Verifier", "VerifierConfig", "VerifierScores", "fit_verifier", "training_pairs"]

FloatArray = NDArray[np.float64]
Rows = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class VerifierConfig:
    """How a verifier is fitted.

    Attributes
    ----------
    num_components
        Principal components of the features that it looks at; fewer where there are fewer.
    penalty
        Strength of the L2 penalty of the logistic regression.
    max_pairs
        Train likes to learn from, drawn at random where there are more. Each stands beside one
        item, uniformly drawn, that existed and that its user has not liked.
    """

    num_components: int = 64
    penalty: float = 1e-2
    max_pairs: int = 20_000


@dataclass(frozen=True, kw_only=True)
class VerifierScores(UserScores):
    """P(like) of every user under every arm, with what the verifier is worth on real items."""

    auroc: HeldoutAuroc


@dataclass(frozen=True, kw_only=True)
class Verifier:
    """A model of likes and its AUROC on real held-out items; made by :func:`fit_verifier`.

    ``auroc`` is over all items that a user has not seen, ``auroc_new`` over those that train never
    showed, as which generated pictures count; None where there are none to judge by. ``num_pairs``
    likes and as many other items were learned from, features of ``backbone``.
    """

    model: _Model
    auroc: HeldoutAuroc
    auroc_new: HeldoutAuroc | None
    backbone: str
    num_pairs: int

    def score(self, arms: Mapping[str, Generated], *, protocol: Protocol) -> VerifierScores:
        """Return P(like | user, picture) under every arm, averaged over each user's pictures.

        A like and an item not liked are equally probable to the model before it looks.

        Parameters
        ----------
        arms
            Media by arm; who they were made for is who is asked.
        protocol
            How the media came about.

        Raises
        ------
        DataError
            If the media are described in other features, nobody is covered, or the verifier
            picked the media.
        """
        if protocol.backbone != self.backbone:
            raise DataError(
                f"the verifier knows features of {self.backbone}, the media are described by "
                f"{protocol.backbone}; extract both with one backbone"
            )
        scores = score_arms(
            arms, self.model.users, self.model.of_media, name="verifier", protocol=protocol
        )
        return VerifierScores(
            name=scores.name,
            user_idx=scores.user_idx,
            arms=scores.arms,
            protocol=protocol,
            num_without_media=scores.num_without_media,
            num_without_history=scores.num_without_history,
            auroc=self.auroc,
        )


def fit_verifier(
    train: Taste,
    heldout: Taste,
    *,
    known_items: Rows,
    backbone: str,
    config: VerifierConfig | None = None,
    seed: int,
    num_resamples: int = 1000,
) -> Verifier:
    """Fit on train likes and measure on held-out ones.

    Logistic regression of like on [p * q, q]: q are the components of an item, p their mean over
    the user's *other* train likes, so that no like explains itself. It weighs the directions of a
    cosine, and how much anyone likes each of them.

    Parameters
    ----------
    train
        Train likes only. No factors enter, which might have seen more.
    heldout
        What users liked later, of the same items; a pair that is in train too is refused.
    known_items
        Rows of the items that existed in train: negatives and components come from them.
    backbone
        Of the features, which may not be what the generator was trained in.
    config
        Sizes and penalty.
    seed
        Of pairs, negatives and bootstrap.
    num_resamples
        Bootstrap resamples over users, of the AUROC.

    Raises
    ------
    DataError
        If features are not usable or not of the same items, held-out pairs are in train, nobody
        has two train likes, or fewer than two users can be judged on held-out items.
    """
    config = VerifierConfig() if config is None else config
    _check_apart(train, heldout)
    model, num_pairs = _fit(train, np.unique(known_items), config, seed)
    items = model.components(unit_rows("items", heldout.features))

    def check(among: Rows | None) -> HeldoutAuroc:
        return heldout_auroc(
            lambda user: model.decision(user, items),
            heldout,
            history=train,
            among=among,
            seed=seed,
            num_resamples=num_resamples,
        )

    new = np.setdiff1d(np.arange(len(items)), known_items)
    liked_new = np.isin(heldout.item_idx, new) & np.isin(heldout.user_idx, model.users)
    return Verifier(
        model=model,
        auroc=check(None),
        auroc_new=check(new) if len(np.unique(heldout.user_idx[liked_new])) > 1 else None,
        backbone=backbone,
        num_pairs=num_pairs,
    )


@dataclass(frozen=True, kw_only=True)
class _Model:
    """``centre`` (d,) and ``directions`` (d, K) give components; ``profiles`` (U, K) of users."""

    centre: FloatArray
    directions: FloatArray
    users: Rows
    profiles: FloatArray
    classifier: Classifier

    def components(self, unit: FloatArray) -> FloatArray:
        """Return the components (N, K) of unit features (N, d)."""
        if unit.shape[1] != len(self.centre):
            raise DataError(
                f"the verifier knows {len(self.centre)} features, got {unit.shape[1]}; use one "
                "backbone"
            )
        return np.asarray((unit - self.centre) @ self.directions)

    def decision(self, user: int, components: FloatArray) -> FloatArray:
        """Return the logit (N,) of a user liking what has these components (N, K)."""
        profile = self.profiles[np.searchsorted(self.users, user)]
        logits = self.classifier.decision(_inputs(profile, components))
        return np.asarray(logits[:, 1] - logits[:, 0])

    def of_media(self, user: int, unit: FloatArray) -> FloatArray:
        """Return P(like) (m,) of unit features (m, d)."""
        return np.asarray(expit(self.decision(user, self.components(unit))), np.float64)


def training_pairs(
    train: Taste, known_items: Rows, *, max_pairs: int, seed: int
) -> tuple[Rows, Rows]:
    """Return which train pairs to learn from (n,), and beside each an item its user lacks (n,).

    Users with one like are left out, and so is who likes all that is known. The other items are
    uniform over what is left of the known ones.

    Raises
    ------
    DataError
        If nothing is left to learn from.
    """
    known = np.unique(known_items)
    users, owner, counts = np.unique(train.user_idx, return_inverse=True, return_counts=True)
    likes = _matrix(owner, train.item_idx, (len(users), len(train.features)))
    unseen = len(known) - np.asarray(likes[:, known].sum(axis=1)).ravel()
    usable = np.flatnonzero((counts[owner] > 1) & (unseen[owner] > 0))
    if len(usable) == 0:
        raise DataError(
            "no user has two train likes and an item they have not liked; the verifier has "
            "nothing to learn from"
        )
    rng = np.random.default_rng(seed)
    pairs = np.sort(rng.permutation(usable)[:max_pairs])
    others = rng.choice(known, len(pairs))
    while len(seen := np.flatnonzero(np.asarray(likes[owner[pairs], others]).ravel())):
        others[seen] = rng.choice(known, len(seen))
    return pairs, np.asarray(others, np.int64)


def _fit(train: Taste, known: Rows, config: VerifierConfig, seed: int) -> tuple[_Model, int]:
    """Return the model and the number of likes that it learned from."""
    unit = unit_rows("items", train.features)
    centre, directions = _principal(unit[known], config.num_components)
    components = (unit - centre) @ directions
    users, owner, counts = np.unique(train.user_idx, return_inverse=True, return_counts=True)
    totals = _matrix(owner, train.item_idx, (len(users), len(unit))) @ components
    pairs, others = training_pairs(train, known, max_pairs=config.max_pairs, seed=seed)
    who, liked = owner[pairs], components[train.item_idx[pairs]]
    profiles = (totals[who] - liked) / (counts[who] - 1)[:, None]
    inputs = np.concatenate([_inputs(profiles, liked), _inputs(profiles, components[others])])
    labels = np.repeat([1, 0], len(pairs))
    model = _Model(
        centre=centre,
        directions=directions,
        users=users,
        profiles=totals / counts[:, None],
        classifier=fit_classifier(inputs, labels, num_classes=2, penalty=config.penalty),
    )
    return model, len(pairs)


def _matrix(rows: Rows, columns: Rows, shape: tuple[int, int]) -> sparse.csr_matrix:
    return sparse.csr_matrix((np.ones(len(rows)), (rows, columns)), shape=shape)


def _inputs(profiles: FloatArray, components: FloatArray) -> FloatArray:
    return np.concatenate([profiles * components, components], axis=1)


def _principal(unit: FloatArray, num: int) -> tuple[FloatArray, FloatArray]:
    """Return the mean (d,) and the first directions (d, K), scaled to components of length one."""
    centre = unit.mean(axis=0)
    values, vectors = np.linalg.eigh(np.cov(unit, rowvar=False, bias=True))
    kept = np.flatnonzero(values > 1e-10 * values[-1])[::-1][:num]
    if len(kept) == 0:
        raise DataError("all items have the same features: nothing can be told apart")
    return centre, np.asarray(vectors[:, kept] / np.sqrt(values[kept].sum()))


def _check_apart(train: Taste, heldout: Taste) -> None:
    """Refuse held-out pairs that the verifier would learn from."""
    if np.shape(train.features) != np.shape(heldout.features):
        raise DataError(
            f"train and held-out likes have to be of the same items, got features "
            f"{np.shape(train.features)} and {np.shape(heldout.features)}"
        )
    num = len(train.features)
    both = np.intersect1d(
        train.user_idx * num + train.item_idx, heldout.user_idx * num + heldout.item_idx
    )
    if len(both):
        raise DataError(
            f"{len(both)} held-out likes are in train too: the verifier would have seen what it is "
            "judged on; pass train likes only"
        )
