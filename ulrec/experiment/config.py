"""Configuration of a whole run; each section stands beside the class it configures."""

from __future__ import annotations

from dataclasses import dataclass, field

from ulrec.cf.registry import CFConfig
from ulrec.conditioning.sources import SourcesConfig
from ulrec.conditioning.user import UserConditionerConfig
from ulrec.data.media import MediaConfig
from ulrec.data.simulate import SimulationConfig
from ulrec.data.splits import SplitConfig
from ulrec.diffusion.sampler import SamplerConfig
from ulrec.diffusion.weighting import Weighting
from ulrec.models.unified import UnifiedConfig
from ulrec.networks.transformer import TransformerConfig
from ulrec.retrieval.query import QueryConfig
from ulrec.retrieval.structures import IndexConfig
from ulrec.training.compute import ComputeConfig
from ulrec.training.datamodule import AugmentConfig
from ulrec.training.fit import FitConfig
from ulrec.training.stability import CollapseConfig

__all__ = [
    "BaseStage",
    "CurveStage",
    "DataStage",
    "EvaluateStage",
    "GenerateStage",
    "HybridStage",
    "IndexStage",
    "LatentsStage",
    "PriorSamplesStage",
    "RunConfig",
    "TextStage",
]


@dataclass(frozen=True, kw_only=True, slots=True)
class DataStage:
    """Where the catalogue and the interactions come from.

    Attributes
    ----------
    catalogue
        Table of items [item_id, image | path, ...]; see ``datasets/`` for two.
    media_root
        What ``path`` is relative to; the catalogue's folder by default.
    interactions
        Table [user_id, item_id, (timestamp), (weight)]; None draws *simulated* users.
    min_weight
        Keep interactions of at least this weight, as likes; 0 keeps all with their weights.
    heldout_share
        Share of items kept from the generator, by concept, where the catalogue has no split.
    max_items
        Use only the first items of the catalogue; None uses all.
    media, simulation, split
        How pictures are prepared, users drawn, interactions split. Under a global time split of
        simulated users the test period starts when the held-out items are released.
    """

    catalogue: str = "datasets/fluent_emoji/stills.parquet"
    media_root: str | None = None
    interactions: str | None = None
    min_weight: float = 0.0
    heldout_share: float = 0.1
    max_items: int | None = None
    media: MediaConfig = MediaConfig()
    simulation: SimulationConfig = SimulationConfig()
    split: SplitConfig = SplitConfig()


