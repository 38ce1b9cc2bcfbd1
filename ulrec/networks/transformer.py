"""Transformer over a grid of latents: QK-norm, axial rotary positions, condition tokens."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.nn import functional

from ulrec.networks.layers import LogsnrEmbedding, fold_frames, unfold_frames, zero_init

__all__ = [
    "Block",
    "Cond",
    "LatentTransformer",
    "OuterConfig",
    "Positions",
    "TransformerConfig",
    "place_features",
    "positions_of",
    "rotary_angles",
    "turns_of",
]

Grid = tuple[int, int, int]

OCTAVES = 4


class Cond(NamedTuple):
    """A condition: ``tokens`` (B, N, E) and their ``mask`` (B, N), True where one is in use.

    Every sample has at least one token in use: each source brings its learned null. ``shift``,
    where there is one, says how far from the mean of all latents those of the condition lie on
    average, (B, D, f, h, w); networks do not look at it. ``given``, where there is one, holds the
    latents of frames to go on from and, last, a plane of ones (of zeros for a sample that is given
    none), (B, D + 1, f, h, w).
    """

    tokens: Tensor
    mask: Tensor
    shift: Tensor | None = None
    given: Tensor | None = None


class Positions(NamedTuple):
    """Where tokens that attend to one another are: turns as unit complex numbers, (N, 1, 1, half).

    ``space`` is of all tokens of a row of the batch. Where rows are single frames, ``frames`` is of
    a place over the ``num_frames`` rows that are one clip.
    """

    space: Tensor
    frames: Tensor | None = None
    num_frames: int = 1


_Level = Callable[[Tensor, Tensor, Cond | None, Grid, int], Tensor]


@dataclass(frozen=True, kw_only=True, slots=True)
class OuterConfig:
    """The outer level of a two-level transformer: ``depth`` blocks of ``width``.

    Half of them stand before the inner level, half after it. The paper's base has 6 of 512 around
    16 of 1024 (METHOD.md section 4; how the levels join is not stated).
    """

    width: int = 512
    depth: int = 6

    def __post_init__(self) -> None:
        if self.depth < 2 or self.depth % 2:
            raise ValueError(
                f"an outer level takes an even depth (half before, half after), got {self.depth}"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class TransformerConfig:
    """Size of a transformer; the defaults are tiny.

    ``patch`` x ``patch`` latents make one token: fewer tokens are cheaper, and coarser (the paper
    finds that patching hurts a base that has the compute to do without). ``cond_width`` is the
    width E of the condition's tokens, None for an unconditional network. ``outer`` puts a level of
    twice the grid around this one; None leaves the transformer single-level.

    ``temporal`` says how tokens of different frames meet: "joint", all attend to all; "axial", each
    frame is a picture by itself, and a layer that starts at zero attends over the frames at each
    place, so that weights of a picture model stay valid for clips. ``given`` is how a network takes
    latents to go on from beside z_t: "none", or as "channels" of it.
    """

    width: int = 128
    depth: int = 4
    head_width: int = 32
    mlp_ratio: float = 4.0
    dropout: float = 0.0
    patch: int = 1
    cond_width: int | None = None
    outer: OuterConfig | None = None
    temporal: Literal["joint", "axial"] = "joint"
    given: Literal["none", "channels"] = "none"

    def __post_init__(self) -> None:
        if self.given != "none" and self.cond_width is None:
            raise ValueError(
                "latents to go on from are part of a condition; set cond_width as well as given"
            )
        if self.head_width < 8 or self.head_width % 8:
            raise ValueError(
                f"head_width has to be a multiple of 8 (rotary axes), got {self.head_width}"
            )
        if self.width < 1 or self.width % self.head_width:
            raise ValueError(f"head_width {self.head_width} has to divide width {self.width}")
        if self.patch < 1:
            raise ValueError(f"patch has to be at least 1, got {self.patch}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout has to lie in [0, 1), got {self.dropout}")
        if self.outer is not None and self.outer.width % self.head_width:
            raise ValueError(
                f"head_width {self.head_width} has to divide the outer width {self.outer.width}"
            )

    @property
    def stride(self) -> int:
        """Latents along the side of one token, of the inner level where there are two."""
        return self.patch if self.outer is None else 2 * self.patch


def rotary_angles(grid: Grid, head_width: int, *, base: float = 100.0) -> Tensor:
    """Return axial rotary angles (F H W, head_width / 2), float32.

    A quarter of the pairs turn with the frame, the rest evenly with row and column; a single frame
    turns nothing in time, so weights of a picture model stay valid for clips.
    """
    pairs_f = head_width // 8
    pairs_hw = (head_width // 2 - pairs_f) // 2
    angles = []
    for axis, pairs in enumerate((pairs_f, pairs_hw, head_width // 2 - pairs_f - pairs_hw)):
        frequencies = base ** (-torch.arange(pairs) / pairs)
        position = torch.arange(grid[axis])[:, None] * frequencies
        shape = [1, 1, 1, pairs]
        shape[axis] = grid[axis]
        angles.append(position.reshape(shape).expand(*grid, pairs))
    return torch.cat(angles, dim=-1).flatten(0, 2)


def positions_of(
    grid: Grid, config: TransformerConfig, *, num_frames: int, device: torch.device
) -> Positions:
    """Return the positions of the tokens of a grid, (1, H, W) a row where ``config`` is axial."""
    space = turns_of(rotary_angles(grid, config.head_width)).to(device)
    if config.temporal == "joint":
        return Positions(space)
    frames = turns_of(rotary_angles((num_frames, 1, 1), config.head_width)).to(device)
    return Positions(space, frames, num_frames)


def turns_of(angles: Tensor) -> Tensor:
    """Return unit complex numbers (N, 1, 1, head_width / 2) of angles (N, head_width / 2)."""
    return torch.polar(torch.ones_like(angles), angles)[:, None, None]


def place_features(grid: Grid, *, octaves: int = OCTAVES) -> Tensor:
    """Return sinusoids of each token's place in its picture, (F H W, 4 octaves), float32.

    Rotary angles only tell tokens apart relative to one another; where the border of a picture is
    they do not say. Rows and columns are measured from 0 to 1 at any size. Frames have no part in
    it, so that weights of a picture model stay valid for clips.
    """
    rows = (torch.arange(grid[1], dtype=torch.float32) + 0.5) / grid[1]
    columns = (torch.arange(grid[2], dtype=torch.float32) + 0.5) / grid[2]
    places = torch.stack(torch.meshgrid(rows, columns, indexing="ij"), dim=-1).flatten(0, 1)
    angles = places[..., None] * math.pi * 2.0 ** torch.arange(octaves)
    features = torch.cat([angles.sin(), angles.cos()], dim=-1).flatten(1)
    return features.repeat(grid[0], 1)


class _NormTurn(torch.autograd.Function):
    """Queries, keys and values of projections: RMS norm, weights, and turns of neighbouring pairs.

    What autograd makes of the same steps goes over memory twice as often.
    """

    @staticmethod
    def forward(
        ctx: FunctionCtx, qkv: Tensor, weight: Tensor, turns: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Map qkv (B, N, 3, heads, d) under weight (2, 1, d) and unit numbers (N, 1, 1, d / 2)."""
        x = qkv[:, :, :2]
        size = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        inverse = (size.square() / x.shape[-1] + torch.finfo(x.dtype).eps).rsqrt()
        y = x * inverse
        y *= weight
        _pairs(y).mul_(turns)
        ctx.save_for_backward(qkv, inverse, weight, turns)
        return y[:, :, 0], y[:, :, 1], qkv[:, :, 2]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        """Turn back, and go through the norm: dx = r w g - x r^3 mean(x w g), r = 1 / rms."""
        qkv, inverse, weight, turns = ctx.saved_tensors
        out = torch.empty_like(qkv)
        x, g = qkv[:, :, :2], out[:, :, :2]
        for number, grad in enumerate(grads):
            out[:, :, number] = grad
        _pairs(g).mul_(turns.conj())
        g *= inverse
        along = g * x
        heard = along.flatten(0, 1).sum(0).sum(1, keepdim=True)
        along *= weight
        g *= weight
        g.addcmul_(x, along.mean(-1, keepdim=True) * inverse.square(), value=-1)
        return out, heard, None


