"""From a YAML file and the environment to `Settings`, and from one process to the next.

    load(path, environ=os.environ, data=None) -> Settings      raises ConfigurationError, one line
    dump(settings) -> bytes, restore(bytes) -> Settings        for a process we start ourselves

A variable names a key by its path, with two underscores between the parts: `ANSHI_HTTP__PORT=8543`,
`ANSHI_NETWORKS__0__SIP__UDP=5070`. Variables without two underscores count only where they name a key
of the top level (`ANSHI_DATA`), since container runtimes add names such as `ANSHI_PORT` of their own.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Hashable, Mapping
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, get_args, get_origin

import msgspec
import yaml

from config.settings import ConfigurationError, Secret, Settings

PREFIX = "ANSHI_"
RATE = re.compile(r"(\d+(?:\.\d+)?)\s*([kMG]?)(?:bit/s)?\Z")
RATE_UNITS = {"": 1, "k": 1_000, "M": 1_000_000, "G": 1_000_000_000}
LOCATION = re.compile(r"(?P<text>.*?)(?: - at `\$(?P<path>.*)`)?\Z", re.DOTALL)
UNKNOWN_KEY = re.compile(r"Object contains unknown field `(?P<key>.*)`")
MISSING_KEY = re.compile(r"Object missing required field `(?P<key>.*)`")
WORDS = {
    "`int`": "a whole number",
    "`float`": "a number",
    "`str`": "text",
    "`bool`": "true or false",
    "`array`": "a list",
    "`object`": "keys and values",
    "`null`": "nothing",
}

Place = tuple[str | int, ...]


class _Loader(yaml.SafeLoader):
    """YAML's safe subset, where a key given twice is an error and not a silent choice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                problem = f"key {key!r} is not text"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key_node.start_mark)
            if key in seen:
                raise yaml.MarkedYAMLError(problem=f"key {key!r} twice", problem_mark=key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def load(path: Path, environ: Mapping[str, str] = os.environ, data: Path | None = None) -> Settings:
    """Read `path`, lay the environment over it, and `data` (a command-line option) over both."""
    tree = _read(path)
    variables: dict[Place, str] = {}
    for variable, text in sorted(environ.items()):
        if _is_override(variable):
            variables[_override(tree, variable, text)] = variable
    try:
        tree = _convert_rates(tree, Settings, ())
        settings = msgspec.convert(tree, Settings, dec_hook=_decode)
        data_folder = (data or settings.data).expanduser().absolute()
        settings = msgspec.structs.replace(settings, data=data_folder)
        settings.check()
    except msgspec.ValidationError as error:
        raise _in_words(str(error), path, variables) from None
    except ConfigurationError as error:
        key, _, text = str(error).partition(": ")
        raise ConfigurationError(f"{_origin(_place(key), path, variables)}: {key}: {text}") from None
    return settings


def dump(settings: Settings) -> bytes:
    return msgspec.json.encode(settings, enc_hook=str)


def restore(dumped: bytes) -> Settings:
    return msgspec.json.decode(dumped, type=Settings, dec_hook=_decode)


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path}: is not UTF-8 text") from None
    try:
        tree = yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigurationError(f"{path}{line}: not valid YAML: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{path}: not valid YAML: {str(error).splitlines()[0]}") from None
    if tree is None:
        tree = {}
    if not isinstance(tree, dict):
        raise ConfigurationError(f"{path}: expected keys and values at the top, got {type(tree).__name__}")
    return tree


def _is_override(variable: str) -> bool:
    if not variable.startswith(PREFIX):
        return False
    rest = variable.removeprefix(PREFIX)
    return "__" in rest or rest.lower() in Settings.__struct_fields__


def _override(tree: dict[str, Any], variable: str, text: str) -> Place:
    """Set one value in the tree; the place where it went."""
    place: Place = ()
    kind: Any = Settings
    holder: Any = tree
    parts = variable.removeprefix(PREFIX).lower().split("__")
    for number, part in enumerate(parts):
        last = number == len(parts) - 1
        key: str | int = part
        kind = _without_null(kind)
        if _is_struct(kind):
            fields = {field.name: field.type for field in msgspec.structs.fields(kind)}
            if part not in fields:
                raise ConfigurationError(f"{variable}: unknown key {_path(place, part)}{_hint(part, fields)}")
            kind = fields[part]
        elif _item(kind) is not None and part.isdecimal():
            key, kind = int(part), _item(kind)
        else:
            raise ConfigurationError(f"{variable}: {_path(place)} has no key {part!r}")
        place = (*place, key)
        if last:
            _put(holder, key, _scalar(text, kind), variable)
        else:
            holder = _enter(holder, key, kind, variable)
    return place


def _put(holder: Any, key: str | int, value: Any, variable: str) -> None:
    if isinstance(key, int):
        if not isinstance(holder, list) or key > len(holder):
            raise ConfigurationError(f"{variable}: there is no element {key - 1} before element {key}")
        holder[key : key + 1] = [value]
    elif isinstance(holder, dict):
        holder[key] = value
    else:
        raise ConfigurationError(f"{variable}: {key!r} is set inside a value that has no keys")


