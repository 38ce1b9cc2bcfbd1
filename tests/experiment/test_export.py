import json
import shutil

import numpy as np
import pytest
import torch

from ulrec.errors import ArtefactError, ConfigError
from ulrec.experiment.export import export
from ulrec.experiment.runner import Run, run_stages
from ulrec.experiment.stages import STAGES
from ulrec.pipeline import Pipeline, load_autoencoder, load_base


@pytest.fixture(scope="module")
def shipped(tiny_run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("shipped") / "tiny"
    export(tiny_run, folder)
    return folder


def export_of(run, folder):
    export(run, folder)
    return folder


def run_up_to(run: Run, last: str) -> None:
    names = list(STAGES)
    stages = [STAGES[name] for name in names[: names.index(last) + 1]]
    run_stages(run, stages, report=lambda result: None)


def test_weights_are_rounded_to_half_and_computed_with_in_single(tiny_run, shipped):
    own, _ = load_autoencoder(tiny_run.path("autoencoder"))
    stored, _ = load_autoencoder(shipped / "autoencoder")
    for (name, weight), rounded in zip(
        own.state_dict().items(), stored.state_dict().values(), strict=True
    ):
        assert rounded.dtype == torch.float32
        assert torch.equal(rounded, weight.half().float()), name
    half = sum(path.stat().st_size for path in shipped.rglob("model.safetensors"))
    parts = ("autoencoder", "prior", "base_unconditional")
    full = sum((tiny_run.path(p) / "model.safetensors").stat().st_size for p in parts)
    assert 0.5 <= half / full < 0.6  # the headers are as long


def test_eight_bits_for_prior_and_base_only(tiny_run, shipped, make_config, tmp_path):
    small = tmp_path / "small"
    said = export(tiny_run, small, bits=8)
    assert "the last two in 8 bits" in said
    weights = {
        part: [(folder / part / "model.safetensors") for folder in (small, shipped)]
        for part in ("autoencoder", "prior", "base")
    }
    assert weights["autoencoder"][0].read_bytes() == weights["autoencoder"][1].read_bytes()
    for part in ("prior", "base"):
        rounded, half = (path.stat().st_size for path in weights[part])
        assert rounded < 0.85 * half  # tiny: names and scales weigh as much as the weights
    run = Run(
        config=make_config(tmp_path, f"latents.pretrained={small}", f"base.pretrained={small}")
    )
    run_up_to(run, "train-base")
    own, _ = load_base(tiny_run.path("base_unconditional"))
    stored, _ = load_base(run.path("base_unconditional"))
    for (name, weight), rounded in zip(
        own.state_dict().items(), stored.state_dict().values(), strict=True
    ):
        scale = weight.abs().flatten(1).amax(1) if weight.ndim > 1 else weight.abs().max()
        error = (rounded - weight).abs()
        assert (error.flatten(1).amax(1) if weight.ndim > 1 else error).le(scale / 250).all(), name
    again = tmp_path / "again"  # nothing is rounded twice
    export(run, again, bits=8)
    for part, (once, _) in weights.items():
        assert (again / part / "model.safetensors").read_bytes() == once.read_bytes(), part


def test_other_bits_are_refused(tiny_run, tmp_path):
    with pytest.raises(ArtefactError, match="16 or 8 bits, got 4"):
        export(tiny_run, tmp_path / "none", bits=4)
    assert not (tmp_path / "none").exists()


def test_a_run_starts_from_it_and_conditions_it(tiny_run, shipped, make_config, tmp_path):
    overrides = (f"latents.pretrained={shipped}", f"base.pretrained={shipped}")
    run = Run(config=make_config(tmp_path, *overrides))
    run_up_to(run, "index")
    for ours, theirs in (("autoencoder",) * 2, ("prior",) * 2, ("base_unconditional", "base")):
        stored = json.loads((shipped / theirs / "manifest.json").read_text())
        assert run.fingerprint(ours) == stored["fingerprint"]
    again = export_of(run, tmp_path / "again")  # nothing is rounded twice, or renamed
    for part in ("autoencoder", "prior", "base"):
        assert (again / part / "model.safetensors").read_bytes() == (
            shipped / part / "model.safetensors"
        ).read_bytes()
        if part != "base":
            assert (again / part / "manifest.json").read_bytes() == (
                shipped / part / "manifest.json"
            ).read_bytes()
    pipeline = Pipeline.load(run.folder)
    made = pipeline.generate(pipeline.factors.users[np.arange(2)], guidance=1.0)
    assert made.media.shape == (2, 3, 1, 16, 16)


def test_another_export_under_the_same_path_is_noticed(shipped, make_config, tmp_path):
    place = tmp_path / "mine"
    shutil.copytree(shipped, place)
    run = Run(config=make_config(tmp_path / "runs", f"latents.pretrained={place}"))
    run_up_to(run, "train-latents")
    manifest = place / "autoencoder" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"format": 1', '"format":1'))
    stage = [STAGES["train-latents"]]
    assert not run_stages(run, stage, report=lambda result: None)[0].skipped
    assert run_stages(run, stage, report=lambda result: None)[0].skipped


def test_a_base_of_another_autoencoder_is_refused(shipped, make_config, tmp_path):
    run = Run(config=make_config(tmp_path, f"base.pretrained={shipped}"))
    with pytest.raises(ArtefactError, match="belongs to another autoencoder"):
        run_up_to(run, "train-base")


def test_media_of_another_size_are_refused(shipped, make_config, tmp_path):
    size = ("data.media.height=32", "latents.model.autoencoder.height=32")
    run = Run(config=make_config(tmp_path, f"latents.pretrained={shipped}", *size))
    with pytest.raises(ConfigError, match=r"takes media .* = \(3, 1, 16, 16\).*\(3, 1, 32, 16\)"):
        run_up_to(run, "train-latents")


def test_an_unknown_name_is_refused_with_what_there_is(make_config, tmp_path):
    run = Run(config=make_config(tmp_path, "latents.pretrained=emoji_999"))
    with pytest.raises(ConfigError, match="no pretrained model 'emoji_999'"):
        run_up_to(run, "train-latents")


def test_nothing_is_overwritten(tiny_run, shipped):
    with pytest.raises(ArtefactError, match="exists already"):
        export(tiny_run, shipped)


def test_a_failed_export_leaves_nothing(tiny_copy, tmp_path):
    (tiny_copy.path("prior") / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(ArtefactError, match="prior"):
        export(tiny_copy, tmp_path / "out")
    assert not (tmp_path / "out").exists() and not (tmp_path / ".out.tmp").exists()


def test_training_starts_from_it_at_another_size(shipped, make_config, tmp_path):
    still = "latents.fit.optimiser.learning_rate=1e-12"
    sizes = [f"{place}=24" for place in ("data.media.height", "latents.model.autoencoder.height")]
    run = Run(config=make_config(tmp_path, f"latents.start_from={shipped}", still, *sizes))
    run_up_to(run, "train-latents")
    started, _ = load_autoencoder(shipped / "autoencoder")
    trained, _ = load_autoencoder(run.path("autoencoder"))
    assert trained.config.height == 24
    for (name, weight), other in zip(
        started.state_dict().items(), trained.state_dict().values(), strict=True
    ):
        torch.testing.assert_close(weight, other, rtol=1e-5, atol=1e-7, msg=name)
    stored = json.loads((shipped / "autoencoder" / "manifest.json").read_text())
    manifest = json.loads((run.path("autoencoder") / "manifest.json").read_text())
    assert manifest["made_from"]["start_from"] == stored["fingerprint"]


def test_other_networks_cannot_start_from_it(shipped, make_config, tmp_path):
    wider = "latents.model.autoencoder.encoder.channels=[24, 32]"
    run = Run(config=make_config(tmp_path, f"latents.start_from={shipped}", wider))
    with pytest.raises(ArtefactError, match="the configuration asks for"):
        run_up_to(run, "train-latents")


def test_a_model_is_used_as_it_is_or_trained_on(make_config, tmp_path):
    with pytest.raises(ConfigError, match="set one of them"):
        make_config(tmp_path, "latents.start_from=emoji32", "latents.pretrained=emoji32")
