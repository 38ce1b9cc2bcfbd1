"""Strict configuration: frozen dataclasses, loaded from YAML, overridable as ``key.sub=value``.

A configuration file is data: it says only what differs from the defaults of the dataclasses that
stand beside the classes they configure. Unknown keys and wrong types are errors that name the
dotted path of the offender.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import hashlib
import json
import types
import typing
from collections.abc import Hashable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

import yaml

from ulrec.errors import ConfigError

__all__ = ["digest", "from_mapping", "load_config", "to_mapping", "to_yaml"]

T = TypeVar("T")


def load_config(cls: type[T], path: str | Path | None, overrides: Iterable[str] = ()) -> T:
    """Load a configuration from YAML and apply overrides.

    Parameters
    ----------
    cls
        The frozen dataclass to fill.
    path
        A YAML file, or None for the defaults.
    overrides
        Strings ``key.sub=value``; the value is read as YAML.

    Returns
    -------
    T
        The resolved configuration.

    Raises
    ------
    ConfigError
        If the file is missing or not a mapping, a key is unknown, or a value has the wrong type.
    """
    mapping: dict[str, Any] = {}
    if path is not None:
        mapping = _read_yaml(Path(path))
    for override in overrides:
        _apply(mapping, override)
    return from_mapping(cls, mapping)


def from_mapping(
    cls: type[T], mapping: Mapping[str, Any], *, at: str = "", default: T | None = None
) -> T:
    """Build the dataclass ``cls`` from plain data, strictly.

    What the mapping leaves out is taken from ``default``, or else from the class: a section says
    only what differs from the default of the field that it fills.

    Examples
    --------
    >>> @dataclasses.dataclass(frozen=True, kw_only=True)
    ... class Net:
    ...     width: int = 8
    >>> from_mapping(Net, {"width": 16})
    Net(width=16)
    >>> from_mapping(Net, {"widths": 16})
    Traceback (most recent call last):
        ...
    ulrec.errors.ConfigError: unknown key 'widths'; did you mean 'width'?
    """
    hints = _hints(cast("Hashable", cls))
    for key in mapping:
        if key not in hints:
            raise ConfigError(_unknown(f"{at}{key}", str(key), hints))
    fields = {f.name: f for f in dataclasses.fields(cast("Any", cls))}
    defaults = {
        name: _default(f) if default is None else getattr(default, name)
        for name, f in fields.items()
    }
    values = {
        key: _convert(hints[key], value, f"{at}{key}", defaults[key])
        for key, value in mapping.items()
    }
    values = {k: v for k, v in defaults.items() if v is not dataclasses.MISSING} | values
    missing = [name for name in fields if name not in values]
    if missing:
        raise ConfigError(f"'{at}{missing[0]}' has no default: set it in the configuration")
    try:
        return cls(**values)
    except ValueError as error:
        prefix = f"in '{at.rstrip('.')}': " if at else ""
        raise ConfigError(f"{prefix}{error}") from error


def to_mapping(config: Any) -> dict[str, Any]:
    """Return the configuration as plain data, tuples as lists, every field spelled out."""
    return cast("dict[str, Any]", json.loads(json.dumps(dataclasses.asdict(config))))


def to_yaml(config: Any) -> str:
    """Return the resolved configuration as YAML, in the order of its fields."""
    return str(yaml.safe_dump(to_mapping(config), sort_keys=False))


def digest(value: Any) -> str:
    """Return a short, stable digest of plain data or of a configuration.

    Examples
    --------
    >>> digest({"b": 1, "a": 2}) == digest({"a": 2, "b": 1})
    True
    """
    plain = to_mapping(value) if dataclasses.is_dataclass(value) else value
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


@functools.cache
def _hints(cls: Any) -> dict[str, Any]:
    hints = typing.get_type_hints(cls)
    return {f.name: hints[f.name] for f in dataclasses.fields(cls)}


def _read_yaml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ConfigError(f"configuration file not found: {path}")
    try:
        content = _parse(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid YAML: {error}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"{path} has to hold a mapping, it holds a {type(content).__name__}")
    return content


class _Loader(yaml.SafeLoader):
    """YAML in which a key may stand only once; the plain loader lets the last one win."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = str(key_node.value)
            if key in seen:
                line = key_node.start_mark.line + 1
                raise yaml.YAMLError(f"key '{key}' stands twice, again in line {line}")
            seen.add(key)
        return super().construct_mapping(node, deep)


