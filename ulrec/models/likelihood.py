"""How much likelier a latent is for a user: log p(z | u) - log p(z), a difference of two ELBOs.

Two laws of latents answer it. :class:`GaussianRatio` takes the catalogue for N(m, C) and what a
user likes for N(m + mu, C), mu being the condition's shift: a closed form, no network.
:class:`LogRatio` asks the conditional base itself.

Both bounds end in the same terms, so that of z alone their difference is

    r = 1/2 ∫ exp(l) E_eps[ |z - x_0|^2 - |z - x_u|^2 ] dl      over logsnr l of the schedule,

x_0 and x_u being what the null and the user's condition make of one z_t = alpha z + sigma eps. The
condition's shift mu enters as x_u = x_t + sigma^2 mu, where x_t has heard the tokens alone. With
e = z - x_0 and d = x_t - x_0 the integrand falls apart, exactly, into

    shift:   alpha^2 mu.e - 1/2 alpha^2 sigma^2 |mu|^2,
    tokens:  exp(l) ( (e - sigma^2 mu).d - 1/2 |d|^2 ).

- The shift's square is known: with A = alpha^2(l_0) - alpha^2(l_1), ∫ alpha^2 sigma^2 dl = A.
- Its product is mu.R with a response R of the item alone, R = ∫ alpha^2 E[e] dl: the null pass over
  a catalogue serves all users, who cost one matrix product. E[eps] = 0 gives R a closed form where
  latents are N(0, I), and only what the network adds to that is estimated:
  R = A z + ∫ alpha^2 E[alpha z_t - x_0] dl.
- The tokens' part takes an evaluation for each user, item and level. It is estimated for the
  candidates that are still in the race.

The integrals are means over levels drawn from a proposal q, weighted by 1 / q: unbiased whatever q.
Levels and noises are common to the null, all conditions and all items, so that most of their
randomness leaves a *comparison* of items.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ulrec.diffusion.loss import Denoiser
from ulrec.diffusion.process import noised
from ulrec.diffusion.schedule import Schedule
from ulrec.networks.transformer import Cond

__all__ = ["GaussianRatio", "LogRatio", "LogRatioConfig", "Raced", "fitted_proposal"]

PAIRS_AT_ONCE = 128


@dataclass(frozen=True, kw_only=True, slots=True)
class LogRatioConfig:
    """How the ratio is estimated.

    Attributes
    ----------
    num_levels
        Noise levels of each round of a race; all of them together serve the response.
    keep
        Candidates that each round evaluates the tokens for, the best of those before.
    centre, scale
        Of the proposal, a logistic density of logsnr, cut to the schedule's ends. Least variance
        has one that follows the spread of the integrand (:func:`fitted_proposal`), as the default
        does for validation users of the shipped emoji; centre 0, scale 1 is even in alpha^2.
    seed
        Of levels and noises.
    """

    num_levels: tuple[int, ...] = (2, 4)
    keep: tuple[int, ...] = (24, 12)
    centre: float = 0.5
    scale: float = 1.3
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.num_levels or min(self.num_levels) < 1:
            raise ValueError(f"num_levels have to be 1 or more each round, got {self.num_levels}")
        if len(self.keep) != len(self.num_levels) or min(self.keep) < 1:
            raise ValueError(
                f"keep has to hold a number from 1 for each of {len(self.num_levels)} rounds, got "
                f"{self.keep}"
            )
        if not self.scale > 0:
            raise ValueError(f"the proposal's scale has to be above 0, got {self.scale}")


@dataclass(frozen=True, kw_only=True)
class Raced:
    """What is known of C candidates of one user after a race.

    Attributes
    ----------
    ratio
        r of each, (C,): of those that left early by the levels they have seen, of those that never
        raced what stood for it.
    rounds
        How many rounds each took part in, int64 (C,).
    """

    ratio: Tensor
    rounds: Tensor


class GaussianRatio:
    """The ratio under N(m + mu, C) and N(m, C), m and C being the catalogue's: exact.

    The bounds' integral is that of the module with both posterior means of a Gaussian. In the axes
    of C, where it has variance c, it comes to r = mu.G(z - m) - 1/2 mu.G mu with

        G = a_0 / (1 - a_0 + a_0 c) - a_1 / (1 - a_1 + a_1 c),   a = alpha^2 at the two ends:

    the inverse covariance, where the noise at l_0 allows. C is D f h w squared.

    Parameters
    ----------
    schedule
        Whose ends are those of the integral.
    z
        Clean latents of the catalogue, (I, D, f, h, w).
    """

    def __init__(self, *, schedule: Schedule, z: Tensor) -> None:
        flat = z.flatten(1).double()
        centred = flat - flat.mean(0)
        variance, axes = torch.linalg.eigh(centred.T @ centred / max(1, len(z) - 1))
        high, low = (_alpha_2(end) for end in (schedule.logsnr_0, schedule.logsnr_1))
        gain = high / (1 - high + high * variance) - low / (1 - low + low * variance)
        self._metric = (axes * gain) @ axes.T
        self._response = centred @ self._metric

    def __call__(self, cond: Cond, rows: Tensor) -> Tensor:
        """Return r of items ``rows`` (C,) for conditions, float64 (B, C); 0 without a shift."""
        if cond.shift is None:
            return torch.zeros(len(cond.tokens), len(rows), dtype=torch.float64)
        shift = cond.shift.flatten(1).double()
        square = 0.5 * ((shift @ self._metric) * shift).sum(1)
        ratio: Tensor = shift @ self._response[rows].T - square[:, None]
        return ratio


class LogRatio:
    """Estimates r of catalogue items for conditions.

    Parameters
    ----------
    denoise
        x_hat of (z_t, logsnr, cond); it is shown conditions without their shift.
    schedule
        Whose ends are those of the integral.
    null
        The condition that says nothing, one sample.
    z
        Clean latents of the catalogue, (I, D, f, h, w).
    config
        How.

    Attributes
    ----------
    num_null_evaluations, num_evaluations
        How often the network was evaluated so far, for the null and for conditions.
    """

    def __init__(
        self,
        denoise: Denoiser,
        *,
        schedule: Schedule,
        null: Cond,
        z: Tensor,
        config: LogRatioConfig,
    ) -> None:
        self.config = config
        self.num_null_evaluations = self.num_evaluations = 0
        self._denoise, self._null, self._z = denoise, null, z
        self._ends = (schedule.logsnr_0, schedule.logsnr_1)
        generator = torch.Generator().manual_seed(config.seed)
        self.logsnr, self.weight = _levels(config, self._ends, generator, z)
        size = (len(self.logsnr), *z.shape[1:])
        self._eps = torch.randn(size, generator=generator, dtype=torch.float64).to(z)
        # The null's x_hat of each level and item, filled as items are asked for.
        self._known = torch.zeros(len(z), dtype=torch.bool, device=z.device)
        self._x_null: Tensor | None = None

    @torch.no_grad()
    def response(self, rows: Tensor) -> Tensor:
        """Return R of items ``rows`` (C,), (C, D f h w)."""
        z, x_null = self._z[rows], self._null_pass(rows)
        found = torch.zeros_like(z)
        for level, (logsnr, weight) in enumerate(zip(self.logsnr, self.weight, strict=True)):
            alpha_2 = torch.sigmoid(logsnr)
            z_t = noised(z, logsnr[None], self._eps[level])
            found += weight * alpha_2 * (alpha_2.sqrt() * z_t - x_null[level])
        return (_alpha_2_gap(self._ends) * z + found / len(self.logsnr)).flatten(1)

    @torch.no_grad()
    def by_shift(self, cond: Cond, rows: Tensor) -> Tensor:
        """Return the part of the shift, (B, C): it takes the null pass alone."""
        if cond.shift is None:
            return self._z.new_zeros(len(cond.tokens), len(rows))
        shift = cond.shift.flatten(1)
        square = 0.5 * _alpha_2_gap(self._ends) * shift.square().sum(1)
        return shift @ self.response(rows).T - square[:, None]

    @torch.no_grad()
    def full(self, cond: Cond, rows: Tensor) -> Tensor:
        """Return r of all items ``rows`` (C,) for one condition at every level, (C,)."""
        tokens = self._by_tokens(cond, rows, range(len(self.logsnr))).mean(1)
        return self.by_shift(cond, rows)[0] + tokens

    @torch.no_grad()
    def integrand(self, cond: Cond, rows: Tensor) -> Tensor:
        """Return what each level adds to r of items ``rows`` for one condition, (C, L), unweighted.

        Its spread over items is what :func:`fitted_proposal` takes.
        """
        found = self._by_tokens(cond, rows, range(len(self.logsnr))) / self.weight
        if cond.shift is None:
            return found
        z, x_null, shift = self._z[rows], self._null_pass(rows), cond.shift[0].flatten()
        for level, logsnr in enumerate(self.logsnr):
            alpha_2 = torch.sigmoid(logsnr)
            error = (1 - alpha_2) * z - x_null[level]
            error += alpha_2.sqrt() * noised(z, logsnr[None], self._eps[level])
            found[:, level] += alpha_2 * (error.flatten(1) @ shift)
            found[:, level] -= 0.5 * alpha_2 * (1 - alpha_2) * shift.square().sum()
        return found

    @torch.no_grad()
    def race(
        self,
        cond: Cond,
        rows: Tensor,
        *,
        standing: Tensor | None = None,
        offset: Tensor | None = None,
        at_least: int = 1,
    ) -> Raced:
        """Spend evaluations on the candidates that may win: successive halving.

        Each round keeps the best and adds the tokens' part at levels of its own. A config that
        keeps everybody gives :meth:`full`.

        Parameters
        ----------
        cond
            One condition.
        rows
            The candidates' rows, (C,).
        standing
            What stands for r before the first round, (C,), such as :class:`GaussianRatio`'s; the
            shift's part by default, for which all candidates take part in the null pass.
        offset
            Candidates are compared by r + offset (C,).
        at_least
            Each round keeps as many.
        """
        ratio = (self.by_shift(cond, rows)[0] if standing is None else standing).to(self._z)
        offset = torch.zeros_like(ratio) if offset is None else offset.to(ratio)
        ratio, tokens = ratio.clone(), torch.zeros_like(ratio)
        rounds = torch.zeros(len(rows), dtype=torch.int64, device=rows.device)
        inside = torch.arange(len(rows), device=rows.device)
        start = 0
        for num_levels, keep in zip(self.config.num_levels, self.config.keep, strict=True):
            order = torch.argsort((ratio + offset)[inside], descending=True, stable=True)
            inside = inside[order[: max(keep, at_least)]]
            levels = range(start, start + num_levels)
            start += num_levels
            tokens[inside] += self._by_tokens(cond, rows[inside], levels).sum(1)
            ratio[inside] = self.by_shift(cond, rows[inside])[0] + tokens[inside] / start
            rounds[inside] += 1
        return Raced(ratio=ratio, rounds=rounds)

    def _by_tokens(self, cond: Cond, rows: Tensor, levels: range) -> Tensor:
        """Return the tokens' part at some levels, weighted, (C, len(levels))."""
        z, x_null = self._z[rows], self._null_pass(rows)
        self.num_evaluations += len(levels) * len(rows)
        parts = []
        for level in levels:
            logsnr = self.logsnr[level]
            error = z - x_null[level]
            if cond.shift is not None:
                error = error - torch.sigmoid(-logsnr) * cond.shift
            moved = self._x_hat(cond, z, level) - x_null[level]
            inner = (error * moved - 0.5 * moved.square()).flatten(1).sum(1)
            parts.append(self.weight[level] * torch.exp(logsnr) * inner)
        return torch.stack(parts, dim=1)

    def _null_pass(self, rows: Tensor) -> Tensor:
        """Return the null's x_hat of items at all levels, (L, C, D, f, h, w), evaluated once."""
        if self._x_null is None:
            self._x_null = self._z.new_zeros((len(self.logsnr), *self._z.shape))
        new = torch.unique(rows[~self._known[rows]])
        if len(new):
            for level in range(len(self.logsnr)):
                self._x_null[level, new] = self._x_hat(self._null, self._z[new], level)
            self._known[new] = True
            self.num_null_evaluations += len(self.logsnr) * len(new)
        return self._x_null[:, rows]

    def _x_hat(self, cond: Cond, z: Tensor, level: int) -> Tensor:
        """Return what one condition's tokens make of latents (C, D, f, h, w) at a level."""
        logsnr = self.logsnr[level]
        parts = []
        for part in torch.split(z, PAIRS_AT_ONCE):
            size = len(part)
            tokens = cond.tokens.expand(size, -1, -1)
            each = Cond(tokens, cond.mask.expand(size, -1))
            z_t = noised(part, logsnr.expand(size), self._eps[level])
            parts.append(self._denoise(z_t, logsnr.expand(size), each))
        return torch.cat(parts)


