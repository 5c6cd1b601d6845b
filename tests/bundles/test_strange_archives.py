"""Bundles whose archive, names, sizes or digests are wrong: refused before anything in them is read."""

import io
import random
import zipfile

import pytest

from genmed.ground.archive import Archive, ArchiveWriter
from genmed.ground.errors import RecordError
from tests.bundles.conftest import Lab
from tests.bundles.making import (
    BUNDLE,
    CHECKPOINT,
    Cases,
    Files,
    Make,
    describe,
    directory_of,
    entry_of,
    local_of,
    named,
    pack,
    poke,
    poke_both,
    put_together,
    reseal,
)

CASES = Cases()


# The archive


@CASES.case("no zip file")
def nothing(good: bytes, files: Files) -> bytes:
    return b""


@CASES.case("no zip file")
def text(good: bytes, files: Files) -> bytes:
    return b"this is no zip file\n" * 100


@CASES.case("cut off")
def cut_at_its_end(good: bytes, files: Files) -> bytes:
    return good[:-100]


@CASES.case("cut off")
def cut_in_half(good: bytes, files: Files) -> bytes:
    return good[: len(good) // 2]


@CASES.case(r"model.safetensors is damaged: it fails its CRC")
def flipped_bit_in_stored_weights(good: bytes, files: Files) -> bytes:
    return poke(good, local_of(good, f"{CHECKPOINT}/model.safetensors") + 2000, "B", 1)


@CASES.case(r"trace.jsonl is damaged")
def flipped_bits_in_packed_text(good: bytes, files: Files) -> bytes:
    return poke(good, local_of(good, "trace.jsonl") + 200, "4B", 1, 2, 3, 4)


@CASES.case("no comment may follow")
def comment_behind_it(good: bytes, files: Files) -> bytes:
    return poke(good, len(good) - 2, "<H", 5) + b"hello"


@CASES.case("does not lie where it should")
def script_before_it(good: bytes, files: Files) -> bytes:
    return b"#!/bin/sh\nrm -rf /\n" + good


@CASES.case("lies between its files and its directory")
def bytes_hidden_before_the_directory(good: bytes, files: Files) -> bytes:
    at = directory_of(good)
    return poke(good[:at] + b"hidden!" + good[at:], len(good) + 7 - 6, "<L", at + 7)


@CASES.case("one part of several")
def one_disk_of_two(good: bytes, files: Files) -> bytes:
    return poke(good, len(good) - 18, "<2H", 1, 1)


@CASES.case("its directory holds more than it counts")
def entry_that_the_count_leaves_out(good: bytes, files: Files) -> bytes:
    count = len(files)
    return poke(good, len(good) - 14, "<2H", count, count)


@CASES.case("another header than the directory says")
def header_that_contradicts_the_directory(good: bytes, files: Files) -> bytes:
    return poke(good, local_of(good, "run.json") + 14, "<L", 1)


@CASES.case("holds 20001 files, more than the 20000")
def twenty_thousand_files(good: bytes, files: Files) -> bytes:
    return pack({f"code/a{number}.py": b"" for number in range(20_001)}, zipfile.ZIP_STORED)


@CASES.case("run.json.*encrypted")
def encrypted_file(good: bytes, files: Files) -> bytes:
    return poke_both(good, "run.json", 6, "<H", 1)


@CASES.case("packed by method 12")
def bzip2(good: bytes, files: Files) -> bytes:
    return put_together(files, method=zipfile.ZIP_BZIP2)


@CASES.case("has the flags 0x2")
def lzma(good: bytes, files: Files) -> bytes:
    return put_together(files, method=zipfile.ZIP_LZMA)


# Names


def with_name(name: str | zipfile.ZipInfo, content: bytes = b"evil") -> Make:
    key = name if isinstance(name, str) else name.filename

    def make(good: bytes, files: Files) -> bytes:
        entries: dict[str | zipfile.ZipInfo, bytes] = {BUNDLE: describe({**files, key: content}), **files}
        return pack({**entries, name: content})

    return make


NAMES = {
    "../evil.py": r"'\.\./evil\.py', which has no place",
    "code/../../evil.py": "has no place",
    "code/../run.json": "has no place",
    "/tmp/evil.py": "has no place",
    "..\\evil.py": "has no place",
    "code/..\\..\\evil.py": "has no place",
    "C:evil.py": "has no place",
    "code/C:evil.py": "has no place",
    "code/.hidden.py": "has no place",
    "code/__init__.pyc": "has no place",
    "code/tiny.py\x1b[2J.py": "has no place",
    "code/deep/evil.py": "is no file of the run's code",
    "code/deep/../evil.py": "has no place",
    "code/deep/kernel.so": "has no place",
    "code/" + "a/" * 12 + "evil.py": "has no place",
    "checkpoints/step-0000028-epoch-0004-end/model.pt": "has no place",
    "checkpoints/step-0000028-epoch-0004-end/../../../evil.json": "has no place",
    "checkpoints/../run.json": "has no place",
    "predictions.csv": "has no place",
    "runs/": "has no place",
    "code/TINY.py": "one file on some systems",
    "RUN.JSON": "one file on some systems",
    "code/" + "a" * 260 + ".py": "name is 268 bytes long",
}
CASES.update({f"name {name[:40]!a}": (with_name(name), reason) for name, reason in NAMES.items()})
CASES["symbolic link"] = (with_name(named("code/link.py", 0o120777), b"/etc/passwd"), "link.py' is no plain file")
CASES["named pipe"] = (with_name(named("code/pipe.py", 0o010644)), "pipe.py' is no plain file")
CASES["folder by its attributes"] = (with_name(named("code/folder.py", 0o040755)), "folder.py' is no plain file")


@CASES.case(r"'code/a\\x00bc\.py', which has no place")
def name_with_nul(good: bytes, files: Files) -> bytes:
    return with_name("code/aXbc.py")(good, files).replace(b"code/aXbc.py", b"code/a\0bc.py")


@CASES.case("is not UTF-8")
def name_that_is_no_text(good: bytes, files: Files) -> bytes:
    return with_name("code/aXbc.py")(good, files).replace(b"code/aXbc.py", b"code/a\xffbc.py")


@CASES.case("'run.json' and 'run.json' are one file")
def name_that_is_there_twice(good: bytes, files: Files) -> bytes:
    return pack({BUNDLE: describe(files), **files, named("run.json"): b"{}"})


# Sizes


@CASES.case("trace.jsonl unpacks [0-9]+ bytes to 209715200: a zip bomb")
def zeros_that_unpack_a_thousandfold(good: bytes, files: Files) -> bytes:
    return put_together({**files, "trace.jsonl": bytes(200 << 20)})


@CASES.case("it unpacks [0-9]+ bytes to [0-9]+: a zip bomb")
def many_files_of_zeros(good: bytes, files: Files) -> bytes:
    return put_together({**files, **{f"code/a{number}.py": bytes(64 << 10) for number in range(2000)}})


@CASES.case("more than the 1048576 allowed")
def code_of_two_megabytes(good: bytes, files: Files) -> bytes:
    return put_together({**files, "code/long.py": random.Random(1).randbytes(2 << 20)})


@CASES.case("metrics.csv unpacks to more than the 100 bytes that it declares")
def size_that_is_a_lie(good: bytes, files: Files) -> bytes:
    bundle = reseal(describe(files), lambda document: document["files"]["metrics.csv"].update(bytes=100))
    content = put_together({**files, "metrics.csv": bytes(200_000)}, bundle=bundle)
    return poke_both(content, "metrics.csv", 22, "<L", 100)


@CASES.case("overlaps another file")
def files_that_share_their_bytes(good: bytes, files: Files) -> bytes:
    """Many names for one kernel of packed zeros (Fifield 2019, A better zip bomb)."""
    kernels = {f"code/kernel{letter}.py": bytes(60_000) for letter in "abcdef"}
    content = put_together({**files, **kernels})
    first = local_of(content, "code/kernela.py")
    for name in kernels:
        content = poke(content, entry_of(content, name) + 42, "<L", first)
    return content


# What bundle.json says


@CASES.case("run.json fails its digest in bundle.json")
def digest_of_another_file(good: bytes, files: Files) -> bytes:
    return put_together({**files, "run.json": files["run.json"].replace(b"nih", b"NIH")}, bundle=describe(files))


@CASES.case("bundle.json is damaged: it fails its seal")
def edited_bundle_json(good: bytes, files: Files) -> bytes:
    return put_together(files, bundle=describe(files).replace(b'"schema": 1', b'"schema": 2'))


@CASES.case("bundle.json has schema 2, this genmed reads 1")
def later_schema(good: bytes, files: Files) -> bytes:
    return put_together(files, bundle=describe(files, schema=2))


@CASES.case("it holds code/more.py, which bundle.json does not name")
def file_that_is_not_described(good: bytes, files: Files) -> bytes:
    return put_together({**files, "code/more.py": b""}, bundle=describe(files))


@CASES.case("it lacks 'code/more.py', which bundle.json names")
def file_that_is_not_there(good: bytes, files: Files) -> bytes:
    return put_together(files, bundle=describe({**files, "code/more.py": b""}))


@CASES.case("it lacks trace.jsonl")
def no_trace(good: bytes, files: Files) -> bytes:
    return put_together({name: content for name, content in files.items() if name != "trace.jsonl"})


@CASES.case("does not begin with bundle.json")
def no_bundle_json(good: bytes, files: Files) -> bytes:
    return pack(dict(files))


@CASES.case("bundle.json describes '.*environment.json' wrongly")
def description_of_another_type(good: bytes, files: Files) -> bytes:
    return put_together(files, bundle=describe(files, files={name: {"bytes": True, "sha256": ""} for name in files}))


@CASES.case("it cannot be read: AttributeError")
def description_that_is_a_list(good: bytes, files: Files) -> bytes:
    return put_together(files, bundle=describe(files, files=[1, 2]))


@pytest.mark.parametrize(("make", "reason"), CASES.values(), ids=CASES)
def test_strange_archive_is_refused_in_one_line(lab: Lab, good: bytes, files: Files, make: Make, reason: str) -> None:
    lab.refuses(make(good, files), reason)


def test_the_bundle_that_they_are_made_from_is_verified(lab: Lab, good: bytes, files: Files) -> None:
    for content in (good, put_together(files)):
        err, code, out = lab.verify(content)
        assert code == 0, err
        assert out.endswith("verdict\tidentical\n")


def test_archive_as_it_is_written_beyond_two_gigabytes_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """The long forms of sizes and places, which zipfile takes above a limit that is set to 100 bytes here."""
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 100)
    contents = {"small": b"1", "stored.safetensors": bytes(range(256)) * 9, "packed": bytes(50_000)}
    file = io.BytesIO()
    writer = ArchiveWriter(file)
    for name, content in contents.items():
        writer.add(name, iter([content]), len(content), deflate=name == "packed")
    writer.close()
    assert b"PK\x06\x06" in file.getvalue()
    archive = Archive(file, 3)
    assert {entry.name: b"".join(archive.read(entry)) for entry in archive.entries} == contents
    place = file.getvalue().index(b"PK\x06\x06")
    for at in (place + 24, place + 40, place + 48):  # count, length and place of the directory
        with pytest.raises(RecordError, match="contradicts itself"):
            Archive(io.BytesIO(poke(file.getvalue(), at, "B", file.getvalue()[at] ^ 1)), 3)
