"""What a recommender engineer imports: a trained run that generates and recommends.

::

    from ulrec import Pipeline

    pipeline = Pipeline.load("runs/quickstart")
    made = pipeline.generate(["u00001"], per_user=4, guidance=2.0, seed=0)
    table = pipeline.recommend(["u00001"], k=10, by="generate")
"""

from ulrec.pipeline.generation import Generation, decoder_seeds, sample_seeds
from ulrec.pipeline.hybrid import Hybrid
from ulrec.pipeline.parts import (
    ARTEFACTS,
    load_autoencoder,
    load_base,
    load_conditioner,
    load_interactions,
    load_items,
)
from ulrec.pipeline.pipeline import Pipeline
from ulrec.pipeline.ranking import LikelihoodConfig
from ulrec.pipeline.taste import Taste

__all__ = [
    "ARTEFACTS",
    "Generation",
    "Hybrid",
    "LikelihoodConfig",
    "Pipeline",
    "Taste",
    "decoder_seeds",
    "load_autoencoder",
    "load_base",
    "load_conditioner",
    "load_interactions",
    "load_items",
    "sample_seeds",
]
