"""Texts from files: each a document, with its place for error messages."""

import csv
import gzip
import io
import json
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from zoo.errors import DataError, did_you_mean

SUFFIXES = (".txt", ".text", ".md", ".py", ".jsonl", ".jsonl.gz", ".json.gz", ".csv")


@dataclass(frozen=True)
class Document:
    """One text and where it was found."""

    text: str
    place: str
    """File, or file and line."""


def read(source: str, column: str) -> list[Document]:
    """The documents of a file, of every file of a folder, or of a data set on the Hub.

    Args:
        source: A path, or `owner/name[:split]`.
        column: Where a row's text stands, in jsonl, csv and on the Hub.

    Raises:
        DataError: Nothing is there, or a row cannot be read; it names file and line.
    """
    path = Path(source)
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file() and file.name.endswith(SUFFIXES))
        documents = [document for file in files for document in _read_file(file, column)]
        if not documents:
            raise DataError(f"the folder {path} holds no text", hint=f"read are: {', '.join(SUFFIXES)}")
        return documents
    if path.is_file():
        documents = list(_read_file(path, column))
        if not documents:
            raise DataError(f"{path} is empty")
        return documents
    if path.suffix or source.count("/") != 1 or source.startswith((".", "/", "~")):
        raise DataError(f"no file or folder `{source}`", hint="give a path, or a data set's `owner/name`")
    return _read_hub(source, column)


def _read_file(path: Path, column: str) -> Iterator[Document]:
    if path.name.endswith((".jsonl", ".jsonl.gz", ".json.gz")):
        return _read_jsonl(path, column)
    if path.suffix == ".csv":
        return _read_csv(path, column)
    return _read_text(path)


def _content(path: Path) -> str:
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        return raw.decode("utf-8").removeprefix("\ufeff")  # some editors begin a file with a mark
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise DataError(f"{path} is not UTF-8: byte {error.start}", source=f"{path}:{line}") from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}") from error


def _read_text(path: Path) -> Iterator[Document]:
    text = _content(path)
    if text.strip():
        yield Document(text, str(path))


def _read_jsonl(path: Path, column: str) -> Iterator[Document]:
    for number, line in enumerate(_content(path).split("\n"), 1):  # texts may hold other breaks
        if not line.strip():
            continue
        place = f"{path}:{number}"
        try:
            row = json.loads(line)
        except ValueError as error:
            raise DataError(f"a line is no JSON: {error}", source=place) from error
        if not isinstance(row, dict):
            raise DataError(f"a line is no JSON object but {type(row).__name__}", source=place)
        yield from _document(row, column, place)


def _read_csv(path: Path, column: str) -> Iterator[Document]:
    rows = csv.reader(io.StringIO(_content(path), newline=""), strict=True)
    limit = csv.field_size_limit(sys.maxsize)  # a field may be a book
    try:
        header = next(rows, [])
        for row in rows:
            place = f"{path}:{rows.line_num}"
            if not row:
                continue
            if len(row) != len(header):
                raise DataError(f"a row has {len(row)} fields, the header {len(header)}", source=place)
            yield from _document(dict(zip(header, row, strict=True)), column, place)
    except csv.Error as error:
        raise DataError(f"a row is no CSV: {error}", source=f"{path}:{rows.line_num}") from error
    finally:
        csv.field_size_limit(limit)


def _document(row: dict[str, object], column: str, place: str) -> Iterator[Document]:
    if column not in row:
        raise DataError(f"a row has no `{column}`", source=place, hint=did_you_mean(column, row))
    text = row[column]
    if not isinstance(text, str):
        raise DataError(f"`{column}` must be a text, got {type(text).__name__}", source=place)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"`{column}` holds half a character: {text[error.start]!r}", source=place) from error
    if text.strip():
        yield Document(text, place)


def _read_hub(source: str, column: str) -> list[Document]:
    import datasets  # takes seconds to import, and local files do without

    name, _, split = source.partition(":")
    try:
        rows = datasets.load_dataset(name, split=split or "train")
    except Exception as error:  # datasets raises many kinds for what is not to be had
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise DataError(f"the data set `{source}` cannot be had: {reason}") from error
    documents = [
        document
        for number, row in enumerate(rows)
        for document in _document(row, column, f"{source} row {number}")
    ]
    if not documents:
        raise DataError(f"the data set `{source}` holds no text")
    return documents
