"""Stage 2: the generator in latent space, with or without a condition (METHOD.md section 3)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ulrec.diffusion.loss import Denoiser, diffusion_loss, standard_noise, stratified_times
from ulrec.diffusion.process import alpha, expand, sigma, x_around, x_from_v
from ulrec.diffusion.sampler import NoiseSource, Sampled, SamplerConfig, guided, sample
from ulrec.diffusion.schedule import Schedule
from ulrec.diffusion.weighting import Weighting
from ulrec.networks.transformer import Cond, LatentTransformer, TransformerConfig

__all__ = ["Base", "BaseConfig", "add_condition"]


@dataclass(frozen=True, kw_only=True, slots=True)
class BaseConfig:
    """What a base model is; the defaults are tiny.

    Attributes
    ----------
    latent_shape
        (D, f, h, w) of the latents it draws.
    schedule_z
        Noise levels; logsnr_0 is the autoencoder's logsnr_z0, where sampling stops.
    weighting
        On the eps error; sigmoid with b_z = ``bias`` as in the paper's stage 2.
    network
        Its transformer; ``cond_width`` None makes it unconditional.
    given_frames
        Frames of media whose latents its condition may hold, to go on from; 0 for none.
    """

    latent_shape: tuple[int, int, int, int] = (8, 1, 8, 8)
    schedule_z: Schedule = Schedule(logsnr_0=5.0, logsnr_1=-10.0)
    weighting: Weighting = Weighting(name="sigmoid", bias=-4.0)
    network: TransformerConfig = TransformerConfig(width=160, depth=5)
    given_frames: int = 0

    def __post_init__(self) -> None:
        if (self.given_frames > 0) != (self.network.given == "channels"):
            raise ValueError(
                f"given_frames {self.given_frames} and network.given '{self.network.given}' do not "
                "go together: frames to go on from enter as channels"
            )
        height, width = self.latent_shape[2:]
        if height % self.network.stride or width % self.network.stride:
            raise ValueError(
                f"latents of {height}x{width} do not divide by the network's patch "
                f"{self.network.stride}; change the patch or the encoder's stride"
            )


class Base(nn.Module):
    """A diffusion model on clean latents. It sees condition tokens, never a user.

    Attributes
    ----------
    given_std
        Where it goes on from frames: how far latents lie from those of a clip that stands still
        after the given frames, (D, f, 1, 1), measured on training clips.
    """

    given_std: Tensor

    def __init__(self, config: BaseConfig) -> None:
        super().__init__()
        self.config = config
        self.network = LatentTransformer(config.network, channels=config.latent_shape[0])
        if config.given_frames:
            self.register_buffer("given_std", torch.ones(*config.latent_shape[:2], 1, 1))

    def denoise(self, z_t: Tensor, logsnr: Tensor, cond: Cond | None = None) -> Tensor:
        """Return z_hat for z_t (B, D, f, h, w) at logsnr (B,).

        A condition's shift mu moves it by sigma^2 mu. For latents of N(mu, 1) that is exact: where
        alpha z_t is the posterior mean of N(0, 1), that of N(mu, 1) is alpha z_t + sigma^2 mu. What
        else the condition means is the network's to learn.

        Given frames say more: latents lie about those of a clip that stands still after them, and
        no further than ``given_std``. The network's answer is in units of what that leaves open
        (:func:`ulrec.diffusion.process.x_around`), and so is a shift.
        """
        v = self.network(z_t, logsnr, cond).float()
        if cond is None or cond.given is None:
            z_hat, spread = x_from_v(z_t, logsnr, v), None
        else:
            mean, std = self._about(cond.given)
            z_hat, spread = x_around(z_t, logsnr, v, mean=mean, std=std), _spread(logsnr, std)
        if cond is not None and cond.shift is not None:
            moved = expand(torch.sigmoid(-logsnr), z_t) * cond.shift
            z_hat = z_hat + (moved if spread is None else moved / spread.square())
        return z_hat

    def _about(self, given: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation of latents, 0 and 1 where nothing is given."""
        keep = given[:, -1:]
        return keep * given[:, :-1], keep * self.given_std + (1 - keep)

    def nats(
        self,
        z_clean: Tensor,
        *,
        t: Tensor,
        eps: Tensor,
        cond: Cond | None = None,
        weighting: Weighting | None = None,
    ) -> Tensor:
        """Return the diffusion loss in nats per sample (B,), under another weighting if given.

        z_t is drawn from z_clean: adding the fixed noise of z_0 first would add noise twice.

        Raises
        ------
        ValueError
            If the latents are of another grid.
        """
        if tuple(z_clean.shape[1:]) != tuple(self.config.latent_shape):
            raise ValueError(
                f"this base is for latents (B, *{tuple(self.config.latent_shape)}), got "
                f"{tuple(z_clean.shape)}; use latents of its own autoencoder"
            )
        return diffusion_loss(
            self.denoise,
            z_clean,
            t,
            eps,
            schedule=self.config.schedule_z,
            weighting=weighting or self.config.weighting,
            cond=cond,
        )

    def loss(
        self, z_clean: Tensor, cond: Cond | None = None, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """Return what the optimiser sees: mean nats per latent value, a scalar.

        Where frames are given an error counts in units of what they leave open, or clips that are
        given none would be all that is learned from.
        """
        generator = torch.default_generator if generator is None else generator
        t = stratified_times(len(z_clean), generator, z_clean.device)
        eps = standard_noise(z_clean, generator)
        if cond is None or cond.given is None:
            return self.nats(z_clean, t=t, eps=eps, cond=cond).mean() / z_clean[0].numel()
        std = self._about(cond.given)[1]

        def in_units(z_t: Tensor, logsnr: Tensor, cond: Cond) -> Tensor:
            error = self.denoise(z_t, logsnr, cond) - z_clean
            return z_clean + error * _spread(logsnr, std)

        config = self.config
        nats = diffusion_loss(
            in_units,
            z_clean,
            t,
            eps,
            schedule=config.schedule_z,
            weighting=config.weighting,
            cond=cond,
        )
        return nats.mean() / z_clean[0].numel()

    @torch.no_grad()
    def sample(
        self,
        cond: Cond | None = None,
        *,
        seeds: Sequence[int],
        null: Cond | None = None,
        guidance: float = 1.0,
        sampler: SamplerConfig | None = None,
    ) -> Sampled:
        """Draw latents.

        Parameters
        ----------
        cond
            The condition, B samples; None for an unconditional model.
        seeds
            One a sample: the same seed and condition give the same latent in any batch.
        null
            The condition that says nothing; needed unless ``guidance`` is 1.
        guidance
            w in null + w (cond - null).
        sampler
            Method and steps; DDIM with 25 by default.

        Returns
        -------
        Sampled
            ``x_0``: noisy z_0 for the decoder; ``x_hat``: the estimate of z_clean from that z_0,
            for search; each (B, D, f, h, w).

        Raises
        ------
        ValueError
            If guidance needs a null condition and none is given, or there is not one seed for each
            condition.
        """
        if guidance != 1 and null is None:
            raise ValueError(f"guidance {guidance} needs the null condition; pass null=")
        if cond is not None and len(seeds) != len(cond.tokens):
            raise ValueError(
                f"sampling takes one seed for each of {len(cond.tokens)} conditions, got "
                f"{len(seeds)}"
            )
        config = sampler or SamplerConfig()
        denoise = guided(
            self.denoise,
            null,
            scale=guidance,
            until=config.guidance_until,
            rescale=config.guidance_rescale,
        )
        return self.walk(denoise, seeds=seeds, sampler=config, cond=cond)

    @torch.no_grad()
    def walk(
        self,
        denoise: Denoiser,
        *,
        seeds: Sequence[int],
        sampler: SamplerConfig,
        cond: Cond | None = None,
    ) -> Sampled:
        """Draw latents by a denoiser made of this base's; see :meth:`sample` for what it returns.

        Parameters
        ----------
        denoise
            Such as :func:`ulrec.models.steering.pulled` makes.
        seeds
            One a sample.
        sampler
            Method and steps.
        cond
            Passed to ``denoise``.
        """
        noise = NoiseSource(
            seeds, self.config.latent_shape, device=self.network.embed.weight.device
        )
        schedule = self.config.schedule_z
        z_0 = sample(denoise, noise, schedule=schedule, config=sampler, cond=cond).x_0
        z_hat = denoise(z_0, z_0.new_full((len(z_0),), schedule.logsnr_0), cond)
        return Sampled(z_0, z_hat)


def _spread(logsnr: Tensor, std: Tensor) -> Tensor:
    """Return sqrt(alpha^2 + sigma^2 / std^2): 1 at std 1, and more where less is left open."""
    a, s = expand(alpha(logsnr), std), expand(sigma(logsnr), std)
    return (a.square() + (s / std).square()).sqrt()


def add_condition(
    base: Base,
    *,
    cond_width: int,
    weighting: Weighting | None = None,
    given_frames: int = 0,
    given_std: Tensor | None = None,
) -> Base:
    """Return a copy of an unconditional base that takes condition tokens of width E.

    With ``given_frames`` its condition may hold the latents of so many frames to go on from, and
    ``given_std`` says how much they leave open (:func:`ulrec.models.prediction.left_open`; 1 by
    default).

    The new layers start at zero: whatever the tokens say, the output is bit-equal to ``base``'s
    (a condition's shift and given frames move it from the start, in closed form). It is trained on
    under ``weighting``, the base's own by default.

    Raises
    ------
    ValueError
        If the base is conditional: its trained layers would answer at once.
    """
    if base.config.network.cond_width is not None:
        raise ValueError("this base already takes a condition; start from an unconditional one")
    network = dataclasses.replace(
        base.config.network, cond_width=cond_width, given="channels" if given_frames else "none"
    )
    conditioned = Base(
        dataclasses.replace(
            base.config,
            network=network,
            weighting=weighting or base.config.weighting,
            given_frames=given_frames,
        )
    )
    conditioned.load_state_dict({**conditioned.state_dict(), **base.state_dict()})
    if given_std is not None:
        conditioned.given_std.copy_(given_std)
    return conditioned
