"""Lines of a text file, whatever its line ends and byte-order mark."""

from __future__ import annotations

import codecs
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from weakseg.faults import Fault, FileError
from weakseg.types import DataError

_WIDE = ((codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
_GUESS = "cp1252"  # what Windows programs write when they do not write UTF-8


@dataclass(frozen=True)
class Text:
    """A text file's lines.

    Attributes:
        lines: The lines, without their ends.
        unsure: Numbers (from 1) of lines that are not UTF-8 and were read by a guess.
        faults: What there is to say about the file's encoding as a whole.
    """

    lines: tuple[str, ...]
    unsure: frozenset[int]
    faults: tuple[Fault, ...]


def not_utf8(path: Path, line: int, *samples: str) -> Fault:
    """The fault of one line that is not UTF-8."""
    return Fault(
        kind="encoding",
        file=str(path),
        line=line,
        found="the line is not UTF-8",
        remedy="save the file as UTF-8",
        samples=samples,
    )


def read_text(path: Path) -> Text:
    """Reads a text file, telling what is unusual in its encoding.

    UTF-8 is read with or without byte-order mark and with any line ends. UTF-16 is recognised and
    read, as a fault. Lines that are not UTF-8 are read as Windows-1252 and listed as unsure.

    Args:
        path: The file.

    Returns:
        Its lines.

    Raises:
        FileError: The file cannot be opened.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        reason = error.strerror or str(error)
        raise FileError(
            path, "tags_file", f"cannot be read ({reason})", "make the file readable"
        ) from error
    faults: list[Fault] = []
    wide = _wide_encoding(data)
    if wide is not None:
        faults.append(_encoding(path, "is UTF-16", "fault"))
        data = data.decode(wide, errors="replace").removeprefix("\ufeff").encode()
    elif data.startswith(codecs.BOM_UTF8):
        faults.append(_encoding(path, "begins with a byte-order mark (read correctly)", "note"))
        data = data.removeprefix(codecs.BOM_UTF8)
    if b"\r" in data:
        if wide is None:
            faults.append(_encoding(path, "has Windows line ends, CRLF (read correctly)", "note"))
        data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    lines: list[str] = []
    unsure: set[int] = set()
    for number, raw in enumerate(data.split(b"\n"), start=1):
        try:
            line = raw.decode()
        except UnicodeDecodeError:
            unsure.add(number)
            line = raw.decode(_GUESS, errors="replace")
        lines.append(unicodedata.normalize("NFC", line))
    if lines[-1] == "":
        lines.pop()
    return Text(tuple(lines), frozenset(unsure), tuple(faults))


def read_lines(head: bytes) -> list[str]:
    """The lines of a file's beginning that are not blank, in whatever encoding, for a look."""
    wide = _wide_encoding(head)
    text = head.decode(wide or "utf-8", errors="replace").removeprefix("\ufeff")
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return [line for line in lines if line.strip()]


def read_list(path: Path) -> tuple[list[tuple[int, str]], list[Fault]]:
    """The lines of a list that are not blank, stripped, with their numbers.

    Args:
        path: The file, one entry a line.

    Returns:
        Pairs of line number (from 1) and entry; the faults of the file's encoding.

    Raises:
        FileError: The file cannot be opened.
    """
    text = read_text(path)
    faults = [*text.faults, *(not_utf8(path, line) for line in sorted(text.unsure))]
    entries = [(i, line.strip()) for i, line in enumerate(text.lines, start=1)]
    return [(i, line) for i, line in entries if line], faults


def names_of(given: Sequence[str] | Path | str, what: str) -> list[str]:
    """Names that a caller gives as a list, or as a text file with one a line.

    Args:
        given: The list, or the file's path.
        what: What they name, for the error: `classes`.

    Returns:
        The names, stripped; blank lines are passed over.

    Raises:
        DataError: There is no such file, or it cannot be read as UTF-8.
    """
    if not isinstance(given, str | Path):
        return [name.strip() for name in given]
    path = Path(given)
    if not path.is_file():
        raise DataError(
            f"{given}: there is no such file; give a list of {what}, or a text file with one a line"
        )
    entries, faults = read_list(path)
    serious = [fault for fault in faults if fault.severity == "fault"]
    if serious:
        raise DataError(str(serious[0]))
    return [name for _, name in entries]


def _wide_encoding(data: bytes) -> str | None:
    for mark, name in _WIDE:
        if data.startswith(mark):
            return name
    # Without a mark: ASCII in UTF-16 has a zero in every other byte.
    head = data[:2000]
    for offset, name in ((1, "utf-16-le"), (0, "utf-16-be")):
        zeros, others = head[offset::2], head[1 - offset :: 2]
        if len(head) >= 4 and zeros.count(0) > 0.9 * len(zeros) and others.count(0) == 0:
            return name
    return None


def _encoding(path: Path, found: str, severity: str) -> Fault:
    return Fault.model_validate(
        {
            "kind": "encoding",
            "file": str(path),
            "found": found,
            "remedy": "save the file as UTF-8"
            if severity == "fault"
            else "nothing has to be done; plain UTF-8 with LF reads everywhere",
            "severity": severity,
        }
    )
