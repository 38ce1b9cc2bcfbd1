from __future__ import annotations

import io
import json
import subprocess
import sys

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from ulrec.data.media import MediaConfig, MediaStore, prepare_media, to_uint8
from ulrec.errors import ArtefactError, DataError


def encode(pixels, kind="PNG", **options):
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def config(height=2, width=2, **options):
    return MediaConfig(height=height, width=width, **options)


def noise(height, width, channels=3, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (height, width, channels), dtype=np.uint8)


def catalogue(count=5, **columns):
    ids = [f"i{n}" for n in range(count)]
    images = [encode(noise(4, 4, seed=n)) for n in range(count)]
    return pa.table({"item_id": ids, "image": pa.array(images, pa.binary()), **columns})


def test_store_round_trip(tmp_path):
    done = []
    store = prepare_media(
        catalogue(300),
        config=config(4, 4),
        folder=tmp_path / "media",
        progress=lambda *counts: done.append(counts),
        made_from={"catalogue": "abc"},
    )
    assert len(store) == 300
    assert store.media.shape == (300, 3, 1, 4, 4)
    assert store.masks is None
    assert store.quarantine == ()
    assert store.config == config(4, 4)
    assert store.manifest.made_from == {"catalogue": "abc"}
    assert done == [(128, 300), (256, 300), (300, 300)]
    for row in (0, 150, 299):
        expected = noise(4, 4, seed=row).transpose(2, 0, 1)[:, None]
        np.testing.assert_array_equal(store.media[row], expected)
    x = store.read([299, 0])
    assert x.shape == (2, 3, 1, 4, 4)
    assert x.dtype == np.float32
    np.testing.assert_allclose(x[0], store.media[299] / 127.5 - 1, atol=1e-6)
    np.testing.assert_array_equal(to_uint8(store.read(np.arange(300))), store.media)
    for rows in ([-1], [300], [0.5], 3):
        with pytest.raises(DataError, match=r"ints in 0 .. 299"):
            store.read(rows)
    with pytest.raises(ValueError, match="read-only"):
        store.media[0] = 0


def test_every_pixel_value_survives():
    values = np.arange(256, dtype=np.uint8)
    x = values.astype(np.float32) / np.float32(127.5) - np.float32(1)
    assert x.min() == -1
    assert x.max() == 1
    np.testing.assert_array_equal(to_uint8(x), values)
    with pytest.raises(DataError, match="finite"):
        to_uint8(np.array([np.nan]))


def test_from_parquet_from_polars_and_with_other_threads(tmp_path):
    table = catalogue(200)
    pq.write_table(table, tmp_path / "catalogue.parquet", row_group_size=70)
    options = {"config": config(3, 3)}
    first = prepare_media(tmp_path / "catalogue.parquet", folder=tmp_path / "a", **options)
    for name, source in (("b", table), ("c", pl.from_arrow(table).to_arrow())):
        store = prepare_media(source, folder=tmp_path / name, num_threads=1, **options)
        assert store.manifest.fingerprint == first.manifest.fingerprint


def test_from_files(tmp_path):
    root = tmp_path / "root"
    (root / "deep").mkdir(parents=True)
    (root / "deep" / "1.png").write_bytes(encode(noise(2, 2)))
    (tmp_path / "secret.png").write_bytes(encode(noise(2, 2)))
    paths = [
        "deep/1.png",
        "absent.png",
        "../secret.png",
        str(tmp_path / "secret.png"),
        None,
        "deep",
    ]
    table = pa.table({"item_id": list(range(6)), "path": paths})
    store = prepare_media(
        table, config=config(max_bad_share=0.9), media_root=root, folder=tmp_path / "m"
    )
    assert store.items.ids.tolist() == [0]
    reasons = {entry.item_id: entry.reason for entry in store.quarantine}
    assert list(reasons) == [1, 2, 3, 4, 5]
    assert reasons[1] == "file absent.png cannot be read (No such file or directory)"
    assert reasons[2] == "../secret.png is not below the media root"
    assert reasons[3].endswith("is not below the media root")
    assert reasons[4] == "the catalogue has no picture"
    assert reasons[5] == "file deep cannot be read (Is a directory)"


def test_paths_of_a_parquet_file_are_relative_to_it(tmp_path):
    (tmp_path / "1.png").write_bytes(encode(noise(2, 2)))
    pq.write_table(pa.table({"item_id": [1], "path": ["1.png"]}), tmp_path / "catalogue.parquet")
    store = prepare_media(tmp_path / "catalogue.parquet", config=config(), folder=tmp_path / "m")
    np.testing.assert_array_equal(store.media[0, :, 0].transpose(1, 2, 0), noise(2, 2))


def spoil(table, *rows):
    images = table.column("image").to_pylist()
    for row in rows:
        images[row] = images[row][:40]
    return table.set_column(1, "image", pa.array(images, pa.binary()))


