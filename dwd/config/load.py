"""Reading the settings: file, then environment, then every fault of both in one error.

`DWD_<SECTION>_<KEY>` overrides a key: DWD_RAFT_TICK_MS=50. Devices are a list and come from the file only.
Unknown keys and variables are faults that name the nearest valid one: a misspelt setting must not be ignored.
Values of fields marked secret are never echoed, nor are values of unknown keys.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from dwd.base.errors import NotFound, StorageFailed
from dwd.config.faults import Fault, refuse
from dwd.config.settings import Settings, relations

ENV_PREFIX = "DWD_"
ENV_CONFIG = "DWD_CONFIG"
"""Names the file itself; not a setting."""
FILE_BYTES_MAX = 1 << 20
_ECHO_CHARS_MAX = 80

Place = tuple[str | int, ...]
Tree = dict[str, Any]


def load(path: Path | None, env: Mapping[str, str]) -> Settings:
    """The settings of `path` (none: defaults) and `env`.

    Raises InvalidArgument with all faults in its message, NotFound or StorageFailed for the file itself.
    """
    source = str(path) if path is not None else "the environment"
    tree, faults = ({}, []) if path is None else _parse(path)
    origins: dict[str, str] = {}
    faults += _override(tree, env, origins)
    faults += _unknown(tree, Settings, ())
    settings, refused = _validate(tree, origins)
    faults += refused
    wrong = {fault.path.partition(" ")[0] for fault in faults}
    for fault, about in relations(settings):
        if not wrong.intersection(about):
            faults.append(_from(fault, origins))
    if faults:
        raise refuse(source, faults)
    return settings


def _parse(path: Path) -> tuple[Tree, list[Fault]]:
    try:
        with path.open("rb") as stream:
            content = stream.read(FILE_BYTES_MAX + 1)
    except FileNotFoundError as error:
        raise NotFound(
            "config.missing", f"there is no {path}", hint="`dwd config` prints one that explains every key"
        ) from error
    except OSError as error:
        raise StorageFailed("config.unreadable", f"cannot read {path}: {error.strerror}") from error
    if len(content) > FILE_BYTES_MAX:
        return {}, [Fault(path="", message=f"is larger than {FILE_BYTES_MAX} bytes")]
    try:
        return tomllib.loads(content.decode()), []
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        return {}, [Fault(path="", message=f"is not TOML: {error}")]


def _override(tree: Tree, env: Mapping[str, str], origins: dict[str, str]) -> list[Fault]:
    """Put the environment's values into `tree`; `origins` gets the variable behind each path."""
    known = {
        f"{ENV_PREFIX}{section}_{key}".upper(): (section, key)
        for section, model in sections_of(Settings).items()
        for key in model.model_fields
        if section != "device"
    }
    faults = []
    for variable, value in sorted(env.items()):
        if not variable.startswith(ENV_PREFIX) or variable == ENV_CONFIG:
            continue
        if variable not in known:
            faults.append(
                Fault(path=variable, message="no such setting in the environment", hint=_nearest(variable, known))
            )
            continue
        section, key = known[variable]
        holder = tree.setdefault(section, {})
        if isinstance(holder, dict):
            holder[key] = value
            origins[f"{section}.{key}"] = variable
    return faults


def _unknown(tree: Tree, model: type[BaseModel], place: Place) -> list[Fault]:
    """Faults for the keys `model` does not have; they are taken out of `tree`."""
    faults = []
    sections = sections_of(model)
    for key in list(tree):
        here = (*place, key)
        if key not in model.model_fields:
            del tree[key]
            what = "no such section" if not place else "no such key"
            faults.append(Fault(path=_path(here), message=what, hint=_suggest(key, model, place)))
        elif key in sections:
            nested = tree[key]
            rows = nested if isinstance(nested, list) else [nested]
            for index, row in enumerate(rows):
                if isinstance(row, dict):
                    faults += _unknown(row, sections[key], (*here, index) if isinstance(nested, list) else here)
    return faults


def _validate(tree: Tree, origins: Mapping[str, str]) -> tuple[Settings, list[Fault]]:
    """The settings, with the default in place of every faulty value, so that relations can be judged as well."""
    faults = []
    try:
        return Settings.model_validate(tree), []
    except ValidationError as error:
        for detail in error.errors(include_url=False, include_context=False):
            place = detail["loc"]
            faults.append(_from(Fault(path=_path(place), message=_message(place, detail)), origins))
            _take_out(tree, place)
    try:
        return Settings.model_validate(tree), faults
    except ValidationError:
        return Settings(), faults


def _message(place: Place, detail: Mapping[str, Any]) -> str:
    match detail["type"]:
        case "model_type":
            return f"must be a section, [{place[0]}]"
        case "tuple_type":
            return f"must be written [[{place[0]}]], once for each"
        case _:
            pass
    message = str(detail["msg"]).removeprefix("Value error, ")
    message = message.replace("Input should", "must").replace("String should", "must")
    message = message[:1].lower() + message[1:]
    value = detail.get("input")
    if detail["type"] == "missing" or isinstance(value, dict | list) or _is_secret(place):
        return message
    return f"{message}, not {str(value)[:_ECHO_CHARS_MAX]!r}"


def _is_secret(place: Place) -> bool:
    model: type[BaseModel] = Settings
    for part in place:
        field = model.model_fields.get(str(part))
        if field is None:
            continue
        if isinstance(field.json_schema_extra, dict) and field.json_schema_extra.get("secret"):
            return True
        model = sections_of(model).get(str(part), model)
    return False


def _take_out(tree: Tree, place: Place) -> None:
    """Remove what is at `place`; of a list, the whole list, whose rows would otherwise be renumbered."""
    holder = tree
    for depth, part in enumerate(place):
        nested = holder.get(str(part))
        if not isinstance(nested, dict) or depth == len(place) - 1:
            holder.pop(str(part), None)
            return
        holder = nested


def sections_of(model: type[BaseModel]) -> dict[str, type[BaseModel]]:
    found = {}
    for name, field in model.model_fields.items():
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                found[name] = kind
    return found


def _suggest(key: str, model: type[BaseModel], place: Place) -> str:
    """The section that has a key of just this name; else the nearest key here."""
    homes = [
        name for name, section in sections_of(Settings).items() if key in section.model_fields and place[:1] != (name,)
    ]
    return f"{key} belongs in [{homes[0]}]" if homes else _nearest(key, model.model_fields)


def _nearest(word: str, known: Mapping[str, object]) -> str:
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"did you mean {close[0]}?" if close else ""


def _path(place: Place) -> str:
    text = ""
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _from(fault: Fault, origins: Mapping[str, str]) -> Fault:
    variable = origins.get(fault.path)
    if variable is None:
        return fault
    return Fault(path=f"{fault.path} (from {variable})", message=fault.message, hint=fault.hint)
