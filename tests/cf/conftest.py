from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from ulrec.cf.als import ALSConfig
from ulrec.cf.bpr import BPRConfig
from ulrec.cf.ease import EASEConfig
from ulrec.cf.foreign import ForeignConfig
from ulrec.cf.lmf import LMFConfig
from ulrec.cf.registry import CFConfig
from ulrec.data.ids import IdMap
from ulrec.data.interactions import Interactions
from ulrec.data.schema import ITEM_ID, USER_ID, WEIGHT

NUM_USERS, NUM_ITEMS = 24, 20


@pytest.fixture
def withheld() -> dict[str, str]:
    """User u of group u % 2 has every item of that group but this one."""
    return {f"u{u:02d}": f"i{u % 2 + 2 * (u % 10):02d}" for u in range(NUM_USERS)}


@pytest.fixture
def checkerboard(withheld: dict[str, str]) -> Interactions:
    """Even users like even items, odd ones odd ones; the last user has no history."""
    pairs = [
        (f"u{u:02d}", f"i{i:02d}")
        for u in range(NUM_USERS)
        for i in range(u % 2, NUM_ITEMS, 2)
        if withheld[f"u{u:02d}"] != f"i{i:02d}"
    ]
    table = pl.DataFrame(pairs, schema=[USER_ID, ITEM_ID], orient="row")
    users = IdMap([*(f"u{u:02d}" for u in range(NUM_USERS)), "cold"])
    return Interactions.from_table(table, users=users)


@pytest.fixture
def weighted() -> Interactions:
    """30 users with 1 to 12 of 25 items, weights in (0, 3]; user 29 has none."""
    rng = np.random.default_rng(5)
    rows = [
        (user, int(item), float(rng.uniform(0.1, 3.0)))
        for user in range(29)
        for item in rng.choice(25, size=1 + user % 12, replace=False)
    ]
    table = pl.DataFrame(rows, schema=[USER_ID, ITEM_ID, WEIGHT], orient="row")
    return Interactions.from_table(table, users=IdMap(range(30)), items=IdMap(range(25)))


@pytest.fixture
def write_svd() -> Callable[..., ForeignConfig]:
    """What writes a truncated SVD of interactions as files of foreign factors."""
    return _write_svd


@pytest.fixture
def tiny_config(request: pytest.FixtureRequest, tmp_path: Path) -> CFConfig:
    """Four factors; the foreign ones are a truncated SVD of the data that the test asks for."""
    name = "weighted" if "weighted" in request.fixturenames else "checkerboard"
    return CFConfig(
        als=ALSConfig(num_factors=4, regularisation=0.1),
        bpr=BPRConfig(num_factors=4),
        lmf=LMFConfig(num_factors=4),
        ease=EASEConfig(num_factors=4),
        foreign=_write_svd(request.getfixturevalue(name), tmp_path / "foreign"),
    )


def _write_svd(data: Interactions, folder: Path, *, num_factors: int = 4) -> ForeignConfig:
    """Write factors of the users that have a history, and of all items, as another program may."""
    u, s, vt = np.linalg.svd(data.user_items.toarray().astype(np.float64))
    active = np.diff(data.user_items.indptr) > 0
    folder.mkdir()
    np.save(folder / "users.npy", u[active, :num_factors] * s[:num_factors])
    np.save(folder / "items.npy", vt[:num_factors].T)
    for what, ids in (("users", data.users.ids[active]), ("items", data.items.ids)):
        (folder / f"{what}.txt").write_text("\n".join(map(str, ids.tolist())))
    return ForeignConfig(
        user_factors=str(folder / "users.npy"),
        item_factors=str(folder / "items.npy"),
        user_ids=str(folder / "users.txt"),
        item_ids=str(folder / "items.txt"),
    )
