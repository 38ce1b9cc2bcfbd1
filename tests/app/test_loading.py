"""A run as the demo reads it."""

from dataclasses import replace
from pathlib import Path

from ulrec.app.loading import FAST_STEPS, load, stamp_of
from ulrec.config import to_yaml
from ulrec.diffusion.sampler import SamplerConfig
from ulrec.experiment.runner import Run


def test_a_run_whose_steps_are_placed_can_be_drawn_fast(tiny_copy: Run) -> None:
    """Fast steps are even ones: the levels of another number cannot be kept."""
    placed = SamplerConfig(
        name="dpmpp_2m_sde", num_steps=8, levels=(-4, -2, -1, 0, 1, 2, 3), noise_until=-1.0
    )
    decoder = SamplerConfig(num_steps=3, levels=(3.0, 6.0))
    config = tiny_copy.config
    config = replace(config, generate=replace(config.generate, sampler=placed, decoder=decoder))
    tiny_copy.path("config.yaml").write_text(to_yaml(config))
    folder = Path(tiny_copy.folder)
    shown = load(str(folder), stamp_of(folder))
    assert shown.fine.sampler == placed and shown.fine.decoder == decoder
    even = replace(placed, num_steps=FAST_STEPS[0], levels=None)
    assert shown.fast.sampler == even and shown.fast.decoder == decoder
