"""The weights of a hybrid ranking, an artefact of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import yaml

from ulrec.checkpoint import MANIFEST, new_artefact, open_artefact, require_same
from ulrec.config import from_mapping, to_mapping
from ulrec.diffusion.sampler import SamplerConfig
from ulrec.errors import ConfigError

__all__ = ["MADE_FROM", "PARTS", "Hybrid"]

KIND = "hybrid"
MADE_FROM = ("latents", "conditioner", "index")
"""What has to be the same where a hybrid is used; factors may be refitted."""

PARTS = ("cf", "likelihood", "generate", "popularity")
"""What it mixes: rankings of :mod:`ulrec.pipeline.ranking`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Hybrid:
    """A mixture of scores, each standardised over a user's candidates.

    Attributes
    ----------
    weights
        Of each of :data:`PARTS`; they sum to 1.
    popularity
        beta of r + beta log(1 + n_i), for the likelihood alone.
    per_user, guidance, sampler
        Of what is generated for the part "generate".
    """

    weights: Mapping[str, float]
    popularity: float
    per_user: int = 1
    guidance: float = 2.0
    sampler: SamplerConfig = SamplerConfig()

    def __post_init__(self) -> None:
        if set(self.weights) != set(PARTS):
            raise ConfigError(
                f"a hybrid weighs {', '.join(PARTS)}, got weights of {', '.join(self.weights)}"
            )

    def save(self, folder: str | Path, *, made_from: Mapping[str, str], info: Any = None) -> None:
        """Write it as an artefact."""
        config = {**to_mapping(self), "weights": {n: float(w) for n, w in self.weights.items()}}
        with new_artefact(folder, kind=KIND, made_from=made_from, info=info) as temporary:
            text = yaml.safe_dump(config, sort_keys=False)
            (temporary / "config.yaml").write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, run: str | Path) -> Self | None:
        """Read the hybrid of a run; None where there is none.

        Raises
        ------
        ArtefactError
            If it is damaged or was fitted to other parts than lie beside it.
        """
        folder = Path(run) / KIND
        if not (folder / MANIFEST).is_file():
            return None
        made_from = open_artefact(folder, kind=KIND).made_from
        for name in MADE_FROM:
            require_same(
                f"the hybrid of {run} was fitted to another {name}",
                expected=open_artefact(Path(run) / name, kind=name, verify=False).fingerprint,
                got=made_from.get(name),
                remedy="run `ulrec fit-hybrid` again",
            )
        content = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
        sampler = from_mapping(SamplerConfig, content.pop("sampler"))
        return cls(sampler=sampler, **content)
