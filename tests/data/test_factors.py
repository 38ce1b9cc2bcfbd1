from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import save_file

from ulrec.checkpoint import open_artefact
from ulrec.data.factors import Factors, read_embeddings, read_factors
from ulrec.data.ids import IdMap
from ulrec.errors import DataError


def make(**changes):
    rng = np.random.default_rng(0)
    fields = {
        "user_factors": rng.standard_normal((3, 2)).astype(np.float32),
        "item_factors": rng.standard_normal((4, 2)).astype(np.float32),
        "users": IdMap(["a", "b", "c"]),
        "items": IdMap([1, 2, 3, 4]),
        "can_fold_in": True,
    }
    return Factors(**{**fields, **changes})


def test_round_trip(tmp_path):
    factors = make(info={"model": "ease"})
    fingerprint = factors.save(tmp_path / "f", made_from={"interactions": "abc"})
    again = Factors.load(tmp_path / "f")
    np.testing.assert_array_equal(again.user_factors, factors.user_factors)
    np.testing.assert_array_equal(again.item_factors, factors.item_factors)
    assert (again.users, again.items) == (factors.users, factors.items)
    assert again.can_fold_in
    assert again.info["model"] == "ease"
    assert again.fingerprint == fingerprint
    assert again.num_factors == 2
    assert open_artefact(tmp_path / "f", kind="factors").made_from == {"interactions": "abc"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"user_factors": np.zeros((3, 2))}, "has to be a float32 matrix, got float64"),
        ({"user_factors": np.zeros(3, np.float32)}, "has to be a float32 matrix"),
        ({"user_factors": np.zeros((2, 2), np.float32)}, "user_factors has 2 rows, its id map 3"),
        ({"item_factors": np.zeros((4, 3), np.float32)}, "users have 2 factors, items 3"),
        ({"item_factors": np.full((4, 2), np.nan, np.float32)}, "4 rows of item_factors hold NaN"),
    ],
)
def test_bad_factors(changes, message):
    with pytest.raises(DataError, match=message):
        make(**changes)


def test_who_is_known():
    factors = make(user_factors=np.array([[0, 1], [0, 0], [-1, 1]], np.float32))
    assert factors.known_users.tolist() == [True, False, True]
    assert factors.known_items.all()


MATRIX = np.array([[0.5, -1.25], [2.0, 0.0], [3.5, 4.0]])
IDS = ["a", "b", "c"]


def write(folder: Path, name: str, matrix: np.ndarray = MATRIX) -> Path:
    """The matrix in the format of the name, with the ids where the format holds them."""
    path = folder / name
    if path.suffix == ".npy":
        np.save(path, matrix)
    elif path.suffix == ".safetensors":
        save_file({"x": np.ascontiguousarray(matrix)}, path)
    elif "lists" in name:
        pl.DataFrame({"user_id": IDS, "vector": matrix.tolist()}).write_parquet(path)
    elif "array" in name:
        kind = pl.Array(pl.Float32, matrix.shape[1])
        table = {"id": IDS, "vector": pl.Series(matrix.tolist(), dtype=kind)}
        pl.DataFrame(table).write_parquet(path)
    else:
        columns = {f"f{i}": matrix[:, i] for i in reversed(range(matrix.shape[1]))}
        pl.DataFrame({**columns, "id": IDS}).write_parquet(path)
    return path


def write_ids(folder: Path, name: str, ids: list | None = None) -> Path:
    path = folder / name
    ids = IDS if ids is None else ids
    if path.suffix == ".npy":
        np.save(path, np.array(ids))
    elif path.suffix == ".parquet":
        pl.DataFrame({"id": ids}).write_parquet(path)
    else:
        header = ["id"] if path.suffix == ".csv" else []
        path.write_text("\n".join([*header, *map(str, ids)]) + "\n")
    return path


@pytest.mark.parametrize("name", ["lists.parquet", "array.parquet", "numbered.parquet"])
def test_tables_of_embeddings_are_read(name, tmp_path):
    ids, matrix = read_embeddings(write(tmp_path, name))
    assert ids.ids.tolist() == IDS
    assert matrix.dtype == np.float32
    np.testing.assert_array_equal(matrix, MATRIX)


