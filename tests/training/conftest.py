from __future__ import annotations

import numpy as np
import pytest
import torch

from ulrec.models.autoencoder import AutoencoderConfig
from ulrec.models.prior import PriorConfig
from ulrec.models.unified import UnifiedConfig
from ulrec.networks.decoder import DecoderConfig
from ulrec.networks.encoder import EncoderConfig
from ulrec.networks.transformer import TransformerConfig
from ulrec.training.datamodule import AugmentConfig, Source, media_source

NUM_SAMPLES = 20


@pytest.fixture(scope="package", autouse=True)
def one_thread():
    """Networks this small are faster without threads, by far where the processor is shared."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def network() -> TransformerConfig:
    """Dropout included: it has to resume and to repeat as well."""
    return TransformerConfig(width=16, depth=1, head_width=8, dropout=0.1)


@pytest.fixture(scope="session")
def tiny(network) -> UnifiedConfig:
    """Pictures of 8x8 with latents of 8x2x2."""
    encoder = EncoderConfig(channels=(8, 8), num_blocks=1, num_last_blocks=1)
    decoder = DecoderConfig(channels=(8,), num_blocks=1, middle=network, dropout=0.1)
    autoencoder = AutoencoderConfig(height=8, width=8, encoder=encoder, decoder=decoder)
    return UnifiedConfig(autoencoder=autoencoder, prior=PriorConfig(network=network))


@pytest.fixture(scope="session")
def media() -> Source:
    """Twenty pictures of noise, half of them mirrored at random."""
    x = np.random.default_rng(0).uniform(-1, 1, (NUM_SAMPLES, 3, 1, 8, 8)).astype(np.float32)
    return media_source(lambda rows: x[rows], np.arange(NUM_SAMPLES), augment=AugmentConfig())
