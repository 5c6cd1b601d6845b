"""`config.yaml`: the resolved config, with where each value came from in its comments; it starts the same run again."""

import math
from collections.abc import Mapping
from typing import Any

import yaml

from genmed.records.config.sections import Config, Section, flatten


def write_document(config: Config, origins: Mapping[str, str]) -> str:
    """The config as YAML that nests by concern; values nobody chose carry the comment `default`."""
    values = flatten(config)
    lines = ["# genmed config: all that was chosen for this run, and by what.", ""]
    for name, field in Config.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            lines.append(f"\n{name}:")
            keys = [(f"{name}.{inner}", f"  {inner}") for inner in field.annotation.model_fields]
        else:
            keys = [(name, name)]
        for key, shown in keys:
            lines.append(f"{f'{shown}: {_inline(values[key])}':<42}  # {origins.get(key, 'default')}")
    return "\n".join(lines) + "\n"


def _inline(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=math.inf)
    text = text.removesuffix("\n").removesuffix("\n...")
    if len(text.splitlines()) == 1 and yaml.safe_load(text) == value:
        return text
    # Texts with line breaks of any alphabet: quoted and escaped.
    return yaml.safe_dump(value, default_flow_style=True, default_style='"', width=math.inf).removesuffix("\n")
