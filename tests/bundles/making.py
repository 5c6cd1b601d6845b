"""Bundles of all sorts for tests: taken apart, changed, and put together again by Python's own zipfile."""

import io
import json
import re
import struct
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from genmed.ground.fingerprints import digest_bytes
from genmed.ground.sealed import seal_document

Files = dict[str, bytes]
"""Of a bundle, by name."""
BUNDLE = "bundle.json"
CHECKPOINT = "checkpoints/step-0000028-epoch-0004-end"
"""The last one of the run that `tiny` makes."""


def take_apart(path: Path) -> Files:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist() if name != BUNDLE}


def describe(files: Mapping[str, bytes], /, **changes: Any) -> bytes:
    """A bundle.json that is right about the files."""
    described = {name: {"sha256": digest_bytes(content), "bytes": len(content)} for name, content in files.items()}
    return seal_document({"schema": 1, "run": "run", "genmed": "0", "files": described, **changes}).encode()


def put_together(files: Files, *, bundle: bytes | None = None, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip file, bundle.json first."""
    return pack({BUNDLE: describe(files) if bundle is None else bundle, **files}, method=method)


def pack(files: Mapping[str | zipfile.ZipInfo, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip file of anything."""
    room = io.BytesIO()
    with zipfile.ZipFile(room, "w", method) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names that are there twice
        for name, content in files.items():
            entry = name if isinstance(name, zipfile.ZipInfo) else named(name)
            archive.writestr(entry, content, zipfile.ZIP_STORED if entry.filename.endswith("tensors") else method)
    return room.getvalue()


def named(name: str, mode: int = 0o100644) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    return info


def reseal(content: bytes, change: Callable[[dict[str, Any]], object]) -> bytes:
    """A sealed document after the change, its seal right again."""
    document = json.loads(content)
    del document["seal"]
    change(document)
    return seal_lax(document)


def seal_lax(document: Any) -> bytes:
    """Sealed, also with what genmed would not write (NaN)."""
    body = json.dumps(document, indent=2).removesuffix("\n}").encode()
    return seal_body(body)


def seal_body(body: bytes) -> bytes:
    return body + f',\n  "seal": "{digest_bytes(body)}"\n}}\n'.encode()


def directory_of(content: bytes) -> int:
    """Where the directory begins."""
    return int(struct.unpack_from("<L", content, len(content) - 6)[0])


def entry_of(content: bytes, name: str) -> int:
    """Where the directory's entry of the file begins."""
    pattern = rb"PK\x01\x02.{24}" + re.escape(struct.pack("<H", len(name))) + b".{16}" + re.escape(name.encode())
    found = re.compile(pattern, re.DOTALL).search(content, directory_of(content))
    assert found, name
    return found.start()


def local_of(content: bytes, name: str) -> int:
    """Where the file's own header begins."""
    return int(struct.unpack_from("<L", content, entry_of(content, name) + 42)[0])


def poke(content: bytes, place: int, shape: str, *values: int) -> bytes:
    changed = bytearray(content)
    struct.pack_into(shape, changed, place, *values)
    return bytes(changed)


def poke_both(content: bytes, name: str, local: int, shape: str, *values: int) -> bytes:
    """Changes a field in both headers; `local`: its place in the file's own one. The directory's lies 2 bytes on."""
    content = poke(content, local_of(content, name) + local, shape, *values)
    return poke(content, entry_of(content, name) + local + 2, shape, *values)


Make = Callable[[bytes, Files], bytes]
"""From a good bundle and its files to a strange one."""


class Cases(dict[str, tuple[Make, str]]):
    """Strange bundles by name, each with the reason for which it is refused, as a pattern."""

    def case(self, reason: str) -> Callable[[Make], Make]:
        """Takes a function in, by its name."""

        def keep(make: Make) -> Make:
            self[make.__name__] = (make, reason)
            return make

        return keep


def replaced(files: Files, name: str, change: Callable[[bytes], bytes]) -> bytes:
    """A bundle that is right about all its files, of which one was changed."""
    return put_together({**files, name: change(files[name])})


def edited(name: str, change: Callable[[dict[str, Any]], object]) -> Make:
    """A sealed document was changed, and all seals and digests made right again."""
    return lambda good, files: replaced(files, name, lambda content: reseal(content, change))