def _pairs(x: Tensor) -> Tensor:
    """View neighbouring values as complex numbers."""
    return torch.view_as_complex(rearrange(x, "... (p two) -> ... p two", two=2))


def _pair_up(rows: Tensor, head_width: int) -> Tensor:
    """Put the pairs (i, i + half) of every head beside each other, rows (heads head_width, ...).

    A product of queries and keys does not change, and a pair is a complex number.
    """
    return rearrange(rows, "(h two p) ... -> (h p two) ...", two=2, p=head_width // 2)


class Attention(nn.Module):
    """Multi-head attention with RMS-normalised queries and keys; the output starts at zero."""

    def __init__(self, width: int, head_width: int, *, context_width: int | None = None) -> None:
        super().__init__()
        self.head_width = head_width
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_kv = nn.Linear(context_width or width, 2 * width, bias=False)
        self.norm_q = nn.RMSNorm(head_width)
        self.norm_k = nn.RMSNorm(head_width)
        self.out = zero_init(nn.Linear(width, width))

    def forward(
        self,
        x: Tensor,
        *,
        context: Tensor | None = None,
        mask: Tensor | None = None,
        rotary: Tensor | None = None,
    ) -> Tensor:
        """Attend from x (B, N, width) to itself, or to context (B, M, E) where mask (B, M).

        ``rotary`` (N, 1, 1, head_width / 2) turns queries and keys of x itself.
        """
        if rotary is not None:
            if context is not None:
                raise ValueError("rotary turns what attends to itself; leave it out with a context")
            q, k, v = self._self_turned(x, rotary)
        else:
            k, v = self.to_kv(x if context is None else context).chunk(2, dim=-1)
            heads = "b n (h d) -> b n h d"
            q, k, v = (rearrange(a, heads, d=self.head_width) for a in (self.to_q(x), k, v))
            q, k = self.norm_q(q), self.norm_k(k)
        allowed = None if mask is None else mask[:, None, None, :]
        q, k, v = (part.transpose(1, 2) for part in (q, k, v))
        h = functional.scaled_dot_product_attention(q, k, v, attn_mask=allowed)
        out: Tensor = self.out(rearrange(h, "b h n d -> b n (h d)"))
        return out

    def _self_turned(self, x: Tensor, rotary: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values of x, (B, N, heads, head_width) each, in few passes."""
        d = self.head_width
        to_k, to_v = self.to_kv.weight.chunk(2)
        weight = torch.cat([_pair_up(self.to_q.weight, d), _pair_up(to_k, d), to_v])
        qkv = rearrange(functional.linear(x, weight), "b n (i h d) -> b n i h d", i=3, d=d)
        norms = torch.stack([_pair_up(n.weight, d) for n in (self.norm_q, self.norm_k)])[:, None]
        exact = torch.promote_types(qkv.dtype, torch.float32)
        turned = _NormTurn.apply(qkv.to(exact), norms.to(exact), rotary)  # type: ignore[no-untyped-call]
        q, k, v = (part.to(qkv.dtype) for part in turned)
        return q, k, v


class Block(nn.Module):
    """Self-attention, attention to condition tokens (where there are any), and an MLP.

    Scale and shift of both branches come from the embedding, of the block's width by default.
    """

    def __init__(self, config: TransformerConfig, *, embedding_width: int | None = None) -> None:
        super().__init__()
        width, hidden = config.width, int(config.width * config.mlp_ratio)
        self.norm_attention = nn.LayerNorm(width, elementwise_affine=False)
        self.attention = Attention(width, config.head_width)
        self.over_frames: Attention | None = None
        if config.temporal == "axial":
            self.norm_frames = nn.LayerNorm(width)
            self.over_frames = Attention(width, config.head_width)
        self.cross: Attention | None = None
        if config.cond_width is not None:
            self.norm_cross = nn.LayerNorm(width)
            self.cross = Attention(width, config.head_width, context_width=config.cond_width)
        self.norm_mlp = nn.LayerNorm(width, elementwise_affine=False)
        self.mlp = nn.Sequential(
            nn.Linear(width, hidden),
            nn.GELU(approximate="tanh"),
            nn.Dropout(config.dropout),
            zero_init(nn.Linear(hidden, width)),
        )
        self.modulation = zero_init(nn.Linear(embedding_width or width, 4 * width))

    def forward(
        self, x: Tensor, embedding: Tensor, cond: Cond | None, positions: Positions
    ) -> Tensor:
        """Map x (B, N, width) under embedding (B, embedding_width); B F rows where axial."""
        scale_a, shift_a, scale_m, shift_m = self.modulation(embedding)[:, None].chunk(4, dim=-1)
        h = torch.addcmul(shift_a, self.norm_attention(x), 1 + scale_a)
        x = x + self.attention(h, rotary=positions.space)
        if self.over_frames is not None:
            h = rearrange(self.norm_frames(x), "(b f) n d -> (b n) f d", f=positions.num_frames)
            h = self.over_frames(h, rotary=positions.frames)
            x = x + rearrange(h, "(b n) f d -> (b f) n d", n=x.shape[1])
        if self.cross is not None and cond is not None:
            x = x + self.cross(self.norm_cross(x), context=cond.tokens, mask=cond.mask)
        h = torch.addcmul(shift_m, self.norm_mlp(x), 1 + scale_m)
        out: Tensor = x + self.mlp(h)
        return out


class LatentTransformer(nn.Module):
    """Transformer on latents: single-level as the paper's prior, or two-level as its base.

    Parameters
    ----------
    config
        Its size.
    channels
        D, the channels of a latent.
    """

    def __init__(self, config: TransformerConfig, *, channels: int) -> None:
        super().__init__()
        self.config = config
        width = config.width if config.outer is None else config.outer.width
        self.embed = nn.Linear(channels * config.patch**2, width)
        self.place = nn.Linear(4 * OCTAVES, width)
        self.time = LogsnrEmbedding(config.width)
        self.pooled: nn.Linear | None = None
        if config.cond_width is not None:
            self.pooled = zero_init(nn.Linear(config.cond_width, config.width))
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulation = zero_init(nn.Linear(config.width, 2 * width))
        self.out = zero_init(nn.Linear(width, channels * config.patch**2))
        self.outer = None if config.outer is None else _OuterLevel(config, config.outer)
        self.from_given: nn.Linear | None = None
        if config.given == "channels":
            self.from_given = zero_init(
                nn.Linear((channels + 1) * config.patch**2, width, bias=False)
            )

    def forward(self, z_t: Tensor, logsnr: Tensor, cond: Cond | None = None) -> Tensor:
        """Return v for latents z_t (B, D, f, h, w) at logsnr (B,), the shape of z_t.

        Raises
        ------
        ValueError
            If an unconditional network is given a condition: it would not listen.
        """
        if cond is not None and self.pooled is None:
            raise ValueError(
                "this network is unconditional and was given a condition; set cond_width, or leave "
                "the condition out"
            )
        num_frames = z_t.shape[2]
        if self.config.temporal == "joint":
            return self._v(z_t, logsnr, cond, num_frames)
        logsnr = logsnr.repeat_interleave(num_frames)
        cond = None if cond is None else _one_by_one(cond, num_frames)
        v = self._v(fold_frames(z_t)[:, :, None], logsnr, cond, num_frames)  # (B f, D, 1, h, w)
        return unfold_frames(v[:, :, 0], num_frames)

    def _v(self, z_t: Tensor, logsnr: Tensor, cond: Cond | None, num_frames: int) -> Tensor:
        """Return v of the rows of a batch, which are single frames where the network is axial."""
        patch = self.config.patch
        grid = (z_t.shape[2], z_t.shape[3] // patch, z_t.shape[4] // patch)
        embedding = self.time(logsnr)
        if self.pooled is not None and cond is not None:
            embedding = embedding + self.pooled(_masked_mean(cond))
        embedding = functional.silu(embedding)
        places = place_features(grid, octaves=OCTAVES).to(z_t)
        x = self.embed(self._tokens(z_t)) + self.place(places)  # (B, N, width)
        if self.from_given is not None and cond is not None and cond.given is not None:
            x = x + self.from_given(self._tokens(cond.given))
        if self.outer is None:
            x = self._transform(x, embedding, cond, grid, num_frames)
        else:
            x = self.outer(x, embedding, cond, grid, num_frames, self._transform)
        scale, shift = self.modulation(embedding)[:, None].chunk(2, dim=-1)
        x = self.out(torch.addcmul(shift, self.norm(x), 1 + scale))
        back = "b (f h w) (d p q) -> b d f (h p) (w q)"
        v: Tensor = rearrange(x, back, f=grid[0], h=grid[1], p=patch, q=patch)
        return v

    def _tokens(self, z: Tensor) -> Tensor:
        """Cut latents (B, D, f, h, w) into the tokens of their patches, (B, N, D p p)."""
        patch = self.config.patch
        return rearrange(z, "b d f (h p) (w q) -> b (f h w) (d p q)", p=patch, q=patch)

    def _transform(
        self, x: Tensor, embedding: Tensor, cond: Cond | None, grid: Grid, num_frames: int
    ) -> Tensor:
        """Run the blocks over the tokens of a grid, x (B, F H W, width)."""
        positions = positions_of(grid, self.config, num_frames=num_frames, device=x.device)
        for block in self.blocks:
            x = block(x, embedding, cond, positions)
        return x


class _OuterLevel(nn.Module):
    """Blocks at twice the grid, before and after the inner level; 2x2 tokens become one for it.

    What the inner level says is added to what the outer one holds, and starts at zero.
    """

    def __init__(self, config: TransformerConfig, outer: OuterConfig) -> None:
        super().__init__()
        blocks = replace(config, width=outer.width, depth=outer.depth, outer=None)

        def half() -> nn.ModuleList:
            return nn.ModuleList(
                Block(blocks, embedding_width=config.width) for _ in range(outer.depth // 2)
            )

        self.config = config
        self.before, self.after = half(), half()
        self.merge = nn.Linear(4 * outer.width, config.width)
        self.split = zero_init(nn.Linear(config.width, 4 * outer.width))

    def forward(
        self,
        x: Tensor,
        embedding: Tensor,
        cond: Cond | None,
        grid: Grid,
        num_frames: int,
        inner: _Level,
    ) -> Tensor:
        """Map x (B, F H W, outer width), with ``inner`` run over (F, H / 2, W / 2)."""
        frames, height, width = grid
        positions = positions_of(grid, self.config, num_frames=num_frames, device=x.device)
        for block in self.before:
            x = block(x, embedding, cond, positions)
        fine, coarse = "b (f h p w q) d", "b (f h w) (p q d)"
        sizes = {"f": frames, "h": height // 2, "w": width // 2, "p": 2, "q": 2}
        h = self.merge(rearrange(x, f"{fine} -> {coarse}", **sizes))  # (B, N / 4, width)
        h = inner(h, embedding, cond, (frames, height // 2, width // 2), num_frames)
        x = x + rearrange(self.split(h), f"{coarse} -> {fine}", **sizes)
        for block in self.after:
            x = block(x, embedding, cond, positions)
        return x


def _one_by_one(cond: Cond, num_frames: int) -> Cond:
    """Return the condition of every frame by itself: tokens of the clip, latents of the frame."""
    given = None if cond.given is None else fold_frames(cond.given)[:, :, None]
    tokens, mask = (x.repeat_interleave(num_frames, dim=0) for x in (cond.tokens, cond.mask))
    return Cond(tokens, mask, given=given)


def _masked_mean(cond: Cond) -> Tensor:
    """Return the mean of the tokens in use, (B, E)."""
    used = cond.mask.to(cond.tokens.dtype)[..., None]
    return (cond.tokens * used).sum(1) / used.sum(1).clamp(min=1)
