"""With models so small that building one costs nothing; what ships has tests of its own."""

import importlib
import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from ulrec.checkpoint import MANIFEST
from ulrec.errors import ArtefactError, ConfigError, DataError
from ulrec.features.open_clip import (
    ClipConfig,
    ClipModel,
    ClipText,
    ClipVision,
    ReducedTokenizer,
    build_clip,
    import_open_clip,
    save_clip,
    vocabulary_of,
    weight_files,
)

TINY = ClipConfig(
    embed_dim=8,
    vision=ClipVision(image_size=8, patch_size=4, width=16, layers=1, head_width=8),
    text=ClipText(context_length=8, width=16, heads=2, layers=1),
)
WORDS = ["a blue whale", "a red heart"]
MISSING = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "open_clip":
            raise ModuleNotFoundError(name + " is blocked")

sys.meta_path.insert(0, Blocked())
from ulrec.features.open_clip import ClipModel
from ulrec.errors import MissingExtraError
try:
    ClipModel.load("emoji_clip")
except MissingExtraError as error:
    print(error)
"""


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_without_open_clip_the_pip_line_is_named():
    assert "pip install 'ulrec[clip]'" in run(MISSING)


@pytest.fixture(scope="module")
def folder(open_clip_installed, tmp_path_factory):
    torch.manual_seed(0)
    vocabulary = vocabulary_of(WORDS)
    folder = tmp_path_factory.mktemp("clip") / "tiny"
    save_clip(build_clip(TINY, vocabulary), folder, config=TINY, vocabulary=vocabulary)
    return folder


@pytest.mark.usefixtures("open_clip_installed")
class TestInstalled:
    def test_texts_and_pictures_become_unit_vectors_whatever_else_is_asked(self, folder):
        model = ClipModel.load(str(folder))
        pictures = np.random.default_rng(0).integers(0, 256, (70, 3, 16, 16), np.uint8)
        images, texts = model.encode_image(pictures), model.encode_text(WORDS)
        assert images.shape == (70, 8) and texts.shape == (2, 8) and model.dim == 8
        assert images.dtype == texts.dtype == np.float32
        assert np.allclose(np.linalg.norm(images, axis=1), 1, atol=1e-5)
        assert np.allclose(model.encode_image(pictures[66:67]), images[66], atol=1e-5)
        assert not np.allclose(texts[0], texts[1], atol=1e-3)
        again = ClipModel.load(str(folder))
        assert np.array_equal(again.encode_text(WORDS), texts)
        assert again.weight_hash == model.weight_hash
        assert model.encode_image(pictures[:0]).shape == model.encode_text([]).shape == (0, 8)
        assert model.logit_scale == pytest.approx(1 / 0.07, rel=1e-3)

    def test_pictures_of_the_own_size_are_only_standardised(self, folder):
        """A white picture is (1 - 0.5) / 0.5 = 1 everywhere, at any size."""
        model = ClipModel.load(str(folder))
        white = [np.full((1, 3, size, size), 255, np.uint8) for size in (8, 20)]
        with torch.no_grad():
            expected = model._network.encode_image(torch.ones(1, 3, 8, 8), normalize=True)
        for picture in white:
            assert np.allclose(model.encode_image(picture), expected, atol=1e-5)

    def test_loading_leaves_the_seed_of_a_run_alone(self, folder):
        torch.manual_seed(3)
        expected = torch.rand(2)
        torch.manual_seed(3)
        ClipModel.load(str(folder))
        assert torch.equal(torch.rand(2), expected)

    def test_the_vocabulary_numbers_what_it_knows(self):
        tokenizer = ReducedTokenizer(vocabulary_of(WORDS), context_length=6)
        whale, unknown, long = tokenizer(["blue whale", "blue xylophone", "a " * 20])
        start, end = whale[0], whale[3]
        assert end == tokenizer(WORDS).max() and start == end - 1
        assert whale.tolist()[4:] == [0, 0] and whale[1] == unknown[1]
        assert unknown[2] == 1 != whale[2]
        assert long[0] == start and long[-1] == end and len(long) == 6

    def test_bad_input_is_named(self, folder):
        model = ClipModel.load(str(folder))
        with pytest.raises(DataError, match="list of texts"):
            model.encode_text("blue")
        with pytest.raises(DataError, match=r"uint8 \(N, 3, H, W\)"):
            model.encode_image(np.zeros((1, 3, 8, 8), np.float32))

    def test_what_is_not_there_is_named(self, folder, tmp_path):
        with pytest.raises(ConfigError, match="no CLIP model 'nothing'"):
            ClipModel.load("nothing")
        with pytest.raises(ConfigError, match="open_clip has no model 'ViT-Q'"):
            ClipModel.load("openai", model="ViT-Q")
        with pytest.raises(ConfigError, match="neither a file nor weights that RN50"):
            ClipModel.load("best", model="RN50")
        assert weight_files(str(folder)) == [folder / MANIFEST]
        assert weight_files("openai") == []

    def test_offline_a_tag_says_what_to_do(self, monkeypatch, tmp_path):
        import_open_clip()
        constants = importlib.import_module("huggingface_hub.constants")
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
        with pytest.raises(
            ArtefactError, match="give a local file of weights, or use 'emoji_clip'"
        ):
            ClipModel.load("yfcc15m", model="RN50")

    def test_a_file_of_weights_of_a_named_architecture(self, tmp_path):
        open_clip = import_open_clip()
        config = {
            "embed_dim": 8,
            "vision_cfg": {"image_size": 8, "patch_size": 4, "width": 16, "layers": 1},
            "text_cfg": {
                "context_length": 8,
                "vocab_size": 49408,
                "width": 8,
                "heads": 2,
                "layers": 1,
            },
        }
        config["vision_cfg"]["head_width"] = 8
        (tmp_path / "tiny-of-tests.json").write_text(json.dumps(config))
        open_clip.add_model_config(tmp_path / "tiny-of-tests.json")
        network = open_clip.create_model("tiny-of-tests")
        file = tmp_path / "weights.safetensors"
        save_file(network.state_dict(), file)
        model = ClipModel.load(str(file), model="tiny-of-tests")
        with torch.no_grad():
            tokens = open_clip.get_tokenizer("tiny-of-tests")(WORDS)
            expected = network.eval().encode_text(tokens, normalize=True)
        assert np.allclose(model.encode_text(WORDS), expected, atol=1e-5)
        assert model.name == "tiny-of-tests/weights.safetensors"
        file.write_bytes(b"no weights")
        with pytest.raises(ArtefactError, match="holds this model's weights"):
            ClipModel.load(str(file), model="tiny-of-tests")

    def test_weights_of_another_shape_are_refused(self, folder, tmp_path):
        vocabulary = vocabulary_of(WORDS)
        other = ClipConfig(embed_dim=4, vision=TINY.vision, text=TINY.text)
        save_clip(build_clip(TINY, vocabulary), tmp_path / "x", config=other, vocabulary=vocabulary)
        with pytest.raises(ArtefactError, match="do not fit its configuration"):
            ClipModel.load(str(tmp_path / "x"))
