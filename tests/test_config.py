from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import pytest

from ulrec.config import digest, from_mapping, load_config, to_mapping, to_yaml
from ulrec.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class Layer:
    width: int = 8
    kind: Literal["conv", "attention"] = "conv"
    ratio: Literal[1, 2] = 1

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ConfigError(f"'width' has to be positive, got {self.width}")
        if self.width > 1000:
            raise ValueError("far too wide")


@dataclass(frozen=True, kw_only=True, slots=True)
class Net:
    rate: float = 0.1
    layer: Layer = Layer()
    wide: Layer = Layer(width=64, kind="attention")
    maybe: Layer | None = None
    sizes: tuple[int, ...] = (1, 2)
    pair: tuple[int, float] = (1, 2.0)
    limit: int | None = None
    steps: int | Literal["auto"] = "auto"
    weights: dict[str, float] = field(default_factory=dict)
    on: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Needy:
    path: str


def test_defaults_and_round_trip(tmp_path):
    config = load_config(Net, None, ["layer.width=16", "sizes=[3, 4, 5]", "weights.a=2"])
    assert config.layer == Layer(width=16)
    assert config.sizes == (3, 4, 5)
    assert config.weights == {"a": 2.0}
    path = tmp_path / "config.yaml"
    path.write_text(to_yaml(config))
    assert load_config(Net, path) == config
    assert to_mapping(config)["pair"] == [1, 2.0]
    assert digest(config) == digest(load_config(Net, path)) != digest(Net())


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1e-4", 1e-4), ("3", 3.0), ("0.5", 0.5)],
)
def test_numbers_of_a_float(text, expected):
    rate = load_config(Net, None, [f"rate={text}"]).rate
    assert rate == expected
    assert type(rate) is float


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["ratee=1"], "unknown key 'ratee'; did you mean 'rate'"),
        (["layer.widths=1"], r"unknown key 'layer.widths'; did you mean 'width'"),
        (["layer.width=1.5"], r"'layer.width' has to be of type int, got 1.5"),
        (["layer.width=true"], r"'layer.width' has to be of type int, got True"),
        (["layer.kind=dense"], r"'layer.kind' has to be one of 'conv', 'attention', got 'dense'"),
        (["layer.ratio=true"], r"'layer.ratio' has to be one of 1, 2, got True"),
        (["layer=3"], r"'layer' has to be a section of keys, got 3"),
        (["rate.deep=1", "rate.deep.er=1"], "'deep' is a value, not a section"),
        (["rate=fast"], r"'rate' has to be of type float, got 'fast'"),
        (["rate=.nan"], "'rate' has to be a number, got NaN"),
        (["rate=nan"], "'rate' has to be a number, got NaN"),
        (["sizes=3"], r"'sizes' has to be a list, got 3"),
        (["sizes=[1, a]"], r"'sizes\[1\]' has to be of type int, got 'a'"),
        (["pair=[1]"], r"'pair' has to be a list of 2 values"),
        (["limit=x"], r"'limit' has to be of type int, got 'x'"),
        (["steps=some"], r"'steps' has to be of type int.*; or 'steps' has to be one of 'auto'"),
        (["weights=[1]"], r"'weights' has to be a mapping"),
        (["weights.a=b"], r"'weights.a' has to be of type float"),
        (["rate"], r"an override reads key.sub=value, got 'rate'"),
        (["rate=[1"], r"the value of override 'rate=\[1' is not valid YAML"),
        (["layer.width=0"], r"in 'layer': 'width' has to be positive, got 0"),
        (["layer.width=1001"], r"in 'layer': far too wide"),
    ],
)
def test_errors_name_the_path(overrides, message):
    with pytest.raises(ConfigError, match=message):
        load_config(Net, None, overrides)


def test_union_takes_what_fits():
    assert load_config(Net, None, ["steps=3"]).steps == 3
    assert load_config(Net, None, ["steps=auto"]).steps == "auto"
    assert load_config(Net, None, ["limit="]).limit is None


def test_a_section_says_only_what_differs_from_its_field():
    config = load_config(Net, None, ["wide.kind=conv", "maybe.width=2"])
    assert config.wide == Layer(width=64, kind="conv")
    assert config.maybe == Layer(width=2)
    assert from_mapping(Net, to_mapping(config)) == config


def test_missing_value():
    with pytest.raises(ConfigError, match="'path' has no default"):
        from_mapping(Needy, {})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("- 1\n", "has to hold a mapping, it holds a list"),
        ("[]\n", "has to hold a mapping, it holds a list"),
        ("rate: [1\n", "not valid YAML"),
        ("rate: 1\nrate: 2\n", "key 'rate' stands twice, again in line 2"),
        ("layer:\n  width: 1\n  width: 2\n", "key 'width' stands twice, again in line 3"),
        ("1: 2\n", "unknown key '1'"),
        ("yes: 2\n", "unknown key 'True'"),
        ("? [1]\n: 2\n", "not valid YAML"),
    ],
)
def test_bad_files(tmp_path, content, message):
    path = tmp_path / "bad.yaml"
    path.write_text(content)
    with pytest.raises(ConfigError, match=message):
        load_config(Net, path)


def test_empty_absent_and_binary_files(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("# only the defaults\n")
    assert load_config(Net, path) == Net()
    with pytest.raises(ConfigError, match="configuration file not found"):
        load_config(Net, tmp_path / "absent.yaml")
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not valid YAML"):
        load_config(Net, path)


def test_digest_depends_on_every_field():
    assert digest(Net(layer=Layer(width=9))) != digest(Net())
    assert digest({"a": [1, 2]}) == digest({"a": (1, 2)})
