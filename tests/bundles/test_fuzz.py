"""Random damage to bundles: whatever it is, opening one ends in a RecordError, or in a record that can be read."""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from genmed.ground.errors import GenmedError, RecordError
from genmed.ground.sealed import read_sealed
from genmed.records.environment import compare_environments
from genmed.records.run_folder import RunFolder
from genmed.workflows.bundle import opened, read_bundled_config, trusted_config
from genmed.workflows.identity import list_former, read_images
from genmed.workflows.integrity import find_damage
from genmed.workflows.verify import _list_accepted
from tests.bundles.making import CHECKPOINT, Files, put_together, seal_lax, take_apart

OTHERS: list[Any] = [None, True, -1, 10**30, 1.5, "", "../../etc/passwd", [], [[]], {}, {"a": []}]


def read_as_verify_does(folder: RunFolder) -> list[str]:
    """The damage that it would call not comparable."""
    document = folder.read()
    if damage := find_damage(folder, document):
        return damage
    assert read_images(folder)
    compare_environments({}, read_sealed(folder.environment_path), document.device)
    list_former(document)
    _list_accepted(document)
    return []


def outcome(path: Path, content: bytes) -> str:
    """Any other exception than genmed's own is a finding."""
    path.write_bytes(content)
    try:
        with opened(path) as folder:
            if read_as_verify_does(folder):
                return "refused"
        trusted_config(read_bundled_config(path), path.parent, path.parent / "tiny.py")
    except RecordError as error:
        return "refused" if str(path) in error.message and error.message.isprintable() else error.message
    except GenmedError:
        return "not trusted"
    return "read"


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Of all values within a document."""
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*path, key))


def replace_at(document: Any, path: tuple[Any, ...], value: Any) -> None:
    for key in path[:-1]:
        document = document[key]
    document[path[-1]] = value


DOCUMENTS = ["run.json", "environment.json", "data.json", f"{CHECKPOINT}/manifest.json", f"{CHECKPOINT}/state.json"]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_value_of_another_type_anywhere_is_refused_or_harmless(
    good: bytes, files: Files, tmp_path: Path, name: str
) -> None:
    """All seals and digests are right."""
    draw = random.Random(name)
    (tmp_path / "tiny.py").touch()
    before = json.loads(files[name])
    before.pop("seal", None)
    found: set[str] = set()
    top, deeper = [(key,) for key in before], [path for path in places(before) if len(path) > 1]
    for path in [*top, *draw.sample(deeper, min(50, len(deeper)))]:
        document = json.loads(json.dumps(before))
        replace_at(document, path, draw.choice(OTHERS))
        content = json.dumps(document).encode() if name.endswith("state.json") else seal_lax(document)
        found.add(outcome(tmp_path / "strange.zip", put_together({**files, name: content})))
    assert "refused" in found
    assert found <= {"refused", "not trusted", "read"}


def test_flipped_bit_anywhere_is_refused_or_in_what_says_nothing(good: bytes, tmp_path: Path) -> None:
    draw = random.Random(1)
    path = tmp_path / "strange.zip"
    (tmp_path / "tiny.py").touch()
    path.write_bytes(good)
    before, found = take_apart(path), []
    assert outcome(path, good) == "read"
    for _ in range(300):
        content = bytearray(good)
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        found.append(outcome(path, bytes(content)))
        if found[-1] == "read":  # a time, or the version that made it
            assert take_apart(path) == before
    assert found.count("read") < 30
    assert set(found) <= {"refused", "read"}


def test_cut_anywhere_is_refused(good: bytes, tmp_path: Path) -> None:
    draw = random.Random(1)
    for _ in range(100):
        assert outcome(tmp_path / "strange.zip", good[: draw.randrange(len(good))]) == "refused"