def fitted_proposal(logsnr: Tensor, spread: Tensor) -> tuple[float, float]:
    """Return centre and scale of the logistic proposal with the mean and variance of a spread.

    The variance of the estimate is least where q follows the root mean square of the integrand, as
    far as that differs between items.

    Parameters
    ----------
    logsnr
        Levels in rising order, (G,).
    spread
        Standard deviation of the integrand at each, (G,).
    """
    mass = spread / torch.trapezoid(spread, logsnr)
    centre = torch.trapezoid(mass * logsnr, logsnr)
    variance = torch.trapezoid(mass * (logsnr - centre).square(), logsnr)
    return float(centre), float(variance.sqrt()) * math.sqrt(3) / math.pi


def _alpha_2(logsnr: float) -> float:
    return 1 / (1 + math.exp(-logsnr))


def _alpha_2_gap(ends: tuple[float, float]) -> float:
    """Return A, what alpha^2 loses between the ends."""
    return _alpha_2(ends[0]) - _alpha_2(ends[1])


def _levels(
    config: LogRatioConfig, ends: tuple[float, float], generator: torch.Generator, like: Tensor
) -> tuple[Tensor, Tensor]:
    """Return logsnr and 1 / q of all levels (L,), those of a round evenly spread over q."""
    high, low = (_alpha_2((end - config.centre) / config.scale) for end in ends)
    rounds = []
    for num in config.num_levels:
        jitter = torch.rand(num, generator=generator, dtype=torch.float64)
        rounds.append((torch.arange(num) + jitter) / num)
    place = low + (high - low) * torch.cat(rounds)
    logsnr = config.centre + config.scale * torch.logit(place)
    weight = (high - low) * config.scale / (place * (1 - place))
    return logsnr.to(like), weight.to(like)
