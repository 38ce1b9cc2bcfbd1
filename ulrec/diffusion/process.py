"""The variance-preserving process and its parametrisations (METHOD.md section 1).

x_t = alpha x + sigma eps with alpha^2 = sigmoid(logsnr), sigma^2 = sigmoid(-logsnr) and
v = alpha eps - sigma x. ``logsnr`` has shape (B,), media and latents (B, ...).
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = [
    "alpha",
    "angle",
    "eps_from_x",
    "expand",
    "noised",
    "sigma",
    "v_from_x",
    "x_around",
    "x_from_v",
]


def expand(values: Tensor, x: Tensor) -> Tensor:
    """Give values (B,) the trailing dimensions of x (B, ...)."""
    return values.reshape(-1, *[1] * (x.ndim - 1))


def alpha(logsnr: Tensor) -> Tensor:
    """Return the signal's scale, sqrt(sigmoid(logsnr))."""
    return torch.sigmoid(logsnr).sqrt()


def sigma(logsnr: Tensor) -> Tensor:
    """Return the noise's scale, sqrt(sigmoid(-logsnr))."""
    return torch.sigmoid(-logsnr).sqrt()


def angle(logsnr: Tensor) -> Tensor:
    """Return phi in (0, pi / 2), where alpha = cos(phi) and sigma = sin(phi)."""
    return torch.atan(torch.exp(-0.5 * logsnr))


def noised(x: Tensor, logsnr: Tensor, eps: Tensor) -> Tensor:
    """Return x_t = alpha x + sigma eps."""
    return expand(alpha(logsnr), x) * x + expand(sigma(logsnr), x) * eps


def x_from_v(x_t: Tensor, logsnr: Tensor, v: Tensor) -> Tensor:
    """Return x = alpha x_t - sigma v."""
    return expand(alpha(logsnr), x_t) * x_t - expand(sigma(logsnr), x_t) * v


def x_around(x_t: Tensor, logsnr: Tensor, v: Tensor, *, mean: Tensor, std: Tensor) -> Tensor:
    """Return x from v where x is known to lie about ``mean``, with deviations of ``std``.

    x = mean + alpha std^2 (x_t - alpha mean) / variance - sigma std v / sqrt(variance), where
    variance = alpha^2 std^2 + sigma^2 is that of x_t. For x of N(mean, std^2) v = 0 is the
    posterior mean, and -v is x's error in posterior standard deviations, sigma std /
    sqrt(variance). With mean 0 and std 1 it is :func:`x_from_v`.

    Parameters
    ----------
    x_t, v
        (B, ...).
    logsnr
        (B,).
    mean, std
        They broadcast against x_t; std is above zero.
    """
    a, s = expand(alpha(logsnr), x_t), expand(sigma(logsnr), x_t)
    variance = (a * std).square() + s.square()
    gain = a * std.square() / variance
    return mean + gain * (x_t - a * mean) - s * std / variance.sqrt() * v


def v_from_x(x_t: Tensor, logsnr: Tensor, x: Tensor) -> Tensor:
    """Return v = (alpha x_t - x) / sigma, the inverse of :func:`x_from_v`."""
    return (expand(alpha(logsnr), x_t) * x_t - x) / expand(sigma(logsnr), x_t)


def eps_from_x(x_t: Tensor, logsnr: Tensor, x: Tensor) -> Tensor:
    """Return eps = (x_t - alpha x) / sigma."""
    return (x_t - expand(alpha(logsnr), x_t) * x) / expand(sigma(logsnr), x_t)
