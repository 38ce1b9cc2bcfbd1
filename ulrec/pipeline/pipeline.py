"""The class behind ``from ulrec import Pipeline``."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from ulrec.cf.base import Recommender, recommend
from ulrec.cf.refit import Refit, refit
from ulrec.cf.registry import CFConfig, load_model
from ulrec.cf.registry import save_model as save_recommender
from ulrec.cf.taste import DISLIKES_COUNT, fold_in_items, recommend_for_taste
from ulrec.checkpoint import new_artefact, open_artefact
from ulrec.conditioning.sources import USER, Sources
from ulrec.data.factors import Factors
from ulrec.data.ids import IdMap
from ulrec.data.interactions import Interactions
from ulrec.data.latents import LatentStore
from ulrec.data.media import to_uint8
from ulrec.data.schema import ITEM_ID, USER_ID
from ulrec.data.tables import validate_interactions
from ulrec.diffusion.sampler import NoiseSource, SamplerConfig
from ulrec.errors import ArtefactError, DataError
from ulrec.models.autoencoder import Autoencoder
from ulrec.models.base import Base
from ulrec.models.rarity import bits_per_pixel, load_prior
from ulrec.pipeline.draw import SAMPLES_AT_ONCE, Steer, draw
from ulrec.pipeline.explain import beside_null, explain_by_history, factor_strip, histories_of
from ulrec.pipeline.generation import Generation, decoder_seeds, sample_seeds
from ulrec.pipeline.hybrid import Hybrid
from ulrec.pipeline.near import nearest, nearest_for_users, wanted
from ulrec.pipeline.novelty import novelty
from ulrec.pipeline.parts import (
    ARTEFACTS,
    OPTIONAL,
    as_media,
    load_autoencoder,
    load_base,
    load_conditioner,
    load_interactions,
    load_items,
    require_made_from,
    require_trained_on,
    space_of,
)
from ulrec.pipeline.plan import GenerationPlan, MarginModel, fit_margin, plan_generation
from ulrec.pipeline.prediction import continued
from ulrec.pipeline.ranking import LikelihoodConfig, Ratios, Wish, rank, surprise
from ulrec.pipeline.taste import Guidance, Taste, calibrated, generate_tastes, scales_of
from ulrec.pipeline.text import SHIFTED, Texts, heard_text, hears_text
from ulrec.retrieval.index import ItemIndex
from ulrec.retrieval.query import Projection, QueryConfig, fit_projection, load_projection

if TYPE_CHECKING:
    from ulrec.experiment.config import RunConfig
    from ulrec.experiment.runner import StageResult
    from ulrec.models.prior import Prior

__all__ = ["Pipeline"]

Ids = Sequence[Any] | NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class _NewData:
    """What stands in the place of a run's interactions, and what its factors relate to."""

    table: pl.DataFrame
    made_from: dict[str, str]


