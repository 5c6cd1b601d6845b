"""Where values come from: defaults, then a YAML file, then GENMED_* variables, then flags; the last one wins."""

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import ValidationError

from genmed.ground.errors import ConfigError
from genmed.records.config.sections import BOOLEAN, Config, list_keys, unflatten

PREFIX = "GENMED_"
SHIPPED = Path(__file__).parent / "shipped"
"""Configs that come with genmed, as YAML files."""
NOT_KEYS = {"GENMED_ROOT", "GENMED_REGISTRY", "GENMED_CACHE", "GENMED_STARTED_FOR"}


@dataclass(frozen=True)
class Layer:
    """Values by dotted key, and for each the words that name where it came from."""

    values: Mapping[str, Any]
    origins: Mapping[str, str]


@dataclass(frozen=True)
class ResolvedConfig:
    """A valid config and where each value came from ('default' where nobody said)."""

    config: Config
    origins: Mapping[str, str] = field(default_factory=dict)


def layer_of_defaults(values: Mapping[str, Any], origin: str) -> Layer:
    return Layer(values, dict.fromkeys(values, origin))


def layer_of_file(named: Path | str) -> Layer:
    """A YAML file that nests by concern, or names dotted keys.

    named: its path, or the name of one that comes with genmed. Raises ConfigError where it is missing, is not YAML, or
    has an unknown or repeated key.
    """
    path = find_shipped(str(named)) or Path(named)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(
            f"no config file {path}", f"check --config; with genmed come: {', '.join(list_shipped())}"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the config file {path}: {error}") from None
    try:
        document = yaml.load(text, _UniqueKeys)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if document is None:
        document = {}
    if not isinstance(document, dict):
        raise ConfigError(f"{path} must hold keys and values, found {type(document).__name__}")
    values: dict[str, Any] = {}
    for key, value in document.items():
        section = {} if value is None and _is_section(key) else value
        found = (
            {f"{key}.{inner}": entry for inner, entry in section.items()} if isinstance(section, dict) else {key: value}
        )
        for name in found.keys() & values.keys():
            raise ConfigError(f"{path} is not clear: key {name!r} is given twice")
        values.update(found)
    _refuse_unknown(values, f" in {path}")
    return Layer(values, dict.fromkeys(values, str(named)))


def list_shipped() -> list[str]:
    """Names of the configs that come with genmed."""
    return sorted(path.stem for path in SHIPPED.glob("*.yaml"))


def find_shipped(name: str) -> Path | None:
    """The config of this name, with or without .yaml, unless a file of the user's is called so."""
    stem = name.removesuffix(".yaml")
    return SHIPPED / f"{stem}.yaml" if stem in list_shipped() and not Path(name).exists() else None


def layer_of_environment(environ: Mapping[str, str]) -> Layer:
    """GENMED_SEED, GENMED_TRAINING__EPOCHS and the like; values are read as YAML."""
    values, origins = {}, {}
    for variable in sorted(environ):
        if variable.startswith(PREFIX) and variable not in NOT_KEYS and not variable.startswith("GENMED_TEST_"):
            key = variable.removeprefix(PREFIX).lower().replace("__", ".")
            _refuse_unknown({key: None}, f" (variable {variable})", as_variable=True)
            values[key] = _parse(environ[variable], variable)
            origins[key] = variable
    return Layer(values, origins)


def layer_of_flags(values: Mapping[str, Any], origins: Mapping[str, str], settings: Sequence[str] = ()) -> Layer:
    """Flags by dotted key (None: not given) and `--set KEY=VALUE` texts."""
    given = {key: value for key, value in values.items() if value is not None}
    named = {key: origins[key] for key in given}
    for text in settings:
        key, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"--set takes KEY=VALUE, got {text!r}", "for example --set training.patience=3")
        _refuse_unknown({key: None}, " (--set)")
        given[key], named[key] = _parse(value, f"--set {key}"), "--set"
    return Layer(given, named)


def read_grid(text: str) -> tuple[str, list[Any]]:
    """The key and the values of `--grid KEY=V1,V2`; a value that has commas itself stands in brackets or quotes.

    Raises ConfigError for an unknown key, or where there are no values or one is given twice.
    """
    key, equals, given = text.partition("=")
    if not equals or not given.strip():
        raise ConfigError(f"--grid takes KEY=V1,V2, got {text!r}", "for example --grid optimizer.lr=0.001,0.0003")
    _refuse_unknown({key: None}, " (--grid)")
    values = _parse(f"[{given}]", f"--grid {key}")
    twice = [value for at, value in enumerate(values) if value in values[:at]]
    if twice:
        raise ConfigError(f"--grid {key} has {_show(twice[0])} twice", "give each value once")
    return key, values


