"""Sizes of the networks of both stages, in one table."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from ulrec.models.autoencoder import AutoencoderConfig
from ulrec.models.prior import PriorConfig
from ulrec.models.unified import UnifiedConfig
from ulrec.networks.decoder import DecoderConfig
from ulrec.networks.encoder import EncoderConfig
from ulrec.networks.transformer import OuterConfig, TransformerConfig

__all__ = ["PRESETS", "Preset", "unified_preset"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Preset:
    """Networks of both stages, for media whose longer side is ``size``.

    Media of half the size do without the outermost stage of encoder and decoder, so that the grids
    of latents and of tokens stay.
    """

    size: int
    encoder: EncoderConfig
    decoder: DecoderConfig
    prior: TransformerConfig
    base: TransformerConfig

    def at(self, size: int) -> Preset:
        """Return the preset for media of another size.

        Raises
        ------
        ValueError
            If that takes more stages than there are, or fewer.
        """
        preset = self
        while preset.size > size and preset.decoder.channels:
            preset = dataclasses.replace(
                preset,
                size=preset.size // 2,
                encoder=dataclasses.replace(preset.encoder, channels=preset.encoder.channels[1:]),
                decoder=dataclasses.replace(preset.decoder, channels=preset.decoder.channels[1:]),
            )
        if preset.size != size:
            sizes = [self.size // 2**n for n in range(len(self.decoder.channels) + 1)]
            raise ValueError(
                f"this preset is for media whose longer side is one of {sizes}, got {size}; "
                "resize the media, or take another preset"
            )
        return preset


def unified_preset(name: str, *, height: int, width: int) -> UnifiedConfig:
    """Return stage 1 of a preset for pictures of a size, otherwise by the defaults.

    Raises
    ------
    ValueError
        If there is no such preset, or it does not fit the size.
    """
    if name not in PRESETS:
        raise ValueError(f"no preset '{name}'; choose one of {', '.join(PRESETS)}")
    preset = PRESETS[name].at(max(height, width))
    autoencoder = AutoencoderConfig(
        height=height, width=width, encoder=preset.encoder, decoder=preset.decoder
    )
    return UnifiedConfig(autoencoder=autoencoder, prior=PriorConfig(network=preset.prior))


def _stated(*, head_width: int, base: TransformerConfig) -> Preset:
    """Return the networks that the paper states, around a base (METHOD.md section 4)."""
    block = TransformerConfig(width=1024, depth=8, head_width=head_width)
    return Preset(
        size=512,
        encoder=EncoderConfig(channels=(128, 256, 512, 512), latent_channels=32),
        decoder=DecoderConfig(
            channels=(128, 256, 512), dropout=0.1, middle=dataclasses.replace(block, dropout=0.1)
        ),
        prior=block,
        base=dataclasses.replace(base, head_width=head_width, dropout=0.1),
    )


PRESETS: dict[str, Preset] = {
    "tiny": Preset(
        size=32,
        encoder=EncoderConfig(),
        decoder=DecoderConfig(),
        prior=TransformerConfig(width=128, depth=4),
        base=TransformerConfig(width=160, depth=4),
    ),
    # the paper's base; medium and large are ours, it states them nowhere
    "small": _stated(
        head_width=64, base=TransformerConfig(width=1024, depth=16, outer=OuterConfig())
    ),
    "medium": _stated(
        head_width=128,
        base=TransformerConfig(width=1536, depth=16, outer=OuterConfig(width=768), head_width=128),
    ),
    "large": _stated(
        head_width=128,
        base=TransformerConfig(
            width=2048, depth=24, outer=OuterConfig(width=1024, depth=8), head_width=128
        ),
    ),
}
