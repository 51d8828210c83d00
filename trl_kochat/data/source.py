"""Where the bytes of a file of rows lie, and the text that they are: packed or not, in UTF-8 or in what is said."""

import codecs
import gzip
import io
import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from ..errors import InputError
from ..text.shown import cut, shown


_GZIP, _ZIP = b"\x1f\x8b", b"PK\x03\x04"
# A source that still begins like an archive once it is unpacked is a workbook.
WORKBOOK = _ZIP
_PARQUET = b"PAR1"
# What begins an ASCII file of rows in UTF-16 without a BOM, which is UTF-8, too, if odd.
_WIDE = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, b"[\0", b"{\0", b"\0[", b"\0{")
# What no text holds.
_CONTROL = re.compile("[\0-\x08]")
# Korean files that call themselves EUC-KR are CP949, which has the 8,822 other syllables, too.
_WIDER = {"utf-8": "utf-8-sig", "euc_kr": "cp949"}


@dataclass(frozen=True)
class Source:
    """One file of rows.

    Args:
        path (`Path`): Where its bytes lie.
        name (`str`): What the user calls it, for errors to name.
        encoding (`str`): That of its text.
        member (`str`, *optional*): Its name within the zip archive at `path`.
    """

    path: Path
    name: str
    encoding: str = "utf-8"
    member: str | None = None

    @property
    def suffix(self) -> str:
        """The ending that tells what it holds, in lower case."""
        name = self.member or (urlsplit(self.name).path if "://" in self.name else self.name)
        return Path(name.lower().removesuffix(".gz")).suffix

    @contextmanager
    def opened(self) -> Iterator[IO[bytes]]:
        try:
            with _open(self.path, self.member) as stream:
                yield stream
        except (zipfile.BadZipFile, NotImplementedError, gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise InputError(f"{self.name} is an archive that cannot be unpacked: {cut(str(error), 300)}.") from error

    @contextmanager
    def text(self, *, newline: str = "\n") -> Iterator[IO[str]]:
        """Its text; a line ends at `newline` alone, not at U+2028 within a JSON text.

        Raises:
            ValueError: It is not text of that encoding; with the line, and with the encoding that it looks like.
        """
        try:
            with self.opened() as stream:
                codec = codecs.lookup(self.encoding).name
                yield io.TextIOWrapper(stream, encoding=_WIDER.get(codec, codec), newline=newline)
        except UnicodeError as error:  # of UTF-16 without a BOM it is no UnicodeDecodeError
            raise InputError(self._misread()) from error

    def begins_with(self, magic: bytes) -> bool:
        with self.opened() as stream:
            return stream.read(len(magic)) == magic

    def read(self) -> str:
        with self.text() as stream:
            return stream.read().removeprefix("\ufeff")

    def head(self) -> str:
        """The first characters that are no white space; none of an empty file."""
        with self.opened() as stream:
            if self.encoding == "utf-8" and stream.read(2) in _WIDE:
                raise InputError(self._misread())
        with self.text() as text:
            head = text.read(4096).removeprefix("\ufeff").lstrip()
            while not head and (more := text.read(4096)):
                head = more.lstrip()
        return head

    def _misread(self) -> str:
        """What to say of bytes that are not of this encoding."""
        with self.opened() as stream:
            first = stream.read(4096)
        marked = first.startswith(_WIDE[:2])
        wide = "utf-16" if marked else "utf-16-le" if first[1::2].count(0) > first[::2].count(0) else "utf-16-be"
        if marked or b"\0" in first and not _CONTROL.search(first.decode(wide, "ignore")):
            return f"{self.name} looks like {wide.upper()}, not {self.encoding.upper()}. {_say_so(wide)}"
        codec = codecs.lookup(self.encoding).name
        problem, fitting = f"{self.name} is not {self.encoding}", ["utf-8", "cp949"]
        found = None
        with self.opened() as stream:
            for number, line in enumerate(stream, start=1):  # of neither Korean encoding has a syllable a byte "\n"
                if _CONTROL.search(line.decode("latin-1")):
                    return f"{self.name} holds no text. Save the rows as JSON, CSV, parquet or .xlsx."
                fitting = [other for other in fitting if _problem(line, other) is None]
                if found is None and (found := _problem(line, _WIDER.get(codec, codec))) is not None:
                    byte = line[found.start]
                    problem = f"{self.name}, line {number}: byte {byte:#04x} is not {self.encoding.upper()}"
        return f"{problem}. {_say_so(fitting[0]) if found and fitting else 'Save the file as UTF-8.'}"


def _say_so(encoding: str) -> str:
    return f"It reads as {encoding.upper()}: --encoding {encoding} (in Python: encoding={encoding!r})."


def _problem(data: bytes, encoding: str) -> UnicodeDecodeError | None:
    try:
        data.decode(encoding)
    except UnicodeDecodeError as error:
        return error
    return None


def _open(path: Path, member: str | None) -> IO[bytes]:
    if member is not None:
        with zipfile.ZipFile(path) as archive:
            return archive.open(member)  # stays open when the archive is closed
    return gzip.open(path) if _starts(path, _GZIP) else path.open("rb")  # type: ignore[return-value]


def _starts(path: Path, magic: bytes) -> bool:
    with path.open("rb") as stream:
        return stream.read(len(magic)) == magic


def sources_of(path: Path, name: str, encoding: str, suffixes: tuple[str, ...]) -> list[Source]:
    """The files of rows at a path: one, or those in a zip archive that have one of the suffixes.

    Raises:
        ValueError: There is no such encoding, or an archive is locked, broken, or without such a file.
    """
    try:
        "".encode(encoding)  # unlike `codecs.lookup` it knows that base64 is none of texts
    except (LookupError, TypeError) as error:
        raise InputError(
            f"There is no encoding {shown(encoding)}; Korean files are utf-8, cp949 or utf-16."
        ) from error
    if not _starts(path, _ZIP):
        return [Source(path, name, encoding)]
    try:
        with zipfile.ZipFile(path) as archive:
            members = [entry for entry in archive.infolist() if not entry.is_dir()]
    except zipfile.BadZipFile as error:
        raise InputError(f"{name} is a broken archive: {error}.") from error
    names = sorted(entry.filename for entry in members)
    if "xl/workbook.xml" in names:
        return [Source(path, name, encoding)]
    if any(entry.flag_bits & 1 for entry in members):
        raise InputError(f"{name} is locked with a password; unpack it first.")
    kept = [name for name in names if name.lower().endswith(suffixes) and not name.startswith("__MACOSX")]
    if not kept:
        raise InputError(f"{name} is an archive without a file of rows ({', '.join(suffixes)}).")
    return [Source(path, f"{name}/{member}", encoding, member) for member in kept]


def is_parquet(source: Source) -> bool:
    """
    Raises:
        ValueError: It is one that is packed.
    """
    found = source.begins_with(_PARQUET)
    if found and (source.member or _starts(source.path, _GZIP)):
        raise InputError(f"{source.name} is a packed parquet file; unpack it first.")
    return found