class Pipeline:
    """A trained run: generates for users, recommends, searches, encodes.

    Build one with :meth:`load` or :meth:`fit`. All methods are deterministic for a seed and do not
    depend on which users stand together in a call.
    """

    def __init__(
        self,
        folder: Path,
        *,
        items: pl.DataFrame,
        interactions: Interactions,
        autoencoder: Autoencoder,
        latents: LatentStore,
        factors: Factors,
        recommender: Recommender,
        base: Base,
        conditioner: Sources,
        projection: Projection,
        index: ItemIndex,
    ) -> None:
        self.folder = folder
        self.items = items
        self.interactions = interactions
        self.autoencoder = autoencoder
        self.latents = latents
        self.factors = factors
        self.recommender = recommender
        self.base = base
        self.conditioner = conditioner
        self.projection = projection
        self.index = index
        self.sampler = SamplerConfig(num_steps=25)
        self.decoder = SamplerConfig(num_steps=25)
        self._refit: _NewData | None = None
        self.likelihood = LikelihoodConfig()
        self.hybrid = Hybrid.load(folder)
        self.ratios = Ratios()
        self._prior: Prior | None = None
        self._plane: Projection | None = None
        self._texts: Texts | None = None

    @classmethod
    def fit(
        cls,
        interactions: str | Path | pl.DataFrame | None,
        media: str | Path | pl.DataFrame,
        *,
        folder: str | Path,
        catalogue: str | Path | pl.DataFrame | None = None,
        config: str | Path | RunConfig | None = None,
        overrides: Sequence[str] = (),
        until: str = "index",
        progress: Callable[[StageResult], None] | None = None,
        device: str = "cpu",
    ) -> Pipeline:
        """Train a pipeline on a catalogue of one's own: what ``ulrec init`` and ``ulrec run`` do.

        The same call goes on where an interrupted one stopped, and skips what is up to date.

        Parameters
        ----------
        interactions
            Who chose what: a table [user_id, item_id, (timestamp), (weight)], or a file of nearly
            any layout. None draws *simulated* users if there is no such table beside the media.
        media
            A folder of pictures named by item; or a table [item_id, path | image (encoded bytes)].
        folder
            Where the run goes.
        catalogue
            What is known of the items in a folder: a table [item_id, (path), (category), ...].
        config
            Settings to use in place of those that are proposed from what the data look like.
        overrides
            Settings that differ, such as "latents.fit.num_steps=2000".
        until
            The last stage: "index" trains all models, "report" evaluates them too.
        progress
            Called with the result of each stage as it ends.
        device
            Where the networks of the pipeline go.

        Returns
        -------
        Pipeline
            The trained run, as :meth:`load` returns it.

        Raises
        ------
        DataError
            If the data cannot be used; what is odd about them is logged as warnings.
        ConfigError
            If a setting is unknown or does not fit the pictures.

        Examples
        --------
        >>> likes = pl.DataFrame({"user_id": [1, 1], "item_id": [7, 8], "timestamp": [10, 20]})
        >>> pipeline = Pipeline.fit(likes, "shop/pictures", folder="runs/shop")  # doctest: +SKIP
        >>> made = pipeline.generate([1], per_user=4)  # doctest: +SKIP
        """
        from ulrec.experiment.fit import fit_pipeline  # the only door upwards: training is heavy

        return fit_pipeline(
            interactions,
            media,
            folder=folder,
            catalogue=catalogue,
            config=config,
            overrides=overrides,
            until=until,
            progress=progress,
            device=device,
        )

    @classmethod
    def load(cls, folder: str | Path, *, device: str = "cpu") -> Pipeline:
        """Load a run, checking that its parts were made from one another.

        Parameters
        ----------
        folder
            A run's folder, or one written by :meth:`save`.
        device
            Where the networks go, such as "cuda".

        Raises
        ------
        ArtefactError
            If a part is missing, damaged, or belongs to another run; the part is named.
        """
        folder = Path(folder)
        autoencoder, encoded_by = load_autoencoder(folder / "autoencoder")
        latents = LatentStore.open(folder / "latents")
        require_made_from(latents.manifest.made_from, "autoencoder", encoded_by, of="latents")
        base, made_from = load_base(folder / "base")
        require_made_from(made_from, "latents", latents.manifest.fingerprint, of="base")
        factors = Factors.load(folder / "factors")
        require_trained_on(folder, "base", factors)
        conditioner, _ = load_conditioner(folder / "conditioner")
        require_trained_on(folder, "conditioner", factors)
        return cls(
            folder,
            items=load_items(folder / "items"),
            interactions=load_interactions(folder / "interactions", factors.users, factors.items),
            autoencoder=autoencoder.to(device),
            latents=latents,
            factors=factors,
            recommender=load_model(folder / "recommender"),
            base=base.to(device),
            conditioner=conditioner.to(device),
            projection=load_projection(folder / "projection"),
            index=ItemIndex.load(
                folder / "index", made_from={"latents": latents.manifest.fingerprint}
            ),
        )

    def save(self, folder: str | Path) -> None:
        """Write what :meth:`load` needs to another folder: copies, and what was refitted.

        Raises
        ------
        ArtefactError
            If there is something at ``folder`` already.
        """
        folder = Path(folder)
        if folder.exists():
            raise ArtefactError(f"{folder} exists already; choose another place or remove it first")
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = folder.with_name(f".{folder.name}.tmp")
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        if self._refit is not None:
            self._save_refit(self._refit, temporary)
        there = [name for name in OPTIONAL if (self.folder / name).exists()]
        for name in (*ARTEFACTS, *there):
            if not (temporary / name).exists():
                shutil.copytree(self.folder / name, temporary / name)
        temporary.rename(folder)

    def refit_cf(
        self,
        interactions: pl.DataFrame,
        *,
        how: Literal["fold_in", "align"] = "fold_in",
        max_drift: float = 0.5,
        cf: CFConfig | None = None,
    ) -> Pipeline:
        """Return a pipeline that knows newer interactions and keeps the generator as it is.

        Parameters
        ----------
        interactions
            All up to now, [user_id, item_id, (timestamp), (weight)], weighted as the run's were.
            New users are welcome, new items are not; who is not there any more has no history.
        how
            "fold_in" keeps the items' factors and solves for all users: exact, for models that fold
            in. "align" fits collaborative filtering anew and rotates it to the old factors.
        max_drift
            How far "align" may leave items and users from the old factors, relative to their size
            (:class:`ulrec.cf.align.Drift`). These are the factors in this pipeline's folder: refit
            from a run rather than from what was refitted and saved, or drift adds up unseen.
        cf
            What "align" fits; by default what was fitted before.

        Returns
        -------
        Pipeline
            After "align", ``factors.info["drift"]`` tells the drift.

        Raises
        ------
        DataError
            If the table is bad or names items that the catalogue lacks, the model cannot be
            refitted in this way, or the drift is beyond the limit.
        """
        table = validate_interactions(interactions)
        old = Factors.load(self.folder / "factors")
        start = Refit(model=self.recommender, old=old, config=cf, max_drift=max_drift)
        new = self._on_catalogue(table)
        refitted = refit(how, start, new)
        space = space_of(self.folder, str(old.fingerprint))
        other = copy.copy(self)
        other.interactions, other.recommender = new, refitted.model
        other.factors = refitted.factors
        other._refit = _NewData(table=table, made_from={refitted.relation: space})
        return other

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return self.base.network.embed.weight.device

    def generate(
        self,
        user_ids: Ids,
        *,
        per_user: int = 1,
        guidance: float | Literal["calibrated"] = 2.0,
        seed: int = 0,
        decode: bool = True,
        progress: Callable[[int], None] | None = None,
    ) -> Generation:
        """Generate media for users.

        Parameters
        ----------
        user_ids
            Whom for; each may stand once.
        per_user
            How many for each.
        guidance
            w in null + w (user - null): 0 ignores the user, 1 is plain, more is more personal.
            "calibrated": by the length of each history, as fitted for this run
            (:mod:`ulrec.pipeline.guidance`).
        seed
            With the user's row and the number of the sample it determines the sample.
        decode
            Without it ``media`` is empty, (0, C, F, H, W): enough to search.
        progress
            Called with the number of samples just made.

        Returns
        -------
        Generation
            For a user of whom nothing is known nobody in particular is drawn for; ``personal`` says
            so.

        Raises
        ------
        DataError
            If a user is unknown or named twice, or ``per_user`` is below 1.
        ArtefactError
            If guidance is to be calibrated and the run has no such artefact.
        """
        if per_user < 1:
            raise DataError(f"per_user has to be at least 1, got {per_user}")
        rows = self._user_rows(user_ids)
        known = self.factors.known_users[rows]
        user_rows = np.repeat(rows, per_user)
        seeds = sample_seeds(seed, user_rows, np.tile(np.arange(per_user), len(rows)))
        personal = np.repeat(known, per_user)
        media, latents = self.generate_for(
            self.factors.user_factors[user_rows],
            seeds=seeds,
            personal=personal,
            guidance=calibrated(self, user_rows) if guidance == "calibrated" else guidance,
            decode=decode,
            progress=progress,
        )
        return Generation(
            user_ids=self.factors.users[user_rows],
            media=media,
            latents=latents,
            seeds=seeds,
            personal=personal,
            can_fold_in=self.factors.can_fold_in,
        )

    def generate_for(
        self,
        factors: NDArray[np.float32],
        *,
        seeds: NDArray[np.int64],
        guidance: float | NDArray[np.floating[Any]],
        personal: NDArray[np.bool_] | None = None,
        away: NDArray[np.float32] | None = None,
        shift: NDArray[np.float32] | None = None,
        text: str | None = None,
        decode: bool = True,
        progress: Callable[[int], None] | None = None,
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """Generate for factors rather than users: folded in, averaged, or foreign ones.

        Parameters
        ----------
        factors
            One a sample, (N, R), in the space of the factors this run was trained with; of zeros
            nobody in particular is drawn for.
        seeds
            One a sample, (N,).
        guidance
            w in null + w (factor - null), one or one a sample.
        personal
            Where False the null takes the factor's place, (N,); all are personal by default.
        away
            What to keep away from, such as folded-in dislikes, (N, R): then w in
            null + w ((factor - null) - 1/2 (away - null)), a dislike counting half a like.
        shift
            What to move all latents by beside, (N, D, f, h, w): ``scale * text_shift(texts)`` adds
            scale (text - null) to the formula.
        text
            What to show beside, at a guidance that fits: heard by a base that was trained to
            (``base.sources.text``), else a shift by ``text_shift``.
        decode
            Without it the media are empty.
        progress
            Called with the number of samples just made.

        Returns
        -------
        media, latents
            Uint8 (N, C, F, H, W) and float32 (N, D, f, h, w).

        Raises
        ------
        DataError
            If a factor is NaN or infinite.
        """
        scale = np.broadcast_to(np.asarray(guidance, np.float64), len(factors))
        known = factors if personal is None else np.where(personal[:, None], factors, 0)
        steers = [Steer(source=USER, vectors=known, weights=scale)]
        if away is not None:
            steers.append(Steer(source=USER, vectors=away, weights=-DISLIKES_COUNT * scale))
        if text is not None and hears_text(self):
            steers.append(heard_text(self, text, num=len(factors)))
        elif text is not None:
            by = SHIFTED * np.repeat(self.text_shift([text]), len(factors), axis=0)
            shift = by if shift is None else shift + by
        return draw(self, steers, seeds=seeds, shift=shift, decode=decode, progress=progress)

    def continue_clips(
        self,
        clips: NDArray[np.uint8],
        user_ids: Ids | None = None,
        *,
        num_frames: int | None = None,
        guidance: float = 2.0,
        frames_guidance: float = 1.0,
        seed: int = 0,
        progress: Callable[[int], None] | None = None,
    ) -> NDArray[np.uint8]:
        """Generate what follows given frames.

        Parameters
        ----------
        clips
            Uint8 (N, C, K, H, W) at the run's size; of K frames the last ``given_frames`` of the
            base are gone on from.
        user_ids
            For whom each goes on, N ids, which may repeat; None goes on for nobody in particular.
        num_frames
            Frames of the answer, the given ones included; by default the model's own length. Longer
            clips are made window by window.
        guidance, frames_guidance
            Of the user and of the frames: null + w_f (frames - null) + w_u (frames and user -
            frames).
        seed
            With the place of a clip in the call it determines the sample.
        progress
            Called with the number of clips just made.

        Returns
        -------
        NDArray[np.uint8]
            (N, C, num_frames, H, W), the given frames first, unchanged.

        Raises
        ------
        DataError
            If the base was not trained to go on from frames, the clips do not fit, or a user is
            unknown.
        """
        factors = None
        if user_ids is not None:
            if len(user_ids) != len(clips):
                raise DataError(f"expected a user for each of {len(clips)} clips: {len(user_ids)}")
            factors = self.factors.user_factors[self.factors.users.rows(list(user_ids))]
        return continued(
            self,
            clips,
            num_frames=num_frames or self.autoencoder.config.frames,
            factors=factors,
            guidance=guidance,
            frames_guidance=frames_guidance,
            seed=seed,
            progress=progress,
        )

    def generate_taste(
        self,
        tastes: Sequence[Taste],
        *,
        per_taste: int = 1,
        guidance: Guidance | Literal["calibrated"] = 2.0,
        seed: int = 0,
        seeds: NDArray[np.int64] | None = None,
        decode: bool = True,
        progress: Callable[[int], None] | None = None,
    ) -> Generation:
        """Generate media for tastes: groups, examples, categories, texts, and what to avoid.

        Parameters
        ----------
        tastes
            :class:`ulrec.pipeline.Taste` each.
        per_taste
            How many for each.
        guidance
            The whole pull, which all parts of a taste share and of which what it dislikes has half;
            or by name a scale for each part that says something
            (:data:`ulrec.pipeline.taste.PARTS`). "calibrated": by the number of items that are
            known to be liked.
        seed
            With the taste and the number of the sample it determines the sample; of one user alone
            it is that of :meth:`generate`.
        seeds
            One a sample, (N,), in place of those; equal ones make tastes comparable.
        decode
            Without it ``media`` is empty.
        progress
            Called with the number of samples just made.

        Returns
        -------
        Generation
            ``user_ids`` holds the place of each sample's taste.

        Raises
        ------
        DataError
            If a user, an item or a category is unknown, a source is missing, or there is no taste.
        """
        return generate_tastes(
            self,
            tastes,
            per_taste=per_taste,
            guidance=scales_of(self, tastes, guidance),
            seed=seed,
            seeds=seeds,
            decode=decode,
            progress=progress,
        )

    def recommend(
        self,
        user_ids: Ids,
        *,
        k: int = 10,
        by: Literal["cf", "generate", "likelihood", "hybrid", "popularity"] = "cf",
        per_user: int = 4,
        guidance: float = 2.0,
        seed: int = 0,
        candidates: Ids | None = None,
        popularity: float | None = None,
    ) -> pl.DataFrame:
        """Recommend real items that the users have not seen.

        Parameters
        ----------
        user_ids
            Whom to.
        k
            How many each; where fewer items are left, all that are left come.
        by
            "cf": what collaborative filtering ranks highest (items without interactions have no
            score there worth the name). "generate": the real items nearest to what is generated for
            the user, an item's score being that of its nearest generation; items without any
            interaction take part alike. "likelihood": how much likelier an item is for the user,
            r + popularity log(1 + users of the item), by the law in ``likelihood``; one without
            interactions has r alone. "popularity": the most chosen ones, for everybody alike.
            "hybrid": a mixture of all these, whose weights `ulrec fit-hybrid` found.
        per_user, guidance
            Of what is generated; a hybrid keeps to those that it was fitted with.
        seed
            Of generation, and of the key that breaks ties.
        candidates
            Item ids of which alone some may come, each once; all by default.
        popularity
            Of the likelihood; None takes what `ulrec fit-hybrid` found.

        Returns
        -------
        polars.DataFrame
            [user_id, item_id, score, rank from 1].

        Raises
        ------
        DataError
            If a user is unknown or named twice, k is below 1, a candidate is unknown or named
            twice, or ``by`` is none of these.
        ArtefactError
            If weights are needed that were never fitted.
        """
        if candidates is not None or by not in ("cf", "generate"):
            wish = Wish(
                by=by,
                k=k,
                candidates=candidates,
                popularity=popularity,
                per_user=per_user,
                guidance=guidance,
                seed=seed,
            )
            return rank(self, self._user_rows(user_ids), wish)
        if by == "cf":
            return recommend(self.recommender, self.interactions, user_ids, k=k, seed=seed)
        made = self.generate(
            user_ids, per_user=per_user, guidance=guidance, seed=seed, decode=False
        )
        return self.recommend_near(made.user_ids, made.latents, k=k)

    def recommend_near(
        self,
        user_ids: Ids,
        latents: NDArray[np.float32],
        *,
        k: int,
        exclude: Ids = (),
        category: str | Sequence[str] | None = None,
        negatives: NDArray[np.float32] | None = None,
        distinct: float | None = None,
    ) -> pl.DataFrame:
        """Recommend the unseen items nearest to latents, each made for one user (N,).

        A user may have several latents; the best score of an item counts. ``exclude`` holds items
        that nobody gets; the rest is as in :meth:`neighbours`.
        """
        if k < 1:
            raise DataError(f"k has to be at least 1, got {k}")
        rows = self.factors.users.rows(user_ids)
        nobody = self.index.items.rows(list(exclude))
        seen = [
            np.union1d(self._index_rows(self.interactions.history(row)), nobody) for row in rows
        ]
        want = wanted(self, latents, category=category, negatives=negatives, distinct=distinct)
        return nearest_for_users(self, rows, want, k=k, exclude=seen)

    def neighbours(
        self,
        latents: NDArray[np.float32],
        *,
        k: int = 10,
        exclude: Sequence[Ids] | None = None,
        among: Ids | None = None,
        category: str | Sequence[str] | None = None,
        negatives: NDArray[np.float32] | None = None,
        distinct: float | None = None,
    ) -> pl.DataFrame:
        """Return the real items nearest to latents (N, D, f, h, w).

        Parameters
        ----------
        latents
            From :meth:`encode`, :meth:`generate`, or the store.
        k
            How many each.
        exclude
            Item ids that must not come back, a list for each latent.
        among
            Item ids of which alone some may come back, such as a history; all by default.
        category
            Of which alone some may come back: one, or several.
        negatives
            Latents (M, D, f, h, w) to keep away from: half their mean is taken from every query.
        distinct
            Which items count as one: those as near to one another as this share of the catalogue
            is to its nearest (:mod:`ulrec.retrieval.distinct`), such as 0.01. None keeps all.

        Returns
        -------
        polars.DataFrame
            [query (row of ``latents``), item_id, score, rank from 1].

        Raises
        ------
        DataError
            If an item or a category is unknown.
        """
        rows = None if exclude is None else [self.index.items.rows(list(ids)) for ids in exclude]
        want = wanted(
            self,
            latents,
            among=among,
            category=category,
            negatives=negatives,
            distinct=distinct,
        )
        return nearest(self, want, k=k, exclude=rows)

    def explain(
        self,
        latents: NDArray[np.float32],
        *,
        user_ids: Ids | None = None,
        liked: Sequence[Ids] | None = None,
        k: int = 5,
    ) -> pl.DataFrame:
        """Return which liked items steered each picture most, and how near to it they are.

        Parameters
        ----------
        latents
            Of pictures, (N, D, f, h, w).
        user_ids, liked
            For whom each was drawn (N,), or what they were said to like, a list each.
        k
            How many items each.

        Returns
        -------
        polars.DataFrame
            [query (row of ``latents``), item_id, contribution, similarity, rank from 1].
            contribution: how far the item moves the mean of the user's latents towards the picture,
            by leaving it out of the history. similarity: the score of :meth:`neighbours`.

        Raises
        ------
        DataError
            If a history is empty, an id is unknown, or the run's recommender cannot fold in.
        """
        histories = histories_of(self, user_ids, liked)
        return explain_by_history(self, latents, histories, k=k)

    def factor_strip(
        self,
        user_id: Any,
        *,
        factor: int,
        num: int = 7,
        span: float = 2.0,
        guidance: float = 2.0,
        seed: int = 0,
    ) -> Generation:
        """Draw a user ``num`` times from one seed, moving one factor alone.

        Parameters
        ----------
        user_id
            Whose other factors stay.
        factor
            Which one moves, from 0.
        num, span
            In so many steps, from ``-span`` to ``span`` deviations around the mean user's.
        guidance, seed
            As in :meth:`generate`.

        Raises
        ------
        DataError
            If the user is unknown or there is no such factor.
        """
        return factor_strip(
            self, user_id, factor=factor, num=num, span=span, guidance=guidance, seed=seed
        )

    def beside_null(self, user_ids: Ids, *, guidance: float = 2.0, seed: int = 0) -> Generation:
        """Draw from one seed for each user, then for nobody in particular: what steering did.

        Returns
        -------
        Generation
            2 samples a user; ``personal`` is False for nobody's.

        Raises
        ------
        DataError
            If a user is unknown or named twice.
        """
        return beside_null(self, user_ids, guidance=guidance, seed=seed)

    def plan_generation(
        self,
        user_ids: Ids,
        *,
        pictures: int | None = None,
        seconds: float | None = None,
        per_user: int = 1,
        guidance: float = 2.0,
        num_validation: int = 200,
        model: MarginModel | None = None,
        seed: int = 0,
    ) -> GenerationPlan:
        """Choose for whom to generate within a budget, where it is expected to beat retrieval.

        Parameters
        ----------
        user_ids
            Who is to be served.
        pictures, seconds
            The budget: one of them. Seconds are divided by what a picture takes here, measured.
        per_user
            Pictures for each.
        guidance
            Of generation.
        num_validation
            Users that the expectation is fitted on: their pictures are drawn, not decoded.
        model
            That of an earlier plan (``plan.model``), in place of a new one.
        seed
            Of the choice of validation users and of what is drawn for them.

        Returns
        -------
        GenerationPlan
            ``table`` [user_id, action, expected_gain]; ``model`` says with its rank correlation
            whether users can be told apart at all.

        Raises
        ------
        DataError
            If a user is unknown, the budget is none, or too few validation users are there.
        """
        if model is None:
            model = fit_margin(
                self, num_users=num_validation, per_user=per_user, guidance=guidance, seed=seed
            )
        return plan_generation(
            self, user_ids, model=model, pictures=pictures, seconds=seconds, per_user=per_user
        )

    @torch.no_grad()
    def encode(self, media: NDArray[Any]) -> NDArray[np.float32]:
        """Return clean latents (N, D, f, h, w) of media.

        Parameters
        ----------
        media
            Uint8, or float in [-1, 1]; (N, C, H, W) or (N, C, F, H, W) at the run's size.

        Raises
        ------
        DataError
            If type, range or shape are others.
        """
        x = as_media(media, self.autoencoder.config.media_shape)
        at_once = max(1, SAMPLES_AT_ONCE // self.autoencoder.config.frames)
        parts = [
            self.autoencoder.encode(torch.from_numpy(x[s : s + at_once]).to(self.device))
            for s in range(0, len(x), at_once)
        ]
        empty = np.zeros((0, *self.autoencoder.config.latent_shape), np.float32)
        return np.concatenate([empty, *(z.cpu().numpy() for z in parts)])

    @torch.no_grad()
    def decode(
        self, latents: NDArray[np.float32], *, seeds: NDArray[np.int64]
    ) -> NDArray[np.uint8]:
        """Draw media, uint8 (N, C, F, H, W), for clean latents: stored, encoded, or between two.

        Parameters
        ----------
        latents
            (N, D, f, h, w).
        seeds
            One a latent, (N,); one seed for all lets neighbours differ by their latents alone.
        """
        z_clean = torch.from_numpy(np.array(latents, np.float32)).to(self.device)
        eps = NoiseSource(seeds.tolist(), z_clean.shape[1:], device=self.device)()
        z_0 = self.autoencoder.noise(z_clean, eps)
        x = self.autoencoder.decode(z_0, seeds=decoder_seeds(seeds), sampler=self.decoder)
        return to_uint8(x.cpu().numpy())

    def fold_in(self, item_ids: Ids) -> NDArray[np.float32]:
        """Return the factor (R,) of somebody who likes these items, for :meth:`generate_for`.

        Raises
        ------
        DataError
            If an item is unknown or named twice, or the run's recommender cannot fold in.
        """
        return fold_in_items(self.recommender, list(item_ids))

    def recommend_for(self, liked: Ids, disliked: Ids = (), *, k: int = 10) -> pl.DataFrame:
        """Recommend by collaborative filtering for a taste rather than a user.

        Parameters
        ----------
        liked, disliked
            Item ids; a dislike counts half a like (:mod:`ulrec.cf.taste`).
        k
            How many items.

        Returns
        -------
        polars.DataFrame
            [item_id, score, rank from 1].

        Raises
        ------
        DataError
            If nothing is liked, or an item is unknown or named twice.
        """
        return recommend_for_taste(self.recommender, list(liked), list(disliked), k=k)

    def bits(self, latents: NDArray[np.float32], *, num_levels: int = 16) -> NDArray[np.float32]:
        """Return bits per pixel (N,) by the run's prior, an upper bound: typical to novel.

        Raises
        ------
        ArtefactError
            If the run has no prior.
        """
        if self._prior is None:
            self._prior = load_prior(self.folder / "prior").to(self.device)
        z_clean = torch.from_numpy(np.array(latents, np.float32)).to(self.device)
        num_pixels = int(np.prod(self.autoencoder.config.media_shape[1:]))
        return bits_per_pixel(self._prior, z_clean, num_pixels=num_pixels, num_levels=num_levels)

    def novelty(self, media: NDArray[Any], *, num_levels: int = 16) -> NDArray[np.float32]:
        """Return bits per pixel (N,) beyond those that so complex a picture has in the catalogue.

        Plain pictures are cheap in any code. What the bits owe to the size of the picture as a PNG
        file is taken off, by a line fitted to the run's own media: what is left is novel.

        Parameters
        ----------
        media
            Uint8 (N, C, H, W) or (N, C, F, H, W) at the run's size.
        num_levels
            As in :meth:`bits`.

        Raises
        ------
        ArtefactError
            If the folder holds no media or no prior, as one written by :meth:`save`.
        DataError
            If the media are of another type or shape.
        """
        return novelty(self, media, num_levels=num_levels)

    def surprise(self, user_id: Any, item_ids: Ids) -> NDArray[np.float64]:
        """Return how surprising items are for a user: log p(z) - log p(z | user) in nats, (N,).

        By the law in ``likelihood``. Items may be seen ones. For a user of whom nothing is known
        nothing is surprising: 0.

        Raises
        ------
        DataError
            If the user or an item is unknown.
        """
        return surprise(self, int(self._user_rows([user_id])[0]), item_ids)

    def plane(self, latents: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return where latents lie on the two main axes of the catalogue's, (N, 2)."""
        if self._plane is None:
            self._plane = fit_projection(self.latents.z, QueryConfig(name="pca", dim=2))
        return self._plane(latents)

    @property
    def texts(self) -> Texts:
        """The text side of the run, loaded when it is first used.

        Raises
        ------
        ArtefactError
            If the run has none: set ``text.pretrained`` and run ``ulrec text-features``.
        MissingExtraError
            If open_clip is not installed.
        """
        if self._texts is None:
            self._texts = Texts.load(self.folder)
        return self._texts

    def encode_text(self, texts: list[str]) -> NDArray[np.float32]:
        """Return unit vectors (N, E) of texts, by the CLIP model of the run's text features."""
        return self.texts.encode(texts)

    def text_shift(self, texts: list[str]) -> NDArray[np.float32]:
        """Return where texts move latents, (N, D, f, h, w): for ``shift`` of ``generate_for``.

        It is known in closed form (:func:`ulrec.pipeline.text.expected_shift`), so that any base
        can be steered by text; one that was trained with texts understands more.
        """
        return self.texts.shifts(texts, self.latents)

    def search_text(
        self, text: str, *, k: int = 10, by: Literal["image", "text"] = "image"
    ) -> pl.DataFrame:
        """Return the items nearest to a text: content retrieval, with no user in it.

        Parameters
        ----------
        text
            What to look for, such as "blue animal".
        k
            How many items.
        by
            How items look, or what is said of them.

        Returns
        -------
        polars.DataFrame
            [item_id, score (cosine), rank from 1].

        Raises
        ------
        DataError
            If the text is empty, or ``k`` or ``by`` is impossible.
        """
        return self.texts.search(text, k=k, by=by)

    def _on_catalogue(self, table: pl.DataFrame) -> Interactions:
        """Return interactions of known users, in their rows, and of new ones after them."""
        items, users = self.factors.items, self.factors.users
        ids = table[ITEM_ID].unique(maintain_order=True)
        strangers = ids.filter(pl.Series(items.find(ids.to_list()) < 0)).to_list()
        if strangers:
            raise DataError(
                f"{len(strangers)} items are not in the catalogue of {len(items)}, such as "
                f"{', '.join(map(repr, strangers[:3]))}; drop their rows, or add them to the "
                "catalogue and run from `ulrec prepare`"
            )
        named = table[USER_ID].unique().sort()
        new = named.filter(pl.Series(users.find(named.to_list()) < 0))
        everyone = IdMap([*users.ids.tolist(), *new.to_list()])
        return Interactions.from_table(table, users=everyone, items=items)

    def _save_refit(self, refit: _NewData, folder: Path) -> None:
        """Write interactions, factors and recommender in the place of the run's."""
        run = open_artefact(self.folder / "interactions", kind="interactions")
        info = {**run.info, "refit": next(iter(refit.made_from))}
        with new_artefact(
            folder / "interactions", kind="interactions", made_from=run.made_from, info=info
        ) as temporary:
            refit.table.write_parquet(temporary / "train.parquet")
        manifest = open_artefact(folder / "interactions", kind="interactions", verify=False)
        made_from = {"interactions": manifest.fingerprint}
        self.factors.save(folder / "factors", made_from={**made_from, **refit.made_from})
        save_recommender(self.recommender, folder / "recommender", made_from=made_from)

    def _user_rows(self, user_ids: Ids) -> NDArray[np.int64]:
        return self.factors.users.rows(IdMap(user_ids).ids)

    def _index_rows(self, item_rows: NDArray[np.int64]) -> NDArray[np.int64]:
        found = self.index.items.find(self.factors.items[item_rows])
        return found[found >= 0]
