"""What a configuration costs, counted on the meta device: no weights, no memory, no data.

Forward FLOPs of one sample are counted layer by layer, a multiplication and an addition as two. The
paper's rule counts linear projections and attention, three times as much for a training step
(METHOD.md section 4); convolutions, which it leaves out, are counted beside it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ulrec.checkpoint import load_component
from ulrec.conditioning.user import UserConditioner
from ulrec.config import from_mapping
from ulrec.errors import ConfigError
from ulrec.experiment.config import RunConfig
from ulrec.models.autoencoder import AutoencoderConfig
from ulrec.models.base import Base, BaseConfig
from ulrec.models.components import pretrained_folder
from ulrec.models.prediction import with_given
from ulrec.models.prior import PriorConfig
from ulrec.models.unified import Unified, UnifiedConfig
from ulrec.networks.transformer import Attention, Cond

__all__ = ["Cost", "Description", "count", "describe"]

TRAINING = 3
"""Forward and backward pass, in forward passes."""

STATE_BYTES = 20
"""Of a parameter in training: itself, its gradient, two moments of AdamW and its average."""

KEPT = 1.2
"""What autograd keeps, over what the layers answer (tests/experiment/test_describe.py)."""

LIVE = 4
"""Answers of the largest layer that are alive at once while sampling."""

T = TypeVar("T")


@dataclass(kw_only=True, slots=True)
class Cost:
    """What one forward pass of one sample costs.

    Attributes
    ----------
    name
        Of the component.
    parameters
        Their number.
    projections, attention, convolutions
        FLOPs; the first two are the paper's rule.
    answers, largest
        Values that all layers answer, and the largest of them.
    tokens
        Of every attention to itself, each number once.
    """

    name: str
    parameters: int
    projections: int = 0
    attention: int = 0
    convolutions: int = 0
    answers: int = 0
    largest: int = 0
    tokens: list[int] = field(default_factory=list)

    @property
    def paper(self) -> int:
        """FLOPs by the paper's rule."""
        return self.projections + self.attention

    @property
    def flops(self) -> int:
        """FLOPs, convolutions included."""
        return self.paper + self.convolutions


