"""Lists of images: a text file with a path or URL a line, or a table with a column of them."""

from __future__ import annotations

import csv
import os
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path

from weakseg.data.decode import SUFFIXES
from weakseg.faults import printable, unprintable
from weakseg.sources.addresses import below_url, is_url, opened_address, root_parts, url_parts
from weakseg.sources.columns import IMAGE_COLUMNS, squashed
from weakseg.sources.named_images import NamedImage, stem
from weakseg.types import DataError, is_sample_id

LISTS = (".csv", ".tsv", ".txt")
"""What the names of lists end with."""

_NAME_COLUMNS = ("name", "id", "imageid")
"""Headers of the column that names the results, where another one has the images."""


def read_image_list(address: str) -> Iterator[NamedImage]:
    """The images that a list names, in its order.

    A `.txt` has a path or URL a line. A `.csv` or `.tsv` has a header, with a column `image`,
    `path`, `file_name`, `url` or the like, and perhaps `name` or `id`, which names the results;
    or, without a header, nothing but paths. Paths are seen from the list's folder. An image has the
    name of its row, else its path below that folder; one that lies elsewhere its whole path or
    URL, without `/` or scheme at the beginning.

    Args:
        address: The list: a path or URL.

    Yields:
        Each image; whether it is there is not looked at.

    Raises:
        ConfigError: A package is missing that such URLs need.
        DataError: The list cannot be read, names no images, or a name cannot be a file's.
    """
    base = _parent(address)
    for line, text, name in _rows(address):
        where = f"{address}:{line}"
        image = _image(base, text, name, where)
        if not is_sample_id(image.name) or unprintable(image.name):
            raise DataError(
                f"{where}: {image.name!r} cannot be the name of a file; names are paths below a "
                "folder, without `..`, backslashes and control characters"
            )
        yield image


def named_urls(url: str) -> Iterator[NamedImage]:
    """The images at a URL: a file, all of a folder, or those of a pattern; named as local ones.

    Raises:
        ConfigError: A package is missing that such URLs need.
        DataError: There are none.
    """
    found = below_url(url)
    root = root_parts(url)
    for one in found:
        parts = url_parts(one)
        if len(found) > 1 and not parts[-1].lower().endswith(tuple(SUFFIXES)):
            continue
        below = parts[len(root) :] if parts[: len(root)] == root else parts
        yield NamedImage(one, stem("/".join(below or parts[-1:])))


def _parent(address: str) -> str:
    return address.rpartition("/")[0] if is_url(address) else str(Path(address).absolute().parent)


def _image(base: str, text: str, name: str, where: str) -> NamedImage:
    if is_url(text) or is_url(base):
        if not is_url(text) and (text.startswith("/") or "\\" in text):
            raise DataError(f"{where}: {text!r} is no URL, nor a path below {base}")
        url = text if is_url(text) else f"{base}/{text}"
        parts, root = url_parts(url), url_parts(base) if is_url(base) else [""]
        below = parts[len(root) :] if parts[: len(root)] == root else parts
        return NamedImage(url, name or stem("/".join(below)))
    path = Path(os.path.normpath(Path(base, text)))
    own = path.relative_to(base) if path.is_relative_to(base) else path.relative_to(path.anchor)
    return NamedImage(str(path), name or stem(own.as_posix()))


def _rows(address: str) -> Iterator[tuple[int, str, str]]:
    """Line, image and name (or nothing) of each row."""
    lines = _lines(address)
    if address.lower().endswith(".txt"):
        for line, text in lines:
            if text.strip():
                yield line, text.strip(), ""
        return
    delimiter = "\t" if address.lower().endswith(".tsv") else ","
    reader = csv.reader((f"{text}\n" for _, text in lines), delimiter=delimiter, strict=True)
    image: int | None = None
    name: int | None = None
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            if not any(cells):
                continue
            if image is None:
                image, name = _columns(cells, address)
                if _is_header(cells):
                    continue
            if len(cells) <= max(image, name or 0) or not cells[image]:
                raise DataError(f"{address}:{reader.line_num}: the row names no image")
            text = "" if name is None else unicodedata.normalize("NFC", stem(cells[name]))
            yield reader.line_num, cells[image], text
    except csv.Error as error:
        raise DataError(f"{address}:{reader.line_num}: {error}") from error


def _is_header(cells: Sequence[str]) -> bool:
    return any(squashed(cell) in IMAGE_COLUMNS for cell in cells)


def _columns(cells: Sequence[str], address: str) -> tuple[int, int | None]:
    """The columns of images and of names, by the first row."""
    names = [squashed(cell) for cell in cells]
    image = next((names.index(known) for known in IMAGE_COLUMNS if known in names), None)
    if image is not None:
        others = [known for known in _NAME_COLUMNS if known in names]
        return image, next((i for n in others if (i := names.index(n)) != image), None)
    if len(cells) == 1 and (is_url(cells[0]) or Path(cells[0]).suffix.lower() in SUFFIXES):
        return 0, None
    shown = printable(", ".join(cells)[:200])
    raise DataError(
        f"{address}: no column is known to name the images (columns: {shown}); call it 'image'"
    )


def _lines(address: str) -> Iterator[tuple[int, str]]:
    with opened_address(address) as file:
        for number, raw in enumerate(file, start=1):
            try:
                text = raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
            except UnicodeDecodeError:
                raise DataError(
                    f"{address}:{number}: the line is not UTF-8; save the list as UTF-8"
                ) from None
            yield number, text
