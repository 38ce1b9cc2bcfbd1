from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from ulrec.data.media import MediaConfig, MediaStore, prepare_media
from ulrec.data.partial import partial_store
from ulrec.errors import ArtefactError, DataError

NUM = 300


def picture(seed, kind="PNG"):
    pixels = np.random.default_rng(seed).integers(0, 256, (4, 4, 4), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


def catalogue(**changed):
    images = [picture(seed) for seed in range(NUM)]
    images[5] = images[250] = b"broken"
    for row, image in changed.items():
        images[int(row[1:])] = image
    return pa.table({"item_id": list(range(NUM)), "image": pa.array(images, pa.binary())})


CONFIG = MediaConfig(height=4, width=4)


def stop_at(count):
    def progress(done, total):
        if done == count:
            raise KeyboardInterrupt

    return progress


def files_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def decoded_counts(monkeypatch):
    """Count what is decoded from now on."""
    import ulrec.data.media as media

    counted, decode_entry = [], media.decode_entry

    def count(entry, root, config):
        counted.append(entry.item_id)
        return decode_entry(entry, root, config)

    monkeypatch.setattr(media, "decode_entry", count)
    return counted


def test_it_goes_on_where_it_stopped_and_gives_the_same_bytes(tmp_path, monkeypatch):
    whole = prepare_media(catalogue(), config=CONFIG, folder=tmp_path / "whole")
    for count in (128, 256):
        with pytest.raises(KeyboardInterrupt):
            prepare_media(
                catalogue(), config=CONFIG, folder=tmp_path / "m", progress=stop_at(count)
            )
        assert not (tmp_path / "m").exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == [".m.partial", "whole"]
    counted, done = decoded_counts(monkeypatch), []
    resumed = prepare_media(
        catalogue(), config=CONFIG, folder=tmp_path / "m", progress=lambda n, total: done.append(n)
    )
    assert sorted(counted) == list(range(256, NUM))
    assert done == [NUM]
    assert resumed.manifest == whole.manifest
    assert files_of(tmp_path / "m") == files_of(tmp_path / "whole")
    assert [entry.item_id for entry in resumed.quarantine] == [5, 250]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m", "whole"]


def test_a_store_in_use_stays_until_the_new_one_is_whole(tmp_path):
    before = prepare_media(catalogue(), config=CONFIG, folder=tmp_path / "m").manifest
    other = MediaConfig(height=8, width=8)
    with pytest.raises(KeyboardInterrupt):
        prepare_media(catalogue(), config=other, folder=tmp_path / "m", progress=stop_at(256))
    assert MediaStore.open(tmp_path / "m").manifest == before
    assert prepare_media(catalogue(), config=other, folder=tmp_path / "m").media.shape[-1] == 8


@pytest.mark.parametrize(
    ("config", "table", "first"),
    [
        (MediaConfig(height=4, width=4, fit="crop"), catalogue(), 0),  # another configuration
        (MediaConfig(height=4, width=4, max_bad_share=0.5), catalogue(), 256),  # decides on no row
        (CONFIG, catalogue(r100=picture(9999)), 100),  # another picture
        (CONFIG, catalogue(r250=picture(250)), 250),  # one that is mended
        (CONFIG, catalogue().slice(1), 0),  # other rows
    ],
)
def test_only_what_is_unchanged_is_kept(tmp_path, monkeypatch, config, table, first):
    with pytest.raises(KeyboardInterrupt):
        prepare_media(catalogue(), config=CONFIG, folder=tmp_path / "m", progress=stop_at(256))
    counted = decoded_counts(monkeypatch)
    resumed = prepare_media(table, config=config, folder=tmp_path / "m")
    assert min(counted) == max(first, table["item_id"][0].as_py())
    fresh = prepare_media(table, config=config, folder=tmp_path / "fresh")
    assert files_of(tmp_path / "m") == files_of(tmp_path / "fresh")
    assert resumed.manifest == fresh.manifest


def test_files_that_changed_are_read_again(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    for row in range(200):
        (root / f"{row}.png").write_bytes(picture(row))
    table = pa.table({"item_id": list(range(200)), "path": [f"{row}.png" for row in range(200)]})
    options = {"config": CONFIG, "media_root": root}
    with pytest.raises(KeyboardInterrupt):
        prepare_media(table, folder=tmp_path / "m", progress=stop_at(128), **options)
    (root / "7.png").write_bytes(picture(9999) + b"\n")
    resumed = prepare_media(table, folder=tmp_path / "m", **options)
    fresh = prepare_media(table, folder=tmp_path / "fresh", **options)
    assert resumed.manifest == fresh.manifest


def test_a_killed_process_loses_only_what_was_not_on_disk(tmp_path):
    code = (
        "import os, signal, sys\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "import test_partial as t, ulrec.data.partial as partial\n"
        "partial.SYNC_S = 0.2\n"
        "kill = lambda done, total: done == 128 and os.kill(os.getpid(), signal.SIGKILL)\n"
        "t.prepare_media(t.catalogue(), config=t.CONFIG, folder=sys.argv[1], progress=kill)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "m")], check=False)
    assert done.returncode == -signal.SIGKILL
    journal = tmp_path / ".m.partial" / "journal.jsonl"
    with journal.open("a") as file:
        file.write('[128, "half a li')  # what a crash of the machine may leave
    store = prepare_media(catalogue(), config=CONFIG, folder=tmp_path / "m")
    whole = prepare_media(catalogue(), config=CONFIG, folder=tmp_path / "whole")
    assert store.manifest == whole.manifest


def test_a_finished_store_is_never_written_into(tmp_path):
    """A process that dies between the last rename and the clean-up leaves linked arrays."""
    table = catalogue().slice(10, 100)
    with pytest.raises(KeyboardInterrupt):
        prepare_media(table, config=CONFIG, folder=tmp_path / "m", progress=stop_at(100))
    store = prepare_media(table, config=CONFIG, folder=tmp_path / "n")
    with pytest.raises(KeyboardInterrupt):
        prepare_media(table, config=CONFIG, folder=tmp_path / "n", progress=stop_at(100))
    partial = tmp_path / ".n.partial" / "media.npy"
    partial.unlink()
    os.link(tmp_path / "n" / "media.npy", partial)
    before = (tmp_path / "n" / "media.npy").read_bytes()
    prepare_media(table.slice(1), config=CONFIG, folder=tmp_path / "other")
    with pytest.raises(KeyboardInterrupt):
        changed = table.set_column(1, "image", pa.array([picture(7)] * 100, pa.binary()))
        prepare_media(changed, config=CONFIG, folder=tmp_path / "n", progress=stop_at(100))
    assert (tmp_path / "n" / "media.npy").read_bytes() == before
    assert MediaStore.open(tmp_path / "n").manifest == store.manifest


def test_two_processes_do_not_write_one_store(tmp_path):
    with (
        partial_store(tmp_path / "m", NUM, CONFIG),
        pytest.raises(ArtefactError, match="is being written by another process"),
    ):
        prepare_media(catalogue(), config=CONFIG, folder=tmp_path / "m")


def test_an_unusable_catalogue_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        prepare_media(catalogue(), config=CONFIG, folder=tmp_path / "m", progress=stop_at(256))
    with pytest.raises(DataError, match="cannot be used"):
        strict = MediaConfig(height=4, width=4, max_bad_share=0.0)
        prepare_media(catalogue(), config=strict, folder=tmp_path / "m")
    assert list(tmp_path.iterdir()) == []