def _enter(holder: Any, key: str | int, kind: Any, variable: str) -> Any:
    empty: Any = {} if _is_struct(_without_null(kind)) else []
    if isinstance(key, int):
        if isinstance(holder, list) and key < len(holder) and isinstance(holder[key], dict | list):
            return holder[key]
        _put(holder, key, empty, variable)
        return empty
    if not isinstance(holder, dict):
        raise ConfigurationError(f"{variable}: {key!r} is set inside a value that has no keys")
    if not isinstance(holder.get(key), dict | list):
        holder[key] = empty
    return holder[key]


def _scalar(text: str, kind: Any) -> Any:
    """A variable's text as the file would have it; text stays text where text is expected."""
    optional = NoneType in get_args(kind)
    kind = _without_null(kind)
    if optional and text in ("", "null", "~"):
        return None
    if isinstance(kind, type) and issubclass(kind, str | Path):
        return text
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError:
        return text


def _convert_rates(value: Any, kind: Any, place: Place) -> Any:
    """Numbers for "3M" wherever a rate is expected; anything else stays as it is."""
    if _is_rate(kind):
        if not isinstance(value, str):
            return value
        match = RATE.match(value)
        if match is None:
            raise ConfigurationError(f"{_path(place)}: {value!r} is not a rate such as 512k, 3M or 1G")
        return round(float(match[1]) * RATE_UNITS[match[2]])
    kind = _without_null(kind)
    if _is_struct(kind) and isinstance(value, dict):
        types = {field.name: field.type for field in msgspec.structs.fields(kind)}
        return {
            key: _convert_rates(item, types[key], (*place, key)) if key in types else item
            for key, item in value.items()
        }
    if _item(kind) is not None and isinstance(value, list):
        return [_convert_rates(item, _item(kind), (*place, number)) for number, item in enumerate(value)]
    return value


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _is_rate(kind: Any) -> bool:
    if get_origin(kind) is Annotated:
        return any(getattr(meta, "extra", None) == {"unit": "bit/s"} for meta in get_args(kind)[1:])
    return any(_is_rate(option) for option in get_args(kind)) if NoneType in get_args(kind) else False


def _without_null(kind: Any) -> Any:
    """`X` of `X | None` and of `Annotated[X, ...]`."""
    if get_origin(kind) is Annotated:
        return _without_null(get_args(kind)[0])
    if NoneType in get_args(kind):
        return _without_null(next(option for option in get_args(kind) if option is not NoneType))
    return kind


def _item(kind: Any) -> Any:
    """The element's type of a tuple, else None."""
    kind = _without_null(kind)
    return get_args(kind)[0] if get_origin(kind) is tuple else None


def _decode(kind: type, value: Any) -> Any:
    """msgspec's hook for the types it does not know."""
    if not isinstance(value, str) or not value:
        raise ValueError(f"Expected {'a path' if kind is Path else 'text'}, got {value!r}")
    if kind is Path:
        return Path(value)
    if kind is Secret:
        return Secret(value)
    raise TypeError(f"settings have no values of {kind}")


def _in_words(message: str, path: Path, variables: Mapping[Place, str]) -> ConfigurationError:
    """msgspec's message as one line that names file and key."""
    match = LOCATION.match(message)
    text = match["text"] if match else message
    place = _place((match["path"] or "") if match else "")
    if unknown := UNKNOWN_KEY.match(text):
        key = unknown["key"]
        where = (*place, key)
        text = f"unknown key {_path(where)}{_hint(key, _keys_at(place))}"
        return ConfigurationError(f"{_origin(where, path, variables)}: {text}")
    if missing := MISSING_KEY.match(text):
        return ConfigurationError(f"{path}: key {_path(place, missing['key'])} is missing")
    for sign, words in WORDS.items():
        text = text.replace(sign, words)
    return ConfigurationError(
        f"{_origin(place, path, variables)}: {_path(place)}: {text[:1].lower()}{text[1:]}"
    )


def _keys_at(place: Place) -> tuple[str, ...]:
    kind: Any = Settings
    for part in place:
        kind = _without_null(kind)
        if isinstance(part, int):
            kind = _item(kind)
        else:
            kind = next(field.type for field in msgspec.structs.fields(kind) if field.name == part)
    return tuple(field.name for field in msgspec.structs.fields(_without_null(kind)))


def _hint(key: str, known: Mapping[str, Any] | tuple[str, ...]) -> str:
    close = difflib.get_close_matches(key, list(known), n=1)
    return f" (did you mean {close[0]}?)" if close else f" (known: {', '.join(known)})"


def _place(path: str) -> Place:
    """`networks[0].sip.udp` or `.networks[0].sip.udp` as parts."""
    parts = re.findall(r"[^.\[\]]+", path)
    return tuple(int(part) if part.isdecimal() else part for part in parts)


def _path(place: Place, *more: str) -> str:
    text = ""
    for part in (*place, *more):
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _origin(place: Place, path: Path, variables: Mapping[Place, str]) -> str:
    """The variable that set this key or a part around it, else the file."""
    for length in range(len(place), 0, -1):
        if place[:length] in variables:
            return variables[place[:length]]
    for set_place, variable in variables.items():
        if set_place[: len(place)] == place and place:
            return f"{path} with {variable}"
    return str(path)
