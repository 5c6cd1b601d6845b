"""A strict subset of zip, to be taken from strangers: plain files, stored or deflated, and not a byte beside them.

Any zip tool reads it. Written are fixed times and permissions, so that equal files give equal bytes. Read is only what
lies as it is written here: one file after the other from the first byte on, without a gap or an overlap, then the
directory, which says of each the same as stands before its data, then the end, without a comment.
"""

import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any

from genmed.ground.errors import RecordError

LOCAL, CENTRAL = struct.Struct("<4s5H3L2H"), struct.Struct("<4s6H3L5H2L")
END, END64, LOCATOR = struct.Struct("<4s4H2LH"), struct.Struct("<4sQ2H2L4Q"), struct.Struct("<4sLQL")
SHORT, LONG = 0xFFFF, 0xFFFFFFFF
UTF8 = 0x800
STORED, DEFLATED = 0, 8
LOCATES = b"PK\x06\x07"
VERSIONS = (20, 45)
"""Of the format: as it was, and with sizes beyond 32 bits."""
TIME = (1980, 1, 1, 0, 0, 0)
PLAIN_FILE = 0o100644 << 16
LONGEST_NAME = 255
CHUNK = 1 << 20
MEND = "fetch it again and compare its SHA-256 with the one that was published, or ask for another"


@dataclass(frozen=True)
class Entry:
    """One file of an archive, as the directory declares it."""

    name: str
    size: int
    """In bytes, unpacked."""
    packed: int
    """In bytes, in the archive."""
    deflated: bool
    crc: int
    begin: int
    """Where its local header begins."""