def count(name: str, module: nn.Module, *inputs: Any) -> Cost:
    """Count a forward pass of ``module`` on ``inputs``, which are one sample on its device."""
    cost = Cost(name=name, parameters=sum(p.numel() for p in module.parameters()))

    def after(layer: nn.Module, inputs: Any, options: dict[str, Any], answer: Tensor) -> None:
        if isinstance(layer, nn.Linear):
            cost.projections += 2 * answer.numel() * layer.in_features
        elif isinstance(layer, nn.Conv2d):
            cost.convolutions += 2 * answer.numel() * layer.weight[0].numel()
        elif isinstance(layer, Attention):
            context = options.get("context")
            heard = answer if context is None else context
            cost.attention += 4 * answer.numel() * heard.shape[1]  # q k and its product with v
            if context is None and answer.shape[1] not in cost.tokens:
                cost.tokens.append(answer.shape[1])
            if options.get("rotary") is not None:  # q, k and v are one product, not layers' answers
                cost.projections += 3 * 2 * answer.numel() * answer.shape[-1]
                cost.answers += 5 * answer.numel()  # all three, and q and k turned
                cost.largest = max(cost.largest, 3 * answer.numel())
        if next(layer.children(), None) is None:
            cost.answers += answer.numel()
            cost.largest = max(cost.largest, answer.numel())

    hooks = [m.register_forward_hook(after, with_kwargs=True) for m in module.modules()]
    try:
        with torch.no_grad():
            module(*inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return cost


@dataclass(frozen=True, kw_only=True, slots=True)
class Description:
    """Costs of the components of a run, and what follows from them.

    Attributes
    ----------
    name, media_shape, latent_shape
        The run's, (C, F, H, W) and (D, f, h, w).
    costs
        Encoder, prior, decoder, base, and the base with its condition, in this order.
    batches
        Of stage 1 and of the base.
    evaluations
        Of base and decoder for one picture; guidance evaluates the base twice.
    num_images
        That training is counted for.
    """

    name: str
    media_shape: tuple[int, int, int, int]
    latent_shape: tuple[int, int, int, int]
    costs: tuple[Cost, ...]
    batches: tuple[int, int]
    evaluations: tuple[int, int]
    num_images: int

    @property
    def stages(self) -> tuple[tuple[Cost, ...], tuple[Cost, ...]]:
        """What trains in stage 1 and, at its dearest, in stage 2."""
        return self.costs[:3], self.costs[4:]

    def training_bytes(self, stage: int) -> float:
        """Return 20 bytes a parameter + 1.2 x 4 bytes x batch x answers of all layers.

        In 32 bits, without activation checkpointing; attention keeps no N x N matrix.
        """
        trained = self.stages[stage - 1]
        state = STATE_BYTES * sum(cost.parameters for cost in trained)
        return state + KEPT * 4 * self.batches[stage - 1] * sum(cost.answers for cost in trained)

    @property
    def sampling_bytes(self) -> float:
        """4 bytes a parameter of base and decoder + 4 x 4 bytes x the largest answer of a layer."""
        used = (self.costs[2], self.costs[4])
        state = 4 * sum(cost.parameters for cost in used)
        return state + LIVE * 4 * max(cost.largest for cost in used)

    def training_flops(self, stage: int) -> int:
        """Return the FLOPs of so many images in a stage: three forward passes each."""
        return TRAINING * self.num_images * sum(cost.flops for cost in self.stages[stage - 1])

    @property
    def sampling_flops(self) -> int:
        """FLOPs of one picture from the base and the decoder."""
        used = zip(self.evaluations, (self.costs[4], self.costs[2]), strict=True)
        return sum(times * cost.flops for times, cost in used)

    def __str__(self) -> str:
        media, latent = ("x".join(map(str, s)) for s in (self.media_shape, self.latent_shape))
        head = ("component", "parameters", "GFLOP, paper's rule", "with convolutions", "tokens")
        rows = [head, *(_row(cost) for cost in self.costs)]
        base, decoder = self.evaluations
        thing = "picture" if self.media_shape[1] == 1 else "clip"
        lines = [
            f"{self.name}: media {media}, latents {latent}",
            *_table(rows),
            "FLOPs: forward pass of one sample, a multiplication and an addition as two.",
        ]
        for stage, what in enumerate(("encoder, prior, decoder", "base, conditional"), 1):
            lines.append(
                f"stage {stage} ({what}), batch {self.batches[stage - 1]}: "
                f"about {self.training_bytes(stage) / 2**30:.2f} GiB; "
                f"{self.num_images:,} {thing}s: {self.training_flops(stage):.3g} FLOP"
            )
        lines.append(
            f"sampling one {thing}: {base} x base + {decoder} x decoder = "
            f"{self.sampling_flops / 1e9:,.1f} GFLOP, about {self.sampling_bytes / 2**30:.2f} GiB"
        )
        return "\n".join(lines)


def describe(config: RunConfig, *, num_images: int = 1_000_000) -> Description:
    """Return what the networks of a run cost.

    Parameters
    ----------
    config
        The run; pretrained components are described by their own configurations. Of the sources of
        its base, how long their vectors are is known with the data only: parameters are those of
        ``num_factors`` each.
    num_images
        To count training for, with repetitions.

    Raises
    ------
    ConfigError
        If that is less than one image.
    """
    if num_images < 1:
        raise ConfigError(f"training is counted for at least 1 image, got {num_images}")
    settings = _stage_one(config)
    autoencoder = settings.autoencoder
    base = _base(config, settings)
    num_given = config.base.given_frames
    network = dataclasses.replace(
        base.network,
        cond_width=config.base.conditioner.width,
        given="channels" if num_given else "none",
    )
    conditional = dataclasses.replace(base, network=network, given_frames=num_given)
    with torch.device("meta"):
        unified = Unified(settings)
        users = UserConditioner(config.base.conditioner)
        x, z = (torch.zeros(1, *shape) for shape in (autoencoder.media_shape, base.latent_shape))
        logsnr = torch.zeros(1)
        width = config.base.conditioner.width
        others = list(config.base.sources.named().values())
        tokens = sum(source.num_tokens for source in (config.base.conditioner, *others))
        cond = Cond(torch.zeros(1, tokens, width), torch.ones(1, tokens, dtype=torch.bool))
        if num_given:
            cond = with_given(cond, torch.cat([z, z[:, :1]], dim=1))
        networks = unified.autoencoder
        costs = (
            count("encoder", networks.encoder, x),
            count("prior", unified.prior.network, z, logsnr),
            count("decoder", networks.decoder, x, logsnr, z),
            count("base", Base(base).network, z, logsnr),
            count("base, conditional", Base(conditional).network, z, logsnr, cond),
        )
    heard = [users, *(UserConditioner(source) for source in others)]
    costs[-1].parameters += sum(p.numel() for source in heard for p in source.parameters())
    guided = 1 if config.generate.guidance in (0.0, 1.0) else 2
    return Description(
        name=config.name,
        media_shape=autoencoder.media_shape,
        latent_shape=base.latent_shape,
        costs=costs,
        batches=(config.latents.fit.batch_size, config.base.conditional.batch_size),
        evaluations=(
            guided * config.generate.sampler.num_steps,
            config.generate.decoder.num_steps,
        ),
        num_images=num_images,
    )


def _stage_one(config: RunConfig) -> UnifiedConfig:
    name = config.latents.pretrained
    if name is None:
        return config.latents.model
    return dataclasses.replace(
        config.latents.model,
        autoencoder=_pretrained(name, "autoencoder", AutoencoderConfig),
        prior=_pretrained(name, "prior", PriorConfig),
    )


def _base(config: RunConfig, settings: UnifiedConfig) -> BaseConfig:
    if config.base.pretrained is not None:
        return _pretrained(config.base.pretrained, "base", BaseConfig)
    shape = settings.autoencoder.latent_shape
    return BaseConfig(latent_shape=shape, network=config.base.network)


def _pretrained(name: str, kind: str, cls: type[T]) -> T:
    component = load_component(pretrained_folder(name) / kind, kind=kind)
    return from_mapping(cls, component.config)


def _row(cost: Cost) -> tuple[str, ...]:
    tokens = " + ".join(map(str, cost.tokens)) or "-"
    flops = (f"{value / 1e9:,.3f}" for value in (cost.paper, cost.flops))
    return (cost.name, f"{cost.parameters / 1e6:,.2f} M", *flops, tokens)


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip()
        for row in rows
    ]
