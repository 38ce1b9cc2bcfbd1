from __future__ import annotations

import json

import numpy as np
import pytest

from ulrec.checkpoint import (
    copy_artefact,
    from_eight_bits,
    hash_file,
    load_component,
    new_artefact,
    open_artefact,
    require_same,
    save_component,
    to_eight_bits,
    write_text,
)
from ulrec.errors import ArtefactError


def write(folder, text="content", kind="thing", **options):
    with new_artefact(folder, kind=kind, **options) as temporary:
        (temporary / "file.txt").write_text(text)
    return open_artefact(folder, kind=kind)


def entries(folder):
    return sorted(path.name for path in folder.iterdir())


def test_manifest(tmp_path):
    info = {"steps": np.int64(3), "loss": np.float32(0.5), "counts": {2: "b", 10: "c"}}
    manifest = write(tmp_path / "a", made_from={"media": "abc"}, info=info)
    assert manifest.files == {"file.txt": hash_file(tmp_path / "a" / "file.txt")}
    assert manifest.made_from == {"media": "abc"}
    assert manifest.info == {"steps": 3, "loss": 0.5, "counts": {"2": "b", "10": "c"}}
    assert entries(tmp_path) == ["a"]


def test_fingerprint_follows_content_sources_and_info(tmp_path):
    first = write(tmp_path / "a").fingerprint
    assert write(tmp_path / "b").fingerprint == first
    assert write(tmp_path / "c", info={"seen": 1}).fingerprint != first
    assert write(tmp_path / "d", text="other").fingerprint != first
    assert write(tmp_path / "e", made_from={"media": "abc"}).fingerprint != first
    assert write(tmp_path / "f", kind="other").fingerprint != first


def test_info_may_be_filled_meanwhile(tmp_path):
    info = {}
    with new_artefact(tmp_path / "a", kind="thing", info=info):
        info["count"] = 7
    assert open_artefact(tmp_path / "a", kind="thing").info == {"count": 7}


def test_failure_leaves_the_previous_one(tmp_path):
    before = write(tmp_path / "a")
    with pytest.raises(KeyError), new_artefact(tmp_path / "a", kind="thing") as temporary:
        (temporary / "file.txt").write_text("half")
        raise KeyError("stop")
    assert open_artefact(tmp_path / "a", kind="thing") == before
    assert entries(tmp_path) == ["a"]


def test_replaces_whole(tmp_path):
    write(tmp_path / "a", text="old")
    with new_artefact(tmp_path / "a", kind="thing") as temporary:
        (temporary / "new.txt").write_text("new")
    assert entries(tmp_path / "a") == ["manifest.json", "new.txt"]
    assert entries(tmp_path) == ["a"]


def test_never_replaces_what_is_no_artefact(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "me.jpg").write_text("dear")
    with pytest.raises(ArtefactError, match="is no artefact"):
        write(photos)
    assert entries(photos) == ["me.jpg"]
    (tmp_path / "file").write_text("dear")
    with pytest.raises(ArtefactError, match="is no artefact"):
        write(tmp_path / "file")
    (tmp_path / "empty").mkdir()
    write(tmp_path / "empty")


def test_crash_between_the_renames_is_mended(tmp_path):
    before = write(tmp_path / "a")
    (tmp_path / "a").rename(tmp_path / ".a.previous")
    assert open_artefact(tmp_path / "a", kind="thing") == before
    write(tmp_path / "b", text="old")
    (tmp_path / "a").rename(tmp_path / ".b.previous")
    after = open_artefact(tmp_path / "b", kind="thing")
    assert after.files["file.txt"] == hash_file(tmp_path / "b" / "file.txt")
    assert entries(tmp_path) == ["b"]


def edit_manifest(folder, change):
    path = folder / "manifest.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda a: (a / "manifest.json").unlink(), "no thing at .*; run the stage that makes it"),
        (lambda a: (a / "manifest.json").write_text("{"), "is damaged"),
        (lambda a: (a / "manifest.json").write_text("[]"), "is damaged"),
        (lambda a: (a / "file.txt").unlink(), "file.txt is missing"),
        (lambda a: (a / "file.txt").write_text("c0ntent"), "checksum differs"),
        (
            lambda a: edit_manifest(a, lambda m: m.update(format=9)),
            "has format 9, this ulrec reads",
        ),
        (
            lambda a: edit_manifest(a, lambda m: m.update(kind="other")),
            "holds a other, a thing was",
        ),
        (lambda a: edit_manifest(a, lambda m: m.update(fingerprint="0")), "was changed"),
        (lambda a: edit_manifest(a, lambda m: m.update(info={"can_fold_in": True})), "was changed"),
        (lambda a: edit_manifest(a, lambda m: m.update(made_from={"x": "y"})), "was changed"),
        (lambda a: edit_manifest(a, lambda m: m.pop("files")), "is damaged"),
    ],
)
def test_damage_is_named(tmp_path, damage, message):
    write(tmp_path / "a")
    damage(tmp_path / "a")
    with pytest.raises(ArtefactError, match=message):
        open_artefact(tmp_path / "a", kind="thing")


