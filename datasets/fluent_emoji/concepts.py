"""Say which emoji are variants of one drawing, and split the catalogue by drawing."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from ulrec.errors import DataError

PEOPLE = {"1f468", "1f469", "1f9d1"}
HAIR = {"1f9b0", "1f9b1", "1f9b2", "1f9b3"}
CHILDREN = {"1f466", "1f467"}


def concept_of(item_id: str, short_names: Mapping[str, str], families: Mapping[str, str]) -> str:
    """Return the name of the one drawing that an emoji is a variant of.

    Parameters
    ----------
    item_id
        Lower-case code points joined by hyphens.
    short_names
        item_id -> short name, for every emoji.
    families
        Short name -> family, from concepts.yaml.
    """
    if item_id.endswith("20e3") or item_id == "1f51f":
        return "keycap"
    if len(item_id) == 5 and "1f550" <= item_id <= "1f567":
        return "clock_face"
    short_name = short_names[base_code(item_id)]
    return families.get(short_name, short_name)


def base_code(item_id: str) -> str:
    """Return the emoji that this one is a gender, hair or family variant of.

    Examples
    --------
    >>> base_code("1f46e-200d-2640-fe0f"), base_code("1f469-200d-1f680")
    ('1f46e', '1f9d1-200d-1f680')
    >>> base_code("1f468-200d-1f9b0"), base_code("1f469-200d-1f467-200d-1f466")
    ('1f9d1', '1f46a')
    """
    parts = item_id.split("-")
    if parts[-3:] in (["200d", "2640", "fe0f"], ["200d", "2642", "fe0f"]):
        parts = parts[:-3]
    if len(parts) == 1 or parts[0] not in PEOPLE:
        return "-".join(parts)
    if "1f48b" in parts:
        return "1f48f"
    if "2764" in parts:
        return "1f491"
    if parts[-1] in CHILDREN:
        return "1f46a"
    if parts[2] in HAIR:
        return "1f9d1"
    return "-".join(["1f9d1", *parts[1:]])


def read_families(path: Path, known: set[str]) -> dict[str, str]:
    """Return short name -> family from concepts.yaml.

    Parameters
    ----------
    path
        The YAML file: reason -> family -> short names.
    known
        Every short name there is.

    Raises
    ------
    DataError
        If a short name is unknown or stands in two families, or a family bears a stranger's name.
    """
    families: dict[str, str] = {}
    for reason, groups in yaml.safe_load(path.read_text(encoding="utf-8")).items():
        for family, members in groups.items():
            wrong = [name for name in members if name not in known or name in families]
            if wrong or (family in known and family not in members):
                raise DataError(
                    f"{path}: {reason}.{family} must list short names of emoji-datasource, each in "
                    "one family, and must not be called like an emoji outside it; got "
                    f"{', '.join(map(str, wrong)) or family}; mend that line"
                )
            families.update(dict.fromkeys(members, family))
    return families


def heldout_concepts(items: Sequence[tuple[str, str]], *, share: float, seed: int) -> set[str]:
    """Choose whole concepts until each category has given ``share`` of its items.

    A concept counts for the category of most of its items. One that is larger than a quarter of the
    category's quota stays in train, or a single drawing would fill the held-out set. The order of
    drawing is a hash of seed and name, so it depends on no library's random numbers.

    Parameters
    ----------
    items
        (concept, category) per item.
    share
        The part of the items to hold out, in (0, 1).
    seed
        Another seed gives another choice.

    Examples
    --------
    >>> items = [(f"dish {i}", "food") for i in range(30)] + [("clock face", "time")] * 24
    >>> len(heldout_concepts(items, share=0.1, seed=0))
    3
    """
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for concept, category in items:
        counts[concept][category] += 1
    homes: dict[str, list[str]] = defaultdict(list)
    for concept, where in counts.items():
        homes[where.most_common(1)[0][0]].append(concept)
    chosen: set[str] = set()
    for concepts in homes.values():
        quota = round(share * sum(counts[concept].total() for concept in concepts))
        largest = max(1, quota // 4)
        for concept in sorted(concepts, key=lambda name: digest(f"{seed}/{name}")):
            size = counts[concept].total()
            if size <= min(largest, quota):
                chosen.add(concept)
                quota -= size
    return chosen


def digest(text: str) -> str:
    """Return the SHA-256 of a text in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()
