"""Bytes become text: gzip, byte order marks, other encodings, and where the first wrong byte is."""

from __future__ import annotations

import codecs
import difflib
import gzip
import io
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TextIO, cast

from bertsmith.errors import DataError, UsageError

_CHUNK = 1 << 20
_SAMPLE = 20_000
_MARKS = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
_OTHER_FORMATS = {
    b"\x1f\x8b": ("a gzip file", "Give it the ending .gz."),
    b"PK\x03\x04": ("a zip or Excel file", "Unpack it, or save the sheet as CSV."),
    b"PAR1": ("a Parquet file", "Give it the ending .parquet."),
    b"\xd0\xcf\x11\xe0": ("an old Excel file", "Save the sheet as CSV."),
}
_USUAL = ("cp1252", "utf-16", "latin-1", "cp1251", "gb18030", "shift_jis", "big5", "euc-kr", "utf-8")


@dataclass(frozen=True)
class WrongByte:
    """The first place where a file is no clean text.

    Attributes:
        line: Line of the file, counted from 1.
        characters: How many characters come before it.
        byte: The byte that cannot be decoded, or 0 for a NUL.
        offset: Where in the (unpacked) file, in bytes; near enough for a NUL.
    """

    line: int
    characters: int
    byte: int
    offset: int


def open_bytes(path: Path) -> BinaryIO:
    """Open a file for reading, unpacked when its name ends in `.gz`.

    Raises:
        UsageError: The file may not be read.
    """
    try:
        return cast(BinaryIO, gzip.GzipFile(path)) if path.suffix.lower() == ".gz" else path.open("rb")
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}.") from error


def open_utf8(path: Path, encoding: str = "", *, errors: str = "strict") -> BinaryIO:
    """Open a text file as a stream of UTF-8 bytes without a byte order mark, whatever its encoding is."""
    return cast(BinaryIO, io.BufferedReader(_Utf8Stream(path, encoding, errors), _CHUNK))


def open_text(path: Path, encoding: str = "", *, errors: str = "strict") -> TextIO:
    r"""Open a text file; line ends (\\n, \\r\\n, \\r) are kept as they are."""
    return io.TextIOWrapper(open_utf8(path, encoding, errors=errors), encoding="utf-8", newline="")


def first_wrong_byte(path: Path, encoding: str = "") -> WrongByte | None:
    """Read the whole file once and find the first byte that is no text, or a NUL.

    Raises:
        DataError: The file is another format, or its gzip is broken.
        UsageError: The encoding is unknown, or the file may not be read.
    """
    decoder = _decoder(encoding, "strict")
    line, characters, offset = 1, 0, 0
    for chunk in _chunks(path):
        held = len(decoder.getstate()[0])
        try:
            text = decoder.decode(chunk, final=not chunk)
        except UnicodeDecodeError as error:
            good = error.object[: error.start].decode(encoding or "utf-8", "replace")
            return WrongByte(
                line + good.count("\n"),
                characters + len(good),
                error.object[error.start],
                offset - held + error.start,
            )
        nul = text.find("\0")
        if nul >= 0:
            return WrongByte(line + text.count("\n", 0, nul), characters + nul, 0, offset)
        line, characters, offset = line + text.count("\n"), characters + len(text), offset + len(chunk)
    return None


def wrong_byte_error(path: Path, encoding: str, wrong: WrongByte, row: int | None) -> DataError:
    """Word the error for a byte that is no text; a guess at the true encoding is part of it."""
    where = f"{path}: line {wrong.line}" if row is None else f"{path}: row {row} (line {wrong.line})"
    guess = guessed_encoding(path, wrong.offset) if not encoding else ""
    if wrong.byte == 0 and not guess.startswith("utf"):
        return DataError(
            f"{where}: there is a NUL byte, which no text has.",
            tip="Is it a text file? Remove the byte, or save the file again.",
        )
    found = f"byte 0x{wrong.byte:02x} at offset {wrong.offset} is not {(encoding or 'utf-8').upper()}"
    if guess:
        return DataError(f"{where}: {found}. The file looks like {guess}.", tip=f"Read it with --encoding {guess}")
    return DataError(f"{where}: {found}.", tip="Say which encoding the file has: --encoding NAME, for example cp1252.")


