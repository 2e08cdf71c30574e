"""Rows of texts from files and from the Hub, each with its place for error messages."""

import csv
import gzip
import io
import json
import sys
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from zoo.data.bad_rows import BadRows
from zoo.errors import DataError, did_you_mean

SUFFIXES = (".txt", ".text", ".md", ".py", ".jsonl", ".jsonl.gz", ".json.gz", ".csv")


@dataclass(frozen=True)
class Document:
    """One text and where it was found."""

    text: str
    place: str
    """File, or file and line."""


@dataclass(frozen=True)
class Row:
    """Values by column, and where they were found."""

    values: Mapping[str, str]
    place: str


def read(source: str, column: str, bad: BadRows | None = None) -> list[Document]:
    """The documents of a file, of every file of a folder, or of a data set on the Hub.

    Args:
        source: A path, or `owner/name[:split]`.
        column: Where a row's text stands, in jsonl, csv and on the Hub.
        bad: What is done about a row that cannot be read; by default it is an error.

    Raises:
        DataError: Nothing is there, or a row cannot be read; it names file and line.
    """
    return [Document(row.values[column], row.place) for row in read_rows(source, [column], bad)]


def read_rows(source: str, columns: Sequence[str], bad: BadRows | None = None) -> list[Row]:
    """The rows of a file, of every file of a folder, or of a data set on the Hub.

    Args:
        source: A path, or `owner/name[:split]`.
        columns: What is read of a row; a row without text in the first is left out.
        bad: What is done about a row that cannot be read; by default it is an error.

    Raises:
        DataError: Nothing is there, or a row cannot be read; it names file and line.
    """
    path, bad = Path(source), bad or BadRows()
    known = bad.count
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file() and file.name.endswith(SUFFIXES))
        rows = [row for file in files for row in _read_file(file, columns, bad)]
        if not rows:
            raise bad.since(known, source) or DataError(
                f"the folder {path} holds no text", hint=f"read are: {', '.join(SUFFIXES)}"
            )
        return rows
    if path.is_file():
        rows = list(_read_file(path, columns, bad))
        if not rows:
            raise bad.since(known, source) or DataError(f"{path} is empty")
        return rows
    if path.suffix or source.count("/") != 1 or source.startswith((".", "/", "~")):
        raise DataError(f"no file or folder `{source}`", hint="give a path, or a data set's `owner/name`")
    return _read_hub(source, columns, bad)


def _read_file(path: Path, columns: Sequence[str], bad: BadRows) -> Iterator[Row]:
    if path.name.endswith((".jsonl", ".jsonl.gz", ".json.gz")):
        return _read_jsonl(path, columns, bad)
    if path.suffix == ".csv":
        return _read_csv(path, columns, bad)
    return _read_text(path, columns, bad)


def _content(path: Path, bad: BadRows) -> str:
    # What is no UTF-8 becomes half a character, which makes the row that reads it a bad one.
    errors = "surrogateescape" if bad.are_skipped else "strict"
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        return raw.decode("utf-8", errors).removeprefix("\ufeff")  # some editors begin a file with a mark
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise DataError(f"{path} is not UTF-8: byte {error.start}", source=f"{path}:{line}") from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}") from error


def _read_text(path: Path, columns: Sequence[str], bad: BadRows) -> Iterator[Row]:
    if len(columns) > 1:
        raise DataError(f"{path} is one text, it has no `{columns[1]}`", hint="give jsonl or csv")
    with bad.row():
        yield from _row({columns[0]: _content(path, bad)}, columns, str(path))


def _read_jsonl(path: Path, columns: Sequence[str], bad: BadRows) -> Iterator[Row]:
    for number, line in enumerate(_content(path, bad).split("\n"), 1):  # texts may hold other breaks
        if line.strip():
            with bad.row():
                yield from _row(_object(line, f"{path}:{number}"), columns, f"{path}:{number}")


def _object(line: str, place: str) -> Mapping[str, object]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise DataError(f"a line is no JSON: {error}", source=place) from error
    if not isinstance(row, dict):
        raise DataError(f"a line is no JSON object but {type(row).__name__}", source=place)
    return row


def _read_csv(path: Path, columns: Sequence[str], bad: BadRows) -> Iterator[Row]:
    limit = csv.field_size_limit(sys.maxsize)  # a field may be a book
    try:
        rows = _fields(path, bad)
        _, header = next(rows, ("", []))
        for place, row in rows:
            with bad.row():
                if len(row) != len(header):
                    raise DataError(f"a row has {len(row)} fields, the header {len(header)}", source=place)
                yield from _row(dict(zip(header, row, strict=True)), columns, place)
    finally:
        csv.field_size_limit(limit)


def _fields(path: Path, bad: BadRows) -> Iterator[tuple[str, list[str]]]:
    """The rows of a table that are not empty, each with its place."""
    rows = csv.reader(io.StringIO(_content(path, bad), newline=""), strict=True)
    while True:
        try:
            row = next(rows, None)
        except csv.Error as error:
            fault = DataError(f"a row is no CSV: {error}", source=f"{path}:{rows.line_num}")
            if "unexpected end" in str(error):  # a quote that nothing closes takes in every row after it
                raise fault from error
            bad.read(fault)
            continue
        if row is None:
            return
        if row:
            yield f"{path}:{rows.line_num}", row


def _row(row: Mapping[str, object], columns: Sequence[str], place: str) -> Iterator[Row]:
    values = {column: _value(row, column, place, column != columns[0]) for column in columns}
    if values[columns[0]].strip():
        yield Row(values, place)


def _value(row: Mapping[str, object], column: str, place: str, may_be_number: bool) -> str:
    if column not in row:
        raise DataError(f"a row has no `{column}`", source=place, hint=did_you_mean(column, row))
    value = row[column]
    if may_be_number and isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise DataError(f"`{column}` must be a text, got {type(value).__name__}", source=place)
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"`{column}` holds half a character: {value[error.start]!r}", source=place) from error
    return value


def _read_hub(source: str, columns: Sequence[str], bad: BadRows) -> list[Row]:
    import datasets  # takes seconds to import, and local files do without

    name, _, split = source.partition(":")
    try:
        rows = datasets.load_dataset(name, split=split or "train")
    except Exception as error:  # datasets raises many kinds for what is not to be had
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise DataError(f"the data set `{source}` cannot be had: {reason}") from error
    features = getattr(rows, "features", None) or {}
    names = {column: features[column].names for column in columns if hasattr(features.get(column), "names")}
    kept: list[Row] = []
    known = bad.count
    for number, row in enumerate(rows):
        with bad.row():
            kept += _row(_with_names(row, names), columns, f"{source} row {number}")
    if not kept:
        raise bad.since(known, source) or DataError(f"the data set `{source}` holds no text")
    return kept


def _with_names(row: Mapping[str, object], names: Mapping[str, Sequence[str]]) -> Mapping[str, object]:
    """A row in whose columns of labels names stand for numbers; -1, the Hub's none, stays."""
    named = dict(row)
    for column in names:
        number = row.get(column)
        if isinstance(number, int) and number >= 0:
            named[column] = names[column][number]
    return named
