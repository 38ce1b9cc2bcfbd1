"""Several sources of conditions beside one another, each with its own null and dropout.

A base that listens to several is guided by each alone (METHOD.md section 3):

    guided = null + sum_i w_i (cond_i - null),  cond_i: source i, the others at their nulls.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ulrec.conditioning.source import Source, SourceConfig
from ulrec.diffusion.draws import rows, uniform
from ulrec.networks.transformer import Cond

__all__ = ["CATEGORY", "EXAMPLES", "NAMES", "TEXT", "USER", "Sources", "SourcesConfig"]

USER, EXAMPLES, CATEGORY, TEXT = NAMES = ("user", "examples", "category", "text")
"""The sources there are, in the order of their tokens."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SourcesConfig:
    """What a base listens to; None leaves a source out.

    Attributes
    ----------
    user
        Factors of collaborative filtering.
    examples
        The mean embedding of a few liked items: their latents, pooled.
    category
        One number for each of ``categories``, 1 for the item's own.
    text
        Embeddings of texts, stored per item while it is trained.
    alone
        Share of the training samples that keep one source at most, as guidance asks for them; in
        the others each is kept or dropped by its own ``dropout``.
    grid
        Cells a side that the latents of examples are pooled to; it has to divide their h and w.
    max_examples
        Training draws 1 to so many examples for each pair.
    categories
        The names, in the order of the vector; a run takes them from its catalogue.
    """

    user: SourceConfig | None = None
    examples: SourceConfig | None = None
    category: SourceConfig | None = None
    text: SourceConfig | None = None
    alone: float = 0.5
    grid: int = 2
    max_examples: int = 5
    categories: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.alone <= 1:
            raise ValueError(f"alone has to lie in [0, 1], got {self.alone}")
        if self.grid < 1 or self.max_examples < 1:
            raise ValueError(
                f"grid and max_examples have to be at least 1, got {self.grid} and "
                f"{self.max_examples}"
            )
        widths = {name: source.width for name, source in self.named().items()}
        if len(set(widths.values())) > 1:
            raise ValueError(f"the tokens of all sources need one width, got {widths}")

    def named(self) -> dict[str, SourceConfig]:
        """Return the sources that are there, in their order."""
        named = ((name, getattr(self, name)) for name in NAMES)
        return {name: source for name, source in named if source is not None}


class Sources(nn.Module):
    """Vectors by source -> one condition: all tokens beside one another, and the mean shift.

    A vector of zeros says nothing: the null takes its place. Each shift predicts the same mean of
    latents, which is why those in use are averaged and not summed.
    """

    def __init__(self, config: SourcesConfig, sources: Mapping[str, Source] | None = None) -> None:
        super().__init__()
        if not config.named():
            raise ValueError(f"there has to be a source; configure one of {', '.join(NAMES)}")
        self.config = config
        built = sources or {name: Source(source) for name, source in config.named().items()}
        self.sources = nn.ModuleDict({name: built[name] for name in config.named()})

    @classmethod
    def of_users(cls, user: Source) -> Sources:
        """Return a trained source of users as the only one."""
        return cls(SourcesConfig(user=user.config), {USER: user})

    @property
    def names(self) -> tuple[str, ...]:
        """The sources that are there, in their order."""
        return tuple(self.sources)

    def __getitem__(self, name: str) -> Source:
        """Return one source.

        Raises
        ------
        ValueError
            If it is not there.
        """
        if name not in self.sources:
            raise ValueError(
                f"there is no source '{name}' here, only {', '.join(self.names)}; set "
                f"base.sources.{name} and run `ulrec condition` again"
            )
        found = self.sources[name]
        assert isinstance(found, Source)
        return found

    def fit(self, vectors: Mapping[str, Tensor], z: Tensor, rows: Tensor) -> None:
        """Fit scales and shifts to training pairs, of each source where its vector says something.

        Parameters
        ----------
        vectors
            By source (P, R).
        z
            All latents, (I, D, f, h, w).
        rows
            Row of the item of each pair in ``z``, (P,).

        Raises
        ------
        ValueError
            If a source says nothing about any pair.
        """
        for name in self.names:
            said = vectors[name].any(1)
            if not said.any():
                raise ValueError(f"the source '{name}' says nothing about any pair; leave it out")
            self[name].standardise(vectors[name][said])
            if self[name].config.latent_shape is not None:
                self[name].fit_shift(vectors[name][said], z, rows[said])

    def forward(
        self, vectors: Mapping[str, Tensor], *, keep: Mapping[str, Tensor] | None = None
    ) -> Cond:
        """Return the condition of each sample.

        Parameters
        ----------
        vectors
            By source (B, R); a source that is left out is at its null.
        keep
            By source (B,) bool: where False the null takes a vector's place.

        Raises
        ------
        ValueError
            If there is no vector, a source is not there, or a vector is of another length.
        """
        if not vectors:
            raise ValueError(f"a condition needs vectors of one of {', '.join(self.names)}")
        for name in vectors:
            self[name]
        num = len(next(iter(vectors.values())))
        conds, shifts, used = [], [], []
        for name in self.names:
            if name not in vectors:
                conds.append(self[name].null(num))
                continue
            said = vectors[name].any(1)
            kept = said if keep is None or name not in keep else said & keep[name]
            conds.append(self[name](vectors[name], keep=kept))
            if conds[-1].shift is not None:
                shifts.append(conds[-1].shift)
                used.append(kept)
        shift = None
        if shifts:
            num_used = torch.stack(used).sum(0).clamp(min=1)
            shift = torch.stack(shifts).sum(0) / num_used[:, None, None, None, None]
        return _joined(conds, shift)

    def null(self, num: int) -> Cond:
        """Return the condition that says nothing, ``num`` times."""
        return _joined([self[name].null(num) for name in self.names], None)

    def drop(self, num: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Return by source which of ``num`` training samples keep their vector, (num,) bool."""
        kept = {name: self[name].drop(num, generator) for name in self.names}
        device = generator.device
        alone = uniform(num, generator) < self.config.alone

        def choose(num: int) -> Tensor:
            return torch.randint(len(self.names), (num,), generator=generator, device=device)

        chosen = rows(num, generator, choose)
        return {
            name: keep & (~alone | (chosen == place)).to(keep.device)
            for place, (name, keep) in enumerate(kept.items())
        }


def _joined(conds: list[Cond], shift: Tensor | None) -> Cond:
    tokens = torch.cat([cond.tokens for cond in conds], dim=1)  # (B, sum of N, E)
    return Cond(tokens, torch.cat([cond.mask for cond in conds], dim=1), shift)