def test_bad_pictures_are_quarantined(tmp_path, caplog):
    table = spoil(catalogue(300), 3, 200)
    store = prepare_media(table, config=config(4, 4), folder=tmp_path / "m")
    expected = [f"i{n}" for n in range(300) if n not in (3, 200)]
    assert store.items.ids.tolist() == expected
    assert store.media.shape[0] == 298
    for row in store.items.rows(["i2", "i4", "i299"]):
        seed = int(expected[row][1:])
        np.testing.assert_array_equal(
            store.media[row, :, 0].transpose(1, 2, 0), noise(4, 4, seed=seed)
        )
    assert [entry.item_id for entry in store.quarantine] == ["i3", "i200"]
    assert store.manifest.info["num_items"] == 298
    assert store.manifest.info["num_quarantined"] == 2
    assert "2 of 300 pictures cannot be used ('i3': is not a readable picture" in caplog.text
    listed = json.loads((tmp_path / "m" / "quarantine.json").read_text())
    assert [entry["item_id"] for entry in listed] == ["i3", "i200"]
    assert sorted(path.name for path in (tmp_path / "m").iterdir()) == [
        "items.parquet",
        "manifest.json",
        "media.npy",
        "quarantine.json",
    ]


def test_too_many_bad_pictures_fail_and_destroy_nothing(tmp_path):
    before = prepare_media(catalogue(10), config=config(), folder=tmp_path / "m")
    message = r"2 of 10 pictures cannot be used \('i1': is not a readable.*at most a share of 0.1"
    with pytest.raises(DataError, match=message):
        prepare_media(spoil(catalogue(10), 1, 2), config=config(), folder=tmp_path / "m")
    with pytest.raises(DataError, match="10 of 10 pictures cannot be used"):
        everything = spoil(catalogue(10), *range(10))
        prepare_media(everything, config=config(max_bad_share=0.99), folder=tmp_path / "m")
    assert MediaStore.open(tmp_path / "m").manifest == before.manifest
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_masks_are_kept_where_any_picture_has_one(tmp_path):
    masks = [None, encode(np.full((4, 4), 7, np.uint8)), b"bad", None]
    table = catalogue(4, mask=pa.array(masks, pa.binary()))
    store = prepare_media(table, config=config(4, 4, max_bad_share=0.5), folder=tmp_path / "m")
    assert store.items.ids.tolist() == ["i0", "i1", "i3"]
    assert store.masks.shape == (3, 1, 4, 4)
    assert store.masks[:, 0, 0, 0].tolist() == [255, 7, 255]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (pa.table({"id": [1], "path": ["a"]}), "has no column 'item_id', it has id, path"),
        (pa.table({"item_id": [1]}), "exactly one of 'image', 'clip' and 'path', got none"),
        (catalogue(2, path=["a", "b"]), "exactly one of .*, got image and path"),
        (pa.table({"item_id": [1], "path": ["a"]}), "give the media_root"),
        (catalogue(2).slice(0, 0), "has no rows"),
        (pa.concat_tables([catalogue(2), catalogue(1)]), "ids have to be unique; 1 repeat"),
        (pa.table({"item_id": [1], "image": ["a"]}), "'image' of .* binary, got string; convert"),
        (pa.table({"item_id": [1], "image": [{"bytes": b""}]}), "binary, got struct"),
        ("absent.parquet", "catalogue not found: absent.parquet"),
    ],
)
def test_bad_catalogues(tmp_path, table, message):
    with pytest.raises(DataError, match=message):
        prepare_media(table, config=config(), folder=tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


def test_other_tables_and_roots(tmp_path):
    (tmp_path / "catalogue.csv").write_text("item_id,path\n1,a\n")
    with pytest.raises(DataError, match=r"cannot be read as parquet .*read_table"):
        prepare_media(tmp_path / "catalogue.csv", config=config(), folder=tmp_path / "m")
    table = pa.table({"item_id": [1], "path": ["a"]})
    with pytest.raises(DataError, match="media root not found"):
        prepare_media(table, config=config(), folder=tmp_path / "m", media_root=tmp_path / "no")


def test_a_damaged_store_is_refused(tmp_path):
    prepare_media(catalogue(2), config=config(), folder=tmp_path / "m")
    with (tmp_path / "m" / "media.npy").open("r+b") as file:
        file.seek(-1, io.SEEK_END)
        file.write(b"\x00\x00")
    with pytest.raises(ArtefactError, match="checksum differs"):
        MediaStore.open(tmp_path / "m")


def test_media_need_no_table_library_and_no_torch():
    code = (
        "import sys; sys.modules.update(dict.fromkeys(('polars', 'scipy', 'torch')));"
        "import ulrec.data.media, ulrec.data.latents, ulrec.data.factors"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
