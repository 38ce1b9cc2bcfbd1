"""`ulrec describe`: costs on the meta device, against torch's counter and the paper's figures."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ulrec.cli import main
from ulrec.config import load_config
from ulrec.experiment.config import RunConfig
from ulrec.experiment.describe import KEPT, count, describe
from ulrec.networks.decoder import Decoder, DecoderConfig
from ulrec.networks.encoder import Encoder, EncoderConfig
from ulrec.networks.transformer import Cond, LatentTransformer, OuterConfig, TransformerConfig

CONFIGS = Path(__file__).parents[2] / "configs"
SMALL = CONFIGS / "imagenet512_small.yaml"
COND = Cond(torch.randn(1, 3, 24), torch.ones(1, 3, dtype=torch.bool))
TWO_LEVELS = TransformerConfig(
    width=64, depth=2, head_width=16, cond_width=24, outer=OuterConfig(width=32, depth=2)
)


def networks():
    z, logsnr = torch.randn(1, 8, 1, 8, 8), torch.zeros(1)
    x = torch.randn(1, 3, 1, 32, 32)
    return {
        "encoder": (Encoder(EncoderConfig()), x),
        "decoder": (Decoder(DecoderConfig(), latent_channels=8), x, logsnr, z),
        "transformer": (LatentTransformer(TransformerConfig(), channels=8), z, logsnr),
        "base": (LatentTransformer(TWO_LEVELS, channels=8), z, logsnr, COND),
        **in_time(),
    }


def in_time():
    """Networks of clips: convolutions and attention over frames, four of which share a latent."""
    x, z, logsnr = torch.randn(1, 3, 8, 32, 32), torch.randn(1, 8, 2, 8, 8), torch.zeros(1)
    axial = TransformerConfig(temporal="axial")
    encoder = Encoder(EncoderConfig(temporal_kernel=3, frame_stride=4))
    decoder = DecoderConfig(temporal_kernel=3, middle=axial)
    return {
        "encoder of clips": (encoder, x),
        "decoder of clips": (Decoder(decoder, latent_channels=8, frame_stride=4), x, logsnr, z),
        "transformer of clips": (LatentTransformer(axial, channels=8), z, logsnr),
    }


@pytest.mark.parametrize("name", networks())
def test_flops_are_those_of_torch(name):
    """Each rule within 1 % of the counter, attention spelt out."""
    network, *inputs = networks()[name]
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, torch.no_grad():
        network(*inputs)
    counts = counter.get_flop_counts()["Global"]
    convolutions = sum(n for op, n in counts.items() if "convolution" in str(op))
    cost = count(name, network, *inputs)
    assert cost.convolutions == pytest.approx(convolutions, rel=0.01)
    assert cost.paper == pytest.approx(counter.get_total_flops() - convolutions, rel=0.01)
    assert cost.flops == pytest.approx(counter.get_total_flops(), rel=0.01)
    assert cost.parameters == sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize("name", networks())
def test_memory_is_about_what_autograd_keeps(name):
    network, *inputs = networks()[name]
    own = {p.untyped_storage().data_ptr() for p in network.parameters()}
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = (tensor, storage.nbytes())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        network(*inputs)
    expected = sum(size for _, size in kept.values())
    assert KEPT * 4 * count(name, network, *inputs).answers == pytest.approx(expected, rel=0.2)


@pytest.mark.parametrize("size", ["small", "medium"])
def test_clips_at_the_papers_scale(size):
    """METHOD.md section 4: 16 frames of 128^2 become 4x16x16 latents, as many as of 512^2."""
    clips = describe(load_config(RunConfig, CONFIGS / f"kinetics600_{size}.yaml"))
    pictures = describe(load_config(RunConfig, CONFIGS / f"imagenet512_{size}.yaml"))
    assert clips.media_shape == (3, 16, 128, 128)
    assert clips.latent_shape == (32, 4, 16, 16)
    of_clips, of_pictures = ({c.name: c for c in d.costs} for d in (clips, pictures))
    for name in ("prior", "base"):
        assert of_clips[name].parameters == of_pictures[name].parameters
        assert of_clips[name].paper == of_pictures[name].paper
    given = of_clips["base, conditional"].parameters - of_pictures["base, conditional"].parameters
    assert (
        given
        == 33
        * load_config(RunConfig, CONFIGS / f"kinetics600_{size}.yaml").base.network.outer.width
    )
    assert "sampling one clip" in str(clips)


def test_the_networks_that_the_paper_states():
    """METHOD.md section 4: prior of 240 GFLOP and 101 M, base of 159 and 220 M in their blocks."""
    found = describe(load_config(RunConfig, SMALL), num_images=1000)
    cost = {cost.name: cost for cost in found.costs}
    assert found.latent_shape == (32, 1, 32, 32)
    assert cost["prior"].paper == pytest.approx(240e9, rel=0.01)
    assert cost["base"].paper == pytest.approx(159e9, rel=0.02)  # what joins the levels is ours
    modulation = 8 * 4 * 1024 * 1025  # scales and shifts of the blocks are ours
    assert cost["prior"].parameters - modulation == pytest.approx(101e6, rel=0.04)
    modulation = (16 * 1024 + 6 * 512) * 4 * 1025
    assert cost["base"].parameters - modulation == pytest.approx(220e6, rel=0.04)
    assert cost["prior"].tokens == [1024]
    assert cost["base"].tokens == [1024, 256]
    assert cost["base, conditional"].flops > cost["base"].flops
    stage_1 = sum(cost[name].flops for name in ("encoder", "prior", "decoder"))
    assert found.training_flops(1) == 3 * 1000 * stage_1
    assert found.training_flops(2) == 3 * 1000 * cost["base, conditional"].flops
    assert found.sampling_flops == 32 * (cost["base, conditional"].flops + cost["decoder"].flops)


def test_memory_by_its_formula():
    found = describe(load_config(RunConfig, None), num_images=1)
    used = found.costs[:3]
    state = 20 * sum(cost.parameters for cost in used)
    activations = 1.2 * 4 * 32 * sum(cost.answers for cost in used)
    assert found.training_bytes(1) == pytest.approx(state + activations)
    parameters = found.costs[2].parameters + found.costs[4].parameters
    assert found.sampling_bytes > 4 * parameters


def test_the_table(capsys):
    assert main(["describe", str(SMALL), "name=mine", "--images", "5000"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "mine: media 3x1x512x512, latents 32x1x32x32"
    assert [line.split("  ")[0] for line in lines[2:7]] == [
        *("encoder", "prior", "decoder", "base", "base, conditional")
    ]
    assert "1024 + 256" in lines[5]
    assert "5,000 pictures" in lines[8]


def test_pretrained_networks_are_those_that_were_trained():
    """The quickstart trains no stage 1: its costs are those of what ships."""
    shipped = describe(load_config(RunConfig, CONFIGS / "quickstart.yaml"))
    trained = describe(load_config(RunConfig, CONFIGS / "emoji32.yaml"))
    assert [c.flops for c in shipped.costs[:4]] == [c.flops for c in trained.costs[:4]]


def test_guidance_evaluates_the_base_twice():
    plain = describe(load_config(RunConfig, None, ["generate.guidance=1"]))
    guided = describe(load_config(RunConfig, None, ["generate.guidance=3"]))
    assert guided.evaluations == (2 * plain.evaluations[0], plain.evaluations[1])


def test_no_images_are_refused(capsys):
    assert main(["describe", str(CONFIGS / "tiny.yaml"), "--images", "0"]) == 1
    assert "at least 1 image, got 0" in capsys.readouterr().err


def test_every_source_is_heard():
    config = load_config(RunConfig, CONFIGS / "quickstart.yaml")
    more = load_config(RunConfig, CONFIGS / "quickstart.yaml", ["base.sources.text.num_factors=64"])
    users, both = (describe(c).costs[-1] for c in (config, more))
    layers, places, width, tokens = 4, 64, 192, 4  # q k and its product with v, of each
    assert both.attention - users.attention == 4 * layers * places * width * tokens
    assert both.parameters > users.parameters
