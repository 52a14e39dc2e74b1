"""What can be wrong with a source: one fault names the place, what was found, and the remedy."""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from weakseg.types import DataError

if TYPE_CHECKING:
    from weakseg.sources.check import CheckReport

FaultKind = Literal[
    "tags_file",
    "row",
    "encoding",
    "split",
    "annotation",
    "path_leaves",
    "image_missing",
    "image_empty",
    "image_damaged",
    "image_format",
    "image_too_large",
    "image_too_small",
    "image_shape",
    "image_name",
    "image_elsewhere",
    "image_channels",
    "image_frames",
    "image_unnamed",
    "tag_spelling",
    "tag_blanks",
    "tag_once",
    "tag_unknown",
    "tag_reserved",
    "tag_characters",
    "tag_words",
    "no_tags",
    "few_images",
    "class_unused",
    "duplicate_name",
    "duplicate_row",
    "duplicate_content",
    "mask_damaged",
    "mask_channels",
    "mask_size",
    "mask_indices",
    "mask_unused",
    "mask_tags",
]

FAULT_KINDS: tuple[FaultKind, ...] = get_args(FaultKind)


def unprintable(text: str) -> bool:
    """Whether a text holds control characters, or bytes that are no UTF-8."""
    return any(unicodedata.category(c) in ("Cc", "Cs") or c in "\u2028\u2029" for c in text)


def printable(text: str) -> str:
    r"""A text safe to print and to write as UTF-8: what is not is escaped.

    Example:
        >>> print(printable("caf\udce9\x1b[31m"))
        caf\xe9\x1b[31m
    """
    return "".join(_escaped(c) if unprintable(c) else c for c in text)


def _escaped(c: str) -> str:
    byte = ord(c) - 0xDC00 if 0xDC80 <= ord(c) <= 0xDCFF else ord(c)  # surrogates of raw bytes
    if c == "\n":
        return "\\n"
    return f"\\x{byte:02x}" if byte < 256 else f"\\u{byte:04x}"


Printable = Annotated[str, AfterValidator(printable)]


class Fault(BaseModel):
    """One thing that is wrong, or (as a note) worth knowing.

    Example:
        >>> str(Fault(kind="row", file="a.csv", line=3, found="one column", remedy="add a comma"))
        'a.csv:3: one column; add a comma'
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: FaultKind = Field(description="What sort of fault it is.")
    file: Printable = Field(description="The file or folder it is in.")
    line: int | None = Field(default=None, ge=1, description="The line of the file, from 1.")
    found: Printable = Field(description="What was found there.")
    remedy: Printable = Field(description="How to fix it.")
    samples: tuple[Printable, ...] = Field(
        default=(), description="Ids of the samples that cannot be used because of it."
    )
    severity: Literal["fault", "note"] = Field(
        default="fault",
        description="`fault`: ambiguous or harmful. `note`: read correctly without doubt.",
    )

    @property
    def where(self) -> str:
        """The file, with the line behind a colon where there is one."""
        return self.file if self.line is None else f"{self.file}:{self.line}"

    def __str__(self) -> str:
        return f"{self.where}: {self.found}; {self.remedy}"


class FileError(DataError):
    """A file that cannot be used, with everything a `Fault` needs.

    Attributes:
        path: The file.
        kind: The kind of fault.
        found: What was found.
        remedy: How to fix it.
    """

    def __init__(self, path: Path, kind: FaultKind, found: str, remedy: str) -> None:
        super().__init__(f"{path}: {found}; {remedy}")
        self.path, self.kind, self.found, self.remedy = path, kind, found, remedy

    def __reduce__(self) -> tuple[type[FileError], tuple[Path, FaultKind, str, str]]:
        # Exceptions rebuild themselves from their message; data-loader workers need all four parts.
        return FileError, (self.path, self.kind, self.found, self.remedy)

    def fault(self, *samples: str) -> Fault:
        """The same as an entry of a report."""
        return Fault(
            kind=self.kind,
            file=str(self.path),
            found=self.found,
            remedy=self.remedy,
            samples=samples,
        )


def listed(names: list[str], limit: int = 6) -> str:
    """Names behind each other, the first `limit` of them and how many more there are."""
    shown = ", ".join(repr(name) for name in names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"


class FaultsFoundError(DataError):
    """A source is not used because `check` finds faults in it.

    Attributes:
        report: What was found.
    """

    def __init__(self, report: CheckReport) -> None:
        count = len(report.faults)
        super().__init__(
            f"{report.source}: {count} fault{'s' * (count != 1)}, the first: {report.faults[0]} "
            "(give --skip-bad to go on without the bad images)"
        )
        self.report = report