def resolve(layers: Sequence[Layer]) -> ResolvedConfig:
    """Lays the layers over one another, the last on top, and validates the whole.

    Raises ConfigError with the first wrong key, its rule, what was given and where it came from.
    """
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for layer in layers:
        values.update(layer.values)
        origins.update(layer.origins)
    try:
        config = Config.model_validate(unflatten(values))
    except ValidationError as error:
        raise ConfigError(*_explain(error, origins)) from None
    return ResolvedConfig(config, origins)


if TYPE_CHECKING:
    from yaml import SafeLoader as _SafeLoader
else:  # libyaml's takes a tenth of the time; PyYAML may have been built without it
    _SafeLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_SafeLoader):
    """Leaves numbers as they are written, for the field to read as it reads a flag: YAML 1.1 takes 010 for 8."""

    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":int", ":float"))]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


class _UniqueKeys(_Loader):
    """A key given twice is a mistake that plain YAML loaders swallow."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is not text", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is given twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def _parse(text: str, where: str) -> Any:
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError:
        raise ConfigError(f"cannot read the value {text!r} of {where}") from None


def _is_section(name: str) -> bool:
    return any(key.startswith(f"{name}.") for key in list_keys())


def _refuse_unknown(values: Mapping[str, Any], where: str, as_variable: bool = False) -> None:
    known = list_keys()
    for key in values:
        if key not in known:
            near = suggest_key(str(key))
            shown = PREFIX + near.upper().replace(".", "__") if as_variable and near else near
            raise ConfigError(
                f"unknown key {key}{where}",
                f"did you mean {shown}?" if near else "`genmed train --dry-run` prints all keys",
            )


def suggest_key(key: str) -> str | None:
    """The known key nearest to a wrong one: the same last word under any section, else the closest spelling."""
    known = list(list_keys())
    last = key.replace("-", "_").rpartition(".")[2]
    by_last = {name.rpartition(".")[2]: name for name in known}
    if last in by_last:
        return by_last[last]
    near = difflib.get_close_matches(key, known, 1, 0.75) or difflib.get_close_matches(last, by_last, 1, 0.7)
    return by_last.get(near[0], near[0]) if near else None


def suggest(name: str, known: Sequence[str]) -> str:
    """'did you mean x or y?', or the list of what is known. Small letters and capitals count as equal."""
    by_lower = {word.lower(): word for word in known}
    near = [by_lower[word] for word in difflib.get_close_matches(name.lower(), by_lower, 3, 0.6)]
    return f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(known)}"


def _explain(error: ValidationError, origins: Mapping[str, str]) -> tuple[str, str]:
    """The first mistake as one line, where its value came from as the hint."""
    # Of a union all members are tried; what is wrong within a list says more than that the list is no single word.
    first = max(error.errors(), key=lambda entry: sum(isinstance(part, int) for part in entry["loc"]))
    location = [str(part) for part in first["loc"]]
    key = next((".".join(location[:n]) for n in (2, 1) if ".".join(location[:n]) in list_keys()), "")
    context = first.get("ctx", {})
    if first["type"] == BOOLEAN:
        key = ".".join([*location[:1], str(context["name"])])
        return f"{key} must be a number, got {context['value']}", _origin_of(key, origins)
    if first["type"] == "value_error" and "error" in context:
        rule = str(context["error"])
        section = ".".join(location[:1])
        sources = _list_sources(rule, section, first["input"], origins)
        message = f"{key} {rule}, got {_show(first['input'])}" if key else f"{section}: {rule}" if section else rule
        return message, f"set by {', '.join(sources)}" if sources and not key else _origin_of(key, origins)
    rule = first["msg"][0].lower() + first["msg"][1:]
    rule = rule.replace("input should be", "must be").replace("string should", "must").replace("input should", "must")
    rule = rule.partition(", unable to parse")[0]
    return f"{key or '.'.join(location)} {rule}, got {_show(first['input'])}", _origin_of(key, origins)


def _list_sources(rule: str, section: str, given: Any, origins: Mapping[str, str]) -> list[str]:
    """Where the values came from that a rule names by their key or as they are; of --set with the key."""
    words = set(re.findall(r"\w+", rule))
    values = {key.rpartition(".")[2]: key for key in origins if key.startswith(section)}
    held = given if isinstance(given, dict) else {}
    named = [key for name, key in values.items() if name in words or str(held.get(name)) in words] or values.values()
    return sorted({f"--set {key}" if origins[key] == "--set" else origins[key] for key in named})


def _origin_of(key: str, origins: Mapping[str, str]) -> str:
    return f"set by {origins[key]}" if key in origins else ""


def _show(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_show, value))}]"
    text = str(value) if isinstance(value, (int, float, str)) else repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
