from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from ulrec.models.autoencoder import AutoencoderConfig
from ulrec.models.prior import PriorConfig
from ulrec.models.unified import Unified, UnifiedConfig
from ulrec.networks.decoder import DecoderConfig
from ulrec.networks.encoder import EncoderConfig
from ulrec.networks.transformer import TransformerConfig


@pytest.fixture(scope="session")
def network() -> TransformerConfig:
    return TransformerConfig(width=32, depth=1, head_width=16)


@pytest.fixture(scope="package", autouse=True)
def one_thread():
    """Networks this small are faster without threads, by far where the processor is shared."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tiny(network) -> UnifiedConfig:
    """Pictures of 8x8 with latents of 4x2x2."""
    encoder = EncoderConfig(channels=(16, 32), num_blocks=1, num_last_blocks=1, latent_channels=4)
    autoencoder = AutoencoderConfig(
        height=8,
        width=8,
        loss_factor=15.0,
        bias_x=0.0,
        encoder=encoder,
        decoder=DecoderConfig(channels=(16,), num_blocks=1, middle=network),
    )
    return UnifiedConfig(autoencoder=autoencoder, prior=PriorConfig(network=network))


@pytest.fixture(scope="session")
def pictures() -> Tensor:
    """Eight pictures of four coloured squares, (8, 3, 1, 8, 8)."""
    generator = torch.Generator().manual_seed(0)
    squares = torch.randint(0, 2, (8, 3, 1, 2, 2), generator=generator) * 1.6 - 0.8
    return squares.repeat_interleave(4, dim=3).repeat_interleave(4, dim=4)


@pytest.fixture
def randomised() -> Callable[[nn.Module], nn.Module]:
    """Move all weights of a module, so that no layer is zero, and set it to evaluation."""

    def randomise(module: nn.Module) -> nn.Module:
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
        return module.eval()

    return randomise


@pytest.fixture(scope="package")
def overfitted(tiny, pictures) -> tuple[Unified, list[float]]:
    """Stage 1 after 70 steps on the eight pictures, and its losses."""
    torch.manual_seed(0)
    model = Unified(tiny)
    return model, overfit(model, pictures)


@pytest.fixture(scope="package")
def collapsed(tiny, pictures) -> Unified:
    """The same with an encoder that says nothing of its picture."""
    torch.manual_seed(0)
    model = Unified(tiny)
    nn.init.zeros_(model.autoencoder.encoder.out.weight)
    model.autoencoder.encoder.requires_grad_(False)
    overfit(model, pictures)
    return model


def overfit(model: Unified, x: Tensor, *, num_steps: int = 70) -> list[float]:
    generator = torch.Generator().manual_seed(0)
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(learning, lr=4e-3)
    losses = []
    for step in range(num_steps):
        loss = model.loss(x, generator=generator, progress=step / num_steps).total
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    model.eval()
    return losses