class ArchiveWriter:
    """Adds files to a new archive, each whole. The caller closes it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._zip = zipfile.ZipFile(file, "w", allowZip64=True)

    def add(self, name: str, content: Iterator[bytes], size: int, *, deflate: bool) -> None:
        """size: of the content, in bytes."""
        info = zipfile.ZipInfo(name, TIME)
        info.compress_type = zipfile.ZIP_DEFLATED if deflate else zipfile.ZIP_STORED
        info.create_system = 3
        info.external_attr = PLAIN_FILE
        info.file_size = size
        with self._zip.open(info, "w") as packed:
            for chunk in content:
                packed.write(chunk)

    def close(self) -> None:
        self._zip.close()


class Archive:
    """An archive from a stranger. All methods raise RecordError that says what is wrong with it."""

    def __init__(self, file: IO[bytes], most: int) -> None:
        """Reads and checks the directory. most: how many files there may be."""
        self._file = file
        self.size = file.seek(0, 2)
        directory, end, count = self._read_end()
        if count > most:
            raise RecordError(f"it holds {count} files, more than the {most} that are read", MEND)
        if end - directory > count * (CENTRAL.size + LONGEST_NAME + 64):
            raise RecordError(f"its directory of {count} files is {end - directory} bytes long", MEND)
        self.entries = tuple(self._read_directory(directory, end, count))
        self._check_names()
        self._data = dict(self._check_places(directory))

    def read(self, entry: Entry) -> Iterator[bytes]:
        """Its content in chunks of at most 1 MiB, never more than declared; checked when the last one was taken."""
        self._file.seek(self._data[entry.name])
        size, crc = 0, 0
        for chunk in self._unpack(entry) if entry.deflated else self._copy(entry):
            size, crc = size + len(chunk), zlib.crc32(chunk, crc)
            if size > entry.size:
                raise RecordError(f"{entry.name} unpacks to more than the {entry.size} bytes that it declares", MEND)
            yield chunk
        if size != entry.size:
            raise RecordError(f"{entry.name} unpacks to {size} bytes and declares {entry.size}", MEND)
        if crc != entry.crc:
            raise RecordError(f"{entry.name} is damaged: it fails its CRC", MEND)

    def _copy(self, entry: Entry) -> Iterator[bytes]:
        for begin in range(0, entry.packed, CHUNK):
            yield self._take(min(CHUNK, entry.packed - begin))

    def _unpack(self, entry: Entry) -> Iterator[bytes]:
        unpacker, raw, left = zlib.decompressobj(-zlib.MAX_WBITS), b"", entry.packed
        while not unpacker.eof:
            if not raw:
                raw = self._take(min(CHUNK, left))
                left -= len(raw)
            try:
                chunk = unpacker.decompress(raw, CHUNK)
            except zlib.error as error:
                raise RecordError(f"{entry.name} is damaged: {error}", MEND) from None
            raw = unpacker.unconsumed_tail
            if not (chunk or raw or left or unpacker.eof):
                raise RecordError(f"{entry.name} is damaged: its packed data are cut off", MEND)
            yield chunk
        if unpacker.unused_data or raw or left:
            raise RecordError(f"{entry.name} is damaged: more follows its packed data", MEND)

    def _take(self, count: int) -> bytes:
        content = self._file.read(count)
        if len(content) != count:
            raise RecordError("it is cut off", MEND)
        return content

    def _take_at(self, place: int, shape: struct.Struct, signature: bytes, what: str) -> tuple[Any, ...]:
        """The fields of a record but its signature."""
        if not 0 <= place <= self.size - shape.size:
            raise RecordError(f"it is no zip file, or it is cut off: no {what}", MEND)
        self._file.seek(place)
        found, *fields = shape.unpack(self._take(shape.size))
        if found != signature:
            raise RecordError(f"it is no zip file, or it is cut off: no {what}", MEND)
        return tuple(fields)

    def _read_end(self) -> tuple[int, int, int]:
        """Where the directory begins and ends, and how many files it names."""
        end = self.size - END.size
        disk, first, here, count, length, directory, comment = self._take_at(
            end, END, b"PK\x05\x06", "directory at its end (which no comment may follow)"
        )
        if (disk, first, comment) != (0, 0, 0) or here != count:
            raise RecordError("it is one part of several, or has a comment", MEND)
        if self._has_locator(end):
            _, place, _ = self._take_at(end - LOCATOR.size, LOCATOR, LOCATES, "locator of its directory")
            if place != end - LOCATOR.size - END64.size:
                raise RecordError("its directory does not lie where it should", MEND)
            fields = self._take_at(place, END64, b"PK\x06\x06", "large directory at its end")
            short = (min(fields[6], SHORT), min(fields[7], LONG), min(fields[8], LONG))
            if (fields[0], *fields[3:5], fields[5]) != (END64.size - 12, 0, 0, fields[6]) or (
                short != (count, length, directory)
            ):
                raise RecordError("its directory contradicts itself", MEND)
            end, count, length, directory = place, *fields[6:9]
        if directory + length != end:
            raise RecordError("its directory does not lie where it should: it is cut, or something was added", MEND)
        return directory, end, count

    def _has_locator(self, end: int) -> bool:
        """Whether it is written as for sizes beyond 32 bits, though they need not be."""
        if end < LOCATOR.size:
            return False
        self._file.seek(end - LOCATOR.size)
        return self._take(len(LOCATES)) == LOCATES

    def _read_directory(self, place: int, end: int, count: int) -> Iterator[Entry]:
        for _ in range(count):
            fields = self._take_at(place, CENTRAL, b"PK\x01\x02", "entry in its directory")
            system, version, flags, method, crc, packed, size = fields[0] >> 8, *fields[1:4], *fields[6:9]
            name_length, extra_length, comment_length, disk, _, attributes, begin = fields[9:16]
            name = _decode(self._take(name_length), flags)
            extra = self._take(extra_length)
            place += CENTRAL.size + name_length + extra_length + comment_length
            if comment_length or disk or place > end:
                raise RecordError(f"{name!a} has a comment, or lies outside the directory", MEND)
            _check_kind(name, version, flags, method, system, attributes)
            size, packed, begin = _widen(name, [size, packed, begin], extra)
            if method == STORED and packed != size:
                raise RecordError(f"{name!a} is stored, and declares {size} bytes in {packed}", MEND)
            yield Entry(name, size, packed, method == DEFLATED, crc, begin)
        if place != end:
            raise RecordError("its directory holds more than it counts", MEND)

    def _check_names(self) -> None:
        seen: dict[str, str] = {}
        for entry in self.entries:
            key = unicodedata.normalize("NFKC", entry.name).casefold()
            if key in seen:
                raise RecordError(f"{entry.name!a} and {seen[key]!a} are one file on some systems", MEND)
            seen[key] = entry.name

    def _check_places(self, directory: int) -> Iterator[tuple[str, int]]:
        """(name, where its data begin): one after the other, and each header as the directory has it."""
        place = 0
        for entry in sorted(self.entries, key=lambda entry: entry.begin):
            if entry.begin != place:
                raise RecordError(f"{entry.name!a} overlaps another file, or leaves a gap before it", MEND)
            fields = self._take_at(place, LOCAL, b"PK\x03\x04", f"file where {entry.name!a} should begin")
            flags, method, crc, packed, size = fields[1], fields[2], *fields[5:8]
            name, extra = _decode(self._take(fields[8]), flags), self._take(fields[9])
            size, packed = _widen(name, [size, packed], extra)
            found = (name, size, packed, method == DEFLATED, crc)
            declared = (entry.name, entry.size, entry.packed, entry.deflated, entry.crc)
            if found != declared or fields[0] not in VERSIONS or flags & ~UTF8:
                raise RecordError(f"{entry.name!a} has another header than the directory says", MEND)
            data = place + LOCAL.size + fields[8] + fields[9]
            yield entry.name, data
            place = data + entry.packed
        if place != directory:
            raise RecordError("something lies between its files and its directory, or it overlaps", MEND)


def _decode(name: bytes, flags: int) -> str:
    if not 0 < len(name) <= LONGEST_NAME:
        raise RecordError(f"a file's name is {len(name)} bytes long", MEND)
    try:
        return name.decode("utf-8" if flags & UTF8 else "ascii")
    except UnicodeDecodeError:
        raise RecordError(f"the name {name!r} is not UTF-8", MEND) from None


def _check_kind(name: str, version: int, flags: int, method: int, system: int, attributes: int) -> None:
    if flags & 1:
        raise RecordError(f"{name!a} is encrypted", MEND)
    if flags & ~UTF8:
        raise RecordError(f"{name!a} has the flags {flags:#x}, which are not read", MEND)
    if method not in (STORED, DEFLATED):
        raise RecordError(f"{name!a} is packed by method {method}; stored and deflated files are read", MEND)
    if version not in VERSIONS:
        raise RecordError(f"{name!a} is of version {version} of the format; {VERSIONS} are read", MEND)
    kind = attributes >> 16 & 0o170000
    if system != 3 or kind not in (0, 0o100000) or attributes & 0x10:
        raise RecordError(f"{name!a} is no plain file (a link, a folder or a device)", MEND)


def _widen(name: str, values: Sequence[int], extra: bytes) -> list[int]:
    """The values, those that do not fit into 32 bits from the one extra field that may be there."""
    wide: list[int] = []
    if extra:
        if len(extra) < 4 or struct.unpack_from("<2H", extra) != (1, len(extra) - 4) or len(extra) % 8 != 4:
            raise RecordError(f"{name!a} has extra fields, which are not read", MEND)
        wide = list(struct.unpack_from(f"<{len(extra) // 8}Q", extra, 4))
    if len(wide) != sum(value == LONG for value in values):
        raise RecordError(f"{name!a} has sizes that contradict one another", MEND)
    return [wide.pop(0) if value == LONG else value for value in values]