@pytest.mark.parametrize("ids", ["i.txt", "i.csv", "i.parquet", "i.npy"])
@pytest.mark.parametrize("name", ["x.npy", "x.safetensors"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_matrices_with_ids_beside_are_read(name, ids, dtype, tmp_path):
    path = write(tmp_path, name, MATRIX.astype(dtype))
    found, matrix = read_embeddings(path, ids=write_ids(tmp_path, ids))
    assert found.ids.tolist() == IDS
    assert matrix.dtype == np.float32
    np.testing.assert_array_equal(matrix, MATRIX)


def test_numbered_columns_are_in_the_order_of_their_numbers(tmp_path):
    wide = np.arange(36, dtype=np.float64).reshape(3, 12)  # f10 comes after f9, not after f1
    np.testing.assert_array_equal(read_embeddings(write(tmp_path, "n.parquet", wide))[1], wide)


@pytest.mark.parametrize(
    ("texts", "id_type", "expected"),
    [
        (["1", "2", "30"], "infer", [1, 2, 30]),
        (["1", "2", "030"], "infer", ["1", "2", "030"]),
        (["1", "2", "30"], "str", ["1", "2", "30"]),
        (["1", "2", "30"], "int", [1, 2, 30]),
    ],
)
def test_ids_of_text(texts, id_type, expected, tmp_path):
    path, ids = write(tmp_path, "x.npy"), write_ids(tmp_path, "i.txt", texts)
    assert read_embeddings(path, ids=ids, id_type=id_type)[0].ids.tolist() == expected


def test_factors_of_two_files(tmp_path):
    users = write(tmp_path, "users_lists.parquet")
    items, ids = write(tmp_path, "items.npy", MATRIX[:2]), write_ids(tmp_path, "i.txt", [7, 8])
    factors = read_factors(users=users, items=items, item_ids=ids)
    assert factors.items.ids.tolist() == [7, 8]
    assert not factors.can_fold_in
    narrow = write(tmp_path, "narrow.npy", MATRIX[:2, :1])
    with pytest.raises(DataError, match=r"has 2 factors a user, .* has 1 an item"):
        read_factors(users=users, items=narrow, item_ids=ids)


def parquet(folder: Path, columns: dict) -> Path:
    pl.DataFrame(columns, strict=False).write_parquet(folder / "t.parquet")
    return folder / "t.parquet"


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"id": IDS, "v": [[1.0], [1.0, 2.0], [1.0]]}, "one length, 1 of 3 differ .* 'b'"),
        ({"id": IDS, "v": [[1.0], None, [1.0]]}, "one length, 1 of 3 differ .* 'b'"),
        ({"id": IDS, "v": [[1.0], [None], [1.0]]}, "missing numbers"),
        ({"id": IDS, "f0": [1.0, None, 2.0]}, "'f0' of .* has missing numbers"),
        ({"id": IDS, "f0": [1.0, float("nan"), 2.0]}, "1 of 3 rows .* NaN.* 'b'"),
        ({"id": IDS, "f0": [1.0, 1e300, 2.0]}, "too large for float32, such as that of 'b'"),
        ({"id": IDS, "f0": [1, 2, 3]}, "floating-point numbers .* got int64"),
        ({"id": ["a", "a", "c"], "f0": [1.0, 2.0, 3.0]}, "ids have to be unique"),
        ({"id": IDS, "f0": [1.0] * 3, "f2": [1.0] * 3}, "one column of ids, .* got id, f0, f2"),
        ({"id": IDS, "f0": [1.0] * 3, "g1": [1.0] * 3}, "one column of ids"),
        ({"id": IDS, "name": IDS, "f0": [1.0] * 3}, "one column of ids"),
        ({"f0": [1.0] * 3, "f1": [1.0] * 3}, "one column of ids"),
        ({"id": IDS}, "one column of ids"),
    ],
)
def test_bad_tables_of_embeddings(columns, message, tmp_path):
    with pytest.raises(DataError, match=message):
        read_embeddings(parquet(tmp_path, columns))


def test_bad_files_of_embeddings(tmp_path):
    path, ids = write(tmp_path, "x.npy"), write_ids(tmp_path, "i.txt")
    cases = [
        ("file not found: .*nowhere.npy", tmp_path / "nowhere.npy", ids),
        ("holds no ids", path, None),
        ("holds its own ids", write(tmp_path, "lists.parquet"), ids),
        ("embeddings end in .npy, .safetensors, .parquet, got x.csv", tmp_path / "x.csv", ids),
        ("ids end in .txt, .csv, .parquet, .npy, got i.json", path, tmp_path / "i.json"),
        ("has 3 rows, .* has 2 ids", path, write_ids(tmp_path, "two.txt", ["a", "b"])),
        ("ids have to be unique", path, write_ids(tmp_path, "same.txt", ["a", "b", "a"])),
        ("line 2 is empty", path, write_ids(tmp_path, "hole.txt", ["a", "", "b"])),
        ("found a comma", path, write_ids(tmp_path, "two.csv", ["a,1", "b,2", "c,3"])),
        ("got float64 \\(3,\\)", write(tmp_path, "flat.npy", MATRIX[:, 0]), ids),
    ]
    for message, matrix, names in cases:
        with pytest.raises(DataError, match=message):
            read_embeddings(matrix, ids=names)
    with pytest.raises(DataError, match="have to be whole numbers, got 'a'"):
        read_embeddings(path, ids=ids, id_type="int")


def test_pickles_and_several_tensors_are_refused(tmp_path):
    ids = write_ids(tmp_path, "i.txt")
    np.save(tmp_path / "o.npy", np.array([None, {}, 1], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="cannot be read as npy"):
        read_embeddings(tmp_path / "o.npy", ids=ids)
    both = {"users": MATRIX, "items": MATRIX + 1}
    save_file(both, tmp_path / "both.safetensors")
    with pytest.raises(DataError, match="expected one tensor, got items, users"):
        read_embeddings(tmp_path / "both.safetensors", ids=ids)