def _parse(text: str) -> Any:
    return yaml.load(text, _Loader)  # derives from the safe loader


def _apply(mapping: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise ConfigError(f"an override reads key.sub=value, got '{override}'")
    *parents, last = key.strip().split(".")
    for parent in parents:
        mapping = mapping.setdefault(parent, {})
        if not isinstance(mapping, dict):
            raise ConfigError(f"'{key}': '{parent}' is a value, not a section")
    try:
        mapping[last] = _parse(text)
    except yaml.YAMLError as error:
        raise ConfigError(
            f"the value of override '{override}' is not valid YAML: {error}"
        ) from error


def _unknown(path: str, key: str, known: Iterable[str]) -> str:
    known = list(known)
    close = difflib.get_close_matches(key, known, n=1)
    hint = f"did you mean '{close[0]}'?" if close else f"known keys: {', '.join(known)}"
    return f"unknown key '{path}'; {hint}"


def _convert(hint: Any, value: Any, at: str, default: Any = None) -> Any:
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return _convert_union(hint, value, at, default)
    if origin is typing.Literal:
        options = typing.get_args(hint)
        if not any(type(value) is type(option) and value == option for option in options):
            choices = ", ".join(map(repr, options))
            raise ConfigError(f"'{at}' has to be one of {choices}, got {value!r}")
        return value
    if origin is tuple:
        return _convert_tuple(hint, value, at)
    if origin is dict:
        if not isinstance(value, dict):
            raise ConfigError(f"'{at}' has to be a mapping, got {value!r}")
        _, item = typing.get_args(hint)
        return {str(key): _convert(item, entry, f"{at}.{key}") for key, entry in value.items()}
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, dict):
            raise ConfigError(f"'{at}' has to be a section of keys, got {value!r}")
        known = default if isinstance(default, cast("type", hint)) else None
        return from_mapping(cast("type", hint), value, at=f"{at}.", default=known)
    return _convert_scalar(hint, value, at)


def _convert_union(hint: Any, value: Any, at: str, default: Any) -> Any:
    options = typing.get_args(hint)
    if value is None and types.NoneType in options:
        return None
    errors = []
    for option in options:
        if option is not types.NoneType:
            try:
                return _convert(option, value, at, default)
            except ConfigError as error:
                errors.append(str(error))
    raise ConfigError("; or ".join(errors))


def _convert_tuple(hint: Any, value: Any, at: str) -> tuple[Any, ...]:
    items = typing.get_args(hint)
    if not isinstance(value, list | tuple):
        raise ConfigError(f"'{at}' has to be a list, got {value!r}")
    if items[-1] is Ellipsis:
        items = (items[0],) * len(value)
    if len(items) != len(value):
        raise ConfigError(f"'{at}' has to be a list of {len(items)} values, got {value!r}")
    pairs = zip(items, value, strict=True)
    return tuple(_convert(item, v, f"{at}[{i}]") for i, (item, v) in enumerate(pairs))


def _convert_scalar(hint: Any, value: Any, at: str) -> Any:
    if hint is float and isinstance(value, str):  # YAML 1.1 reads 1e-4 as a string
        try:
            value = float(value)
        except ValueError:
            value = str(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, float) and value != value:  # no comparison in a range check catches NaN
        raise ConfigError(f"'{at}' has to be a number, got NaN")
    if type(value) is not hint:
        raise ConfigError(f"'{at}' has to be of type {hint.__name__}, got {value!r}")
    return value