@dataclass(frozen=True, kw_only=True, slots=True)
class LatentsStage:
    """Stage 1.

    Attributes
    ----------
    pretrained
        A shipped model ("emoji32") or a folder written by ``ulrec export``, to use as it is: the
        fields below then say nothing. None trains.
    start_from
        Such a model whose weights the training starts from, at any size of the media; ``model`` has
        to ask for the same networks, but for layers in time and further channels of the latent.
        None starts from nothing.
    model, fit, augment
        The model, how it is trained, and how the pictures vary meanwhile.
    collapse
        When the training is stopped because the latent carries nothing; null never stops it.
    """

    pretrained: str | None = None
    start_from: str | None = None
    model: UnifiedConfig = UnifiedConfig()
    fit: FitConfig = FitConfig()
    augment: AugmentConfig = AugmentConfig()
    collapse: CollapseConfig | None = CollapseConfig()

    def __post_init__(self) -> None:
        if self.pretrained is not None and self.start_from is not None:
            raise ValueError(
                f"pretrained '{self.pretrained}' is used as it is, start_from '{self.start_from}' "
                "is trained on; set one of them"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class TextStage:
    """What items say and show, by a CLIP model: to search by text and to steer by it.

    Attributes
    ----------
    pretrained
        A shipped CLIP model ("emoji_clip") or a component folder; with ``model`` a tag of
        open_clip's or a file of weights. None leaves the stage out.
    model
        An architecture of open_clip's, such as "ViT-B-32".
    template
        What is said of an item: columns of the catalogue in braces.
    phrasings
        Other ways to say it, likewise, wider ones too ("{category}"): a base that hears texts
        (``base.sources.text``) is told one of all for each training sample, so that it knows words
        for kinds of things beside names. Searching uses ``template`` alone.
    """

    pretrained: str | None = None
    model: str | None = None
    template: str = "{name}"
    phrasings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class BaseStage:
    """Stage 2: an unconditional base first, then the same with users as its condition.

    Attributes
    ----------
    pretrained
        A shipped unconditional base ("emoji32"), or one in a folder written by ``ulrec export``, to
        start users from: network, weighting and unconditional then say nothing. It has to be that
        of the run's autoencoder. None trains one.
    start_from
        Such a base whose weights the unconditional training starts from, of any autoencoder;
        ``network`` has to ask for the same, but for layers in time; the latents may have further
        channels. None starts from nothing.
    network, weighting
        Of the base.
    given_frames
        Frames of media that the conditional base learns to go on from; 0 for none.
    given_dropout
        Share of its training samples that are given none, for guidance.
    conditioner
        Of users; ``num_factors`` and ``latent_shape`` are taken from factors and latents.
    sources
        Beside users, which ``conditioner`` configures: examples, category, text. None by default.
        The lengths of vectors, shapes and names are taken from the data.
    unconditional, conditional
        How each of the two is trained.
    conditional_weighting
        Of the noise levels while users are learnt; None keeps the base's. Users differ where there
        is much noise: a lower bias puts more of the training there.
    """

    pretrained: str | None = None
    start_from: str | None = None
    network: TransformerConfig = TransformerConfig(width=160, depth=4)
    weighting: Weighting = Weighting(name="sigmoid", bias=-4.0)
    given_frames: int = 0
    given_dropout: float = 0.5
    conditioner: UserConditionerConfig = UserConditionerConfig()
    sources: SourcesConfig = SourcesConfig()
    unconditional: FitConfig = FitConfig(batch_size=64)
    conditional: FitConfig = FitConfig(batch_size=64)
    conditional_weighting: Weighting | None = None

    def __post_init__(self) -> None:
        if self.pretrained is not None and self.start_from is not None:
            raise ValueError(
                f"pretrained '{self.pretrained}' is used as it is, start_from '{self.start_from}' "
                "is trained on; set one of them"
            )
        if not 0 <= self.given_dropout <= 1:
            raise ValueError(f"given_dropout has to lie in [0, 1], got {self.given_dropout}")
        if self.sources.user is not None:
            raise ValueError("users are configured by base.conditioner, not by base.sources.user")
        for name, source in self.sources.named().items():
            if source.width != self.conditioner.width:
                raise ValueError(
                    f"the tokens of all sources need one width, got {source.width} of {name} and "
                    f"{self.conditioner.width} of base.conditioner"
                )


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexStage:
    """What latents are searched by, and whether every one is looked at."""

    query: QueryConfig = QueryConfig()
    structure: IndexConfig = IndexConfig()


@dataclass(frozen=True, kw_only=True, slots=True)
class GenerateStage:
    """What is generated for evaluation.

    Attributes
    ----------
    num_users
        Users with a history and held-out items, drawn at random; fewer if there are fewer.
    per_user
        Pictures for each.
    guidance
        w in null + w (user - null).
    sampler, decoder
        How latents are drawn, and how they are decoded.
    popular_items
        How many of the most popular items make up the history of the "popular" control.
    fans_per_category
        Made-up users that liked one category only, a picture for each; 0 draws none.
    fan_history
        Items in the history of a fan, fewer where the category has fewer.
    fan_categories
        At most so many categories have fans, those with most items.
    """

    num_users: int = 200
    per_user: int = 1
    guidance: float = 2.0
    sampler: SamplerConfig = SamplerConfig(num_steps=16)
    decoder: SamplerConfig = SamplerConfig(num_steps=16)
    popular_items: int = 30
    fans_per_category: int = 10
    fan_history: int = 20
    fan_categories: int = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluateStage:
    """How the run is judged.

    Attributes
    ----------
    reconstruction
        How held-out pictures are decoded for PSNR; one sample each.
    num_levels
        Noise levels a picture for bits and for the gain of z.
    num_resamples, num_permutations
        Bootstrap resamples and permutations.
    copy_quantile
        Quantile of real held-out pictures under which a generated one counts as a copy.
    sheet_users
        Users on the sheet.
    """

    reconstruction: SamplerConfig = SamplerConfig(num_steps=25)
    num_levels: int = 16
    num_resamples: int = 1000
    num_permutations: int = 9999
    copy_quantile: float = 0.01
    sheet_users: int = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class CurveStage:
    """What guidance buys, on validation users that are not among the evaluated ones.

    Attributes
    ----------
    guidances
        To draw at, each once.
    num_users
        Users with a history and validation interactions, drawn at random; fewer if there are fewer.
    """

    guidances: tuple[float, ...] = (0.0, 1.0, 2.0, 3.0, 4.0, 6.0)
    num_users: int = 100

    def __post_init__(self) -> None:
        if not self.guidances or len(set(self.guidances)) != len(self.guidances):
            raise ValueError(f"guidances have to be numbers, each once, got {self.guidances}")


@dataclass(frozen=True, kw_only=True, slots=True)
class HybridStage:
    """How a hybrid is fitted, on validation users that are not among the evaluated ones.

    Attributes
    ----------
    num_users
        Users with a history and validation interactions, drawn at random; fewer if there are fewer.
    per_user
        Generated for each, at the guidance and by the sampler of ``generate``.
    steps
        Weights are multiples of 1 / steps.
    betas
        Weights of popularity that are tried for the likelihood.
    """

    num_users: int = 300
    per_user: int = 1
    steps: int = 10
    betas: tuple[float, ...] = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0)

    def __post_init__(self) -> None:
        if min(self.num_users, self.per_user, self.steps) < 1:
            raise ValueError(
                f"num_users, per_user and steps have to be at least 1, got {self.num_users}, "
                f"{self.per_user} and {self.steps}"
            )
        if not self.betas or min(self.betas) < 0:
            raise ValueError(f"betas have to be numbers from 0, got {self.betas}")