def test_component_round_trip(tmp_path):
    tensors = {"w": np.arange(6, dtype=np.float32).reshape(2, 3).T, "n": np.array([1, 2])}
    fingerprint = save_component(
        tmp_path / "c", kind="net", config={"width": 3}, tensors=tensors, info={"steps": 1}
    )
    component = load_component(tmp_path / "c", kind="net")
    assert component.config == {"width": 3}
    assert component.manifest.fingerprint == fingerprint
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(component.tensors[name], tensor)
        assert component.tensors[name].dtype == tensor.dtype


def test_a_flipped_bit_is_found(tmp_path):
    tensors = {"w": np.zeros(8, np.float32)}
    save_component(tmp_path / "c", kind="net", config={}, tensors=tensors)
    path = tmp_path / "c" / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(ArtefactError, match="checksum differs"):
        load_component(tmp_path / "c", kind="net")


def test_a_component_without_weights_is_refused(tmp_path):
    with new_artefact(tmp_path / "c", kind="net") as temporary:
        (temporary / "config.yaml").write_text("{}")
    with pytest.raises(ArtefactError, match="cannot be read"):
        load_component(tmp_path / "c", kind="net")


def test_require_same_names_both():
    require_same("latents", expected="a", got="a", remedy="encode again")
    with pytest.raises(ArtefactError, match="latents: expected fingerprint a, got b; encode again"):
        require_same("latents", expected="a", got="b", remedy="encode again")


def test_write_text_is_atomic(tmp_path):
    write_text(tmp_path / "deep" / "report.html", "grün")
    assert (tmp_path / "deep" / "report.html").read_text(encoding="utf-8") == "grün"
    with pytest.raises(TypeError):
        write_text(tmp_path / "deep" / "report.html", 3)
    assert entries(tmp_path / "deep") == ["report.html"]
    assert (tmp_path / "deep" / "report.html").read_text(encoding="utf-8") == "grün"


def test_a_copy_keeps_its_fingerprint(tmp_path):
    first = write(tmp_path / "a", made_from={"media": "abc"}, info={"seen": 1})
    (tmp_path / "a" / "stray.txt").write_text("not listed")
    assert copy_artefact(tmp_path / "a", tmp_path / "b", kind="thing") == first.fingerprint
    assert open_artefact(tmp_path / "b", kind="thing") == first
    assert entries(tmp_path / "b") == ["file.txt", "manifest.json"]


def test_a_damaged_source_does_not_replace_a_good_copy(tmp_path):
    write(tmp_path / "a")
    good = write(tmp_path / "b", text="good")
    (tmp_path / "a" / "file.txt").write_text("damaged")
    with pytest.raises(ArtefactError, match="damaged"):
        copy_artefact(tmp_path / "a", tmp_path / "b", kind="thing")
    assert open_artefact(tmp_path / "b", kind="thing") == good
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "mine.txt").write_text("mine")
    write(tmp_path / "c")
    with pytest.raises(ArtefactError, match="is no artefact"):
        copy_artefact(tmp_path / "c", tmp_path / "foreign", kind="thing")
    assert entries(tmp_path) == ["a", "b", "c", "foreign"]


def test_eight_bits_round_to_a_254th_of_the_row_and_only_once():
    rng = np.random.default_rng(0)
    weights = {
        "matrix": (rng.normal(size=(5, 7)) * [[1], [1e-6], [1e4], [0], [3]]).astype(np.float32),
        "kernel": rng.normal(size=(4, 3, 2, 2)).astype(np.float32),
        "bias": rng.normal(size=6).astype(np.float32),
        "scalar": np.array(2.5, np.float32),
    }
    stored = to_eight_bits(weights)
    assert stored["matrix"].dtype == stored["kernel"].dtype == np.int8
    back = from_eight_bits(stored)
    assert back.keys() == weights.keys()
    for name in ("matrix", "kernel"):
        rows = weights[name].reshape(len(weights[name]), -1)
        error = np.abs(back[name] - weights[name]).reshape(len(rows), -1).max(axis=1)
        assert (error <= np.abs(rows).max(axis=1) / 253.9).all() and back[name].dtype == np.float32
        assert error[0] > 0
    np.testing.assert_array_equal(back["bias"], weights["bias"].astype(np.float16))
    again = to_eight_bits(back)
    assert again.keys() == stored.keys()
    for name, tensor in stored.items():
        np.testing.assert_array_equal(again[name], tensor)
