"""A training step of ulrec against one of `diffusers` components, at equal FLOPs, interleaved.

    pip install diffusers==0.35.2
    python examples/benchmarks/step_time.py --rounds 15

Stage 2: our transformer against DiTTransformer2DModel. Stage 1: encoder, prior and decoder against
diffusers' VAE encoder, DiT and UNet2DModel. Forward, backward and a fused AdamW step on one batch,
losses alike; FLOPs of a forward pass are torch's count of both, and times are compared per FLOP, so
that widths that do not meet exactly do not matter. Prints medians over rounds and the ratio of each
round's pair, ours over theirs: below 1 we are faster.
"""

import argparse
import dataclasses
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ulrec.models.autoencoder import AutoencoderConfig
from ulrec.models.base import Base, BaseConfig
from ulrec.models.prior import PriorConfig
from ulrec.models.unified import Unified, UnifiedConfig
from ulrec.networks.decoder import DecoderConfig
from ulrec.networks.encoder import EncoderConfig
from ulrec.networks.transformer import TransformerConfig

LATENT = (8, 1, 8, 8)
LEVELS = 1000

Network = TypeVar("Network", bound=nn.Module)


@dataclasses.dataclass(frozen=True)
class Contender:
    """A model and the loss of one batch."""

    model: nn.Module
    loss: Callable[[], Tensor]

    @classmethod
    def of(cls, model: Network, loss: Callable[[Network], Tensor]) -> "Contender":
        """Bind the loss to the model."""
        return cls(model.train(), lambda: loss(model))

    def flops(self) -> int:
        """Return the FLOPs of a forward pass, attention spelt out."""
        counter = FlopCounterMode(display=False)
        with sdpa_kernel(SDPBackend.MATH), counter, torch.no_grad():
            self.loss()
        return counter.get_total_flops()

    def stepper(self) -> Callable[[], float]:
        """Return what makes one step and says how many seconds it took."""
        optimiser = torch.optim.AdamW(self.model.parameters(), lr=1e-4, fused=True)

        def step() -> float:
            start = time.perf_counter()
            optimiser.zero_grad()
            self.loss().backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            optimiser.step()
            return time.perf_counter() - start

        return step


def dit(width: int, depth: int, channels: int, size: int) -> nn.Module:
    """Return diffusers' DiT on latents of size x size."""
    from diffusers import DiTTransformer2DModel

    network: nn.Module = DiTTransformer2DModel(
        num_attention_heads=width // 32,
        attention_head_dim=32,
        in_channels=channels,
        num_layers=depth,
        sample_size=size,
        patch_size=1,
        num_embeds_ada_norm=LEVELS,
        norm_num_groups=8,
    )
    return network


def dit_answer(model: nn.Module, z_t: Tensor) -> Tensor:
    """Return what a DiT answers for latents (B, C, h, w), for one class."""
    t = torch.randint(0, LEVELS, (len(z_t),))
    classes = torch.zeros(len(z_t), dtype=torch.long)
    answer: Tensor = model(z_t, timestep=t, class_labels=classes).sample
    return answer


def stage_two(batch: int) -> tuple[Contender, Contender]:
    """Our base of configs/emoji32.yaml, and a DiT of its width and depth."""
    z = torch.randn(batch, *LATENT)
    network = TransformerConfig(width=192, depth=4)
    ours = Base(BaseConfig(latent_shape=LATENT, network=network))

    def loss(model: nn.Module) -> Tensor:
        v, eps = z[:, :, 0], torch.randn_like(z[:, :, 0])
        return functional.mse_loss(dit_answer(model, v + eps), eps)

    return Contender.of(ours, lambda model: model.loss(z)), Contender.of(
        dit(192, 4, *LATENT[::3]), loss
    )


class Peer(nn.Module):
    """Encoder, prior and decoder out of diffusers' parts, on the 2x2 patches that ours have."""

    def __init__(self) -> None:
        super().__init__()
        from diffusers import UNet2DModel
        from diffusers.models.autoencoders.vae import Encoder

        self.encoder = Encoder(
            in_channels=12,
            out_channels=LATENT[0],
            down_block_types=("DownEncoderBlock2D",) * 2,
            block_out_channels=(48, 96),
            layers_per_block=1,
            norm_num_groups=8,
            double_z=False,
            mid_block_add_attention=False,
        )
        self.prior = dit(128, 3, *LATENT[::3])
        self.decoder = UNet2DModel(
            sample_size=16,
            in_channels=12 + LATENT[0],
            out_channels=12,
            layers_per_block=1,
            block_out_channels=(48, 96),
            down_block_types=("DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D"),
            attention_head_dim=16,
            norm_num_groups=8,
        )

    def loss(self, x: Tensor) -> Tensor:
        """Return the two errors of noise, as stage 1 has them."""
        x = functional.pixel_unshuffle(x, 2)
        z = self.encoder(x)
        eps_z, eps_x = torch.randn_like(z), torch.randn_like(x)
        prior = functional.mse_loss(dit_answer(self.prior, z + eps_z), eps_z)
        given = functional.interpolate(z + 0.1 * torch.randn_like(z), size=x.shape[-2:])
        t = torch.randint(0, LEVELS, (len(x),))
        v = self.decoder(torch.cat([x + eps_x, given], dim=1), t).sample
        return prior + functional.mse_loss(v, eps_x)


def stage_one(batch: int) -> tuple[Contender, Contender]:
    """Stage 1 of configs/emoji32.yaml, and the same out of diffusers' parts."""
    x = torch.rand(batch, 3, 1, 32, 32) * 2 - 1
    autoencoder = AutoencoderConfig(
        encoder=EncoderConfig(channels=(64, 128), num_blocks=1, num_last_blocks=2),
        decoder=DecoderConfig(
            channels=(64,), num_blocks=1, middle=TransformerConfig(width=192, depth=3)
        ),
    )
    prior = PriorConfig(network=TransformerConfig(width=128, depth=3))
    ours = Unified(UnifiedConfig(autoencoder=autoencoder, prior=prior))
    return (
        Contender.of(ours, lambda model: model.loss(x).total),
        Contender.of(Peer(), lambda model: model.loss(x[:, :, 0])),
    )


def compare(name: str, pair: tuple[Contender, Contender], rounds: int) -> dict[str, object]:
    """Time both in turn, the order changing from round to round."""
    flops = [contender.flops() for contender in pair]
    steps = [contender.stepper() for contender in pair]
    for step in steps:  # the first step allocates
        step()
    seconds: list[list[float]] = [[], []]
    for number in range(rounds):
        for which in (0, 1) if number % 2 else (1, 0):
            seconds[which].append(steps[which]())
    ratios = [
        (ours / flops[0]) / (theirs / flops[1]) for ours, theirs in zip(*seconds, strict=True)
    ]
    return {
        "step": name,
        "GFLOP ours": round(flops[0] / 1e9, 2),
        "GFLOP diffusers": round(flops[1] / 1e9, 2),
        "ms ours": round(1000 * statistics.median(seconds[0]), 1),
        "ms diffusers": round(1000 * statistics.median(seconds[1]), 1),
        "ratio per FLOP": round(statistics.median(ratios), 3),
        "lowest": round(min(ratios), 3),
        "highest": round(max(ratios), 3),
    }


def main() -> None:
    """Compare both stages."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.set_flush_denormal(True)
    torch.manual_seed(0)
    rows = []
    for name, make in (("stage 1", stage_one), ("stage 2", stage_two)):
        rows.append(compare(name, make(options.batch), options.rounds))
        print(json.dumps(rows[-1]), flush=True)
    if options.out:
        options.out.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