@dataclass(frozen=True, kw_only=True, slots=True)
class PriorSamplesStage:
    """What is drawn from the stage-1 prior, to see what the second stage is for.

    Attributes
    ----------
    num
        Pictures.
    sampler, decoder
        How latents are drawn, and how they are decoded.
    """

    num: int = 200
    sampler: SamplerConfig = SamplerConfig(num_steps=50)
    decoder: SamplerConfig = SamplerConfig(num_steps=25)

    def __post_init__(self) -> None:
        if self.num < 2:
            raise ValueError(f"num has to be at least 2, got {self.num}")


@dataclass(frozen=True, kw_only=True, slots=True)
class RunConfig:
    """A run: ``folder``/``name`` is where everything goes, ``seed`` starts all randomness."""

    name: str = "default"
    folder: str = "runs"
    seed: int = 0
    data: DataStage = DataStage()
    latents: LatentsStage = LatentsStage()
    text: TextStage = TextStage()
    cf: CFConfig = field(default_factory=CFConfig)
    base: BaseStage = BaseStage()
    index: IndexStage = IndexStage()
    generate: GenerateStage = GenerateStage()
    evaluate: EvaluateStage = EvaluateStage()
    curve: CurveStage = CurveStage()
    prior_samples: PriorSamplesStage = PriorSamplesStage()
    hybrid: HybridStage = HybridStage()
    compute: ComputeConfig = ComputeConfig()

    def __post_init__(self) -> None:
        media, model = self.data.media, self.latents.model.autoencoder
        sizes = [
            (media.frames, media.height, media.width),
            (model.frames, model.height, model.width),
        ]
        if not 0 <= self.base.given_frames < media.frames:
            raise ValueError(
                f"base.given_frames has to lie in 0 .. {media.frames - 1}, below data.media.frames "
                f"{media.frames}; got {self.base.given_frames}"
            )
        if media.frames == 1 and self.generate.sampler.motion != 1:
            raise ValueError(
                f"generate.sampler.motion {self.generate.sampler.motion} is for clips and "
                "data.media.frames is 1; leave it out"
            )
        if sizes[0] != sizes[1]:
            raise ValueError(
                f"data.media prepares (F, H, W) = {sizes[0]}, latents.model.autoencoder takes "
                f"{sizes[1]}; set frames, height and width of both to the same"
            )