def guessed_encoding(path: Path, offset: int) -> str:
    """Guess the encoding from the bytes around an offset; "" when there is no good guess."""
    with open_bytes(path) as stream:
        start = stream.read(4)
        if start[:2] in _MARKS:
            return _MARKS[start[:2]]
        stream.seek(max(0, offset - _SAMPLE // 2))
        sample = stream.read(_SAMPLE)
    zeros = sample.count(0)
    if zeros > len(sample) // 5:
        return "utf-16-le" if sample[(offset > _SAMPLE // 2) :: 2].count(0) < zeros / 2 else "utf-16-be"
    return _statistical_guess(sample) if zeros == 0 else ""


def _statistical_guess(sample: bytes) -> str:
    from charset_normalizer import from_bytes

    matches = from_bytes(sample)
    names = [match.encoding for match in matches]
    names += [name for match in matches for name in match.could_be_from_charset]
    # Short samples fit many one-byte encodings equally well; cp1252 is what Windows writes in the West.
    if "cp1252" in names and (not names or not names[0].startswith(("utf", "big5", "gb", "shift", "euc"))):
        return "cp1252"
    return names[0] if names and names[0] not in {"utf_8", "ascii"} else ""


class _Utf8Stream(io.RawIOBase):
    """Decodes piece by piece and gives UTF-8."""

    def __init__(self, path: Path, encoding: str, errors: str) -> None:
        super().__init__()
        self._decoder = _decoder(encoding, errors)
        self._source = open_bytes(path)
        self._ready = memoryview(b"")
        self._started = self._ended = False

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fill the buffer; 0 at the end."""
        while not self._ready and not self._ended:
            chunk = self._source.read(_CHUNK)
            self._ended = not chunk
            text = self._decoder.decode(chunk, final=not chunk)
            self._ready = memoryview((text if self._started else text.removeprefix("\ufeff")).encode())
            self._started = self._started or bool(text)
        size = min(len(buffer), len(self._ready))
        buffer[:size] = self._ready[:size]
        self._ready = self._ready[size:]
        return size

    def close(self) -> None:
        """Close the file beneath."""
        if not self.closed:
            self._source.close()
        super().close()


def _chunks(path: Path) -> Iterator[bytes]:
    """Give the bytes of a file, and b"" at the end."""
    with open_bytes(path) as stream:
        try:
            chunk = stream.read(_CHUNK)
            _refuse_other_formats(path, chunk)
            while chunk:
                yield chunk
                chunk = stream.read(_CHUNK)
        except gzip.BadGzipFile as error:
            raise DataError(
                f"{path}: not a gzip file, though its name ends in .gz.",
                tip="Drop the .gz, or pack the file again.",
            ) from error
        except (EOFError, zlib.error) as error:
            raise DataError(
                f"{path}: the gzip file is cut off or damaged.", tip="Copy or download it again."
            ) from error
    yield b""


def _refuse_other_formats(path: Path, start: bytes) -> None:
    for magic, (name, tip) in _OTHER_FORMATS.items():
        if start.startswith(magic):
            raise DataError(f"{path}: this is {name}, not text.", tip=tip)


def _decoder(encoding: str, errors: str) -> codecs.IncrementalDecoder:
    """Make a decoder."""
    try:
        name = codecs.lookup(encoding or "utf-8").name
        "x".encode(name)  # codecs such as rot13 are found by name, but make no bytes
    except (LookupError, UnicodeError) as error:
        near = difflib.get_close_matches(encoding, _USUAL, n=1, cutoff=0.5)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise UsageError(
            f"unknown encoding '{encoding}' (--encoding).{hint}", tip=f"Usual ones are {', '.join(_USUAL)}."
        ) from error
    return codecs.getincrementaldecoder(name)(errors)
