"""Examples that go with a training pair: a few other items that its user likes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["ExampleDraws"]

Rows = NDArray[np.int64]


class ExampleDraws:
    """Draws for each pair (user, item) the mean embedding of other items of the same user.

    Parameters
    ----------
    embeddings
        Of all items, float32 (I, E).
    user_idx, item_rows
        The pairs, (P,) each; items are rows of ``embeddings``.
    max_examples
        At most so many examples.
    """

    def __init__(
        self,
        embeddings: NDArray[np.float32],
        user_idx: Rows,
        item_rows: Rows,
        *,
        max_examples: int,
    ) -> None:
        self.embeddings = embeddings
        self.max_examples = max_examples
        self.user_idx = user_idx
        order = np.argsort(user_idx, kind="stable")
        self._items = item_rows[order]
        self._starts = np.searchsorted(user_idx[order], np.arange(user_idx.max(initial=-1) + 2))
        self._place = np.empty_like(order)
        self._place[order] = np.arange(len(order))

    def __call__(self, pairs: Rows, rng: np.random.Generator) -> NDArray[np.float32]:
        """Return (B, E) for the pairs (B,): 1 to ``max_examples`` examples each, all numbers alike.

        Zeros where the user likes nothing else.
        """
        means = np.zeros((len(pairs), self.embeddings.shape[1]), np.float32)
        for mean, rows in zip(means, (self.rows(pair, rng) for pair in pairs), strict=True):
            if len(rows):
                mean[:] = self.embeddings[rows].mean(0)
        return means

    def rows(self, pair: int | np.int64, rng: np.random.Generator) -> Rows:
        """Return the rows of the examples drawn for one pair, never that of its own item."""
        start, stop = self._starts[self.user_idx[pair] :][:2]
        size = min(int(rng.integers(1, self.max_examples + 1)), int(stop - start) - 1)
        drawn = rng.choice(stop - start - 1, size=size, replace=False)
        own = self._place[pair] - start
        return np.asarray(self._items[start + drawn + (drawn >= own)], np.int64)
