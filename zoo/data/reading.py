"""Rows of texts from files and from the Hub, each with its place for error messages."""

import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from zoo.data import splits
from zoo.data.bad_rows import BadRows
from zoo.data.on_disk import OnDisk
from zoo.errors import DataError, did_you_mean

T = TypeVar("T")

SUFFIXES = (".txt", ".txt.gz", ".text", ".md", ".py", ".jsonl", ".jsonl.gz", ".json.gz", ".csv")


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


@dataclass(frozen=True)
class Record:
    """Values of any kind by column, and where they were found."""

    values: Mapping[str, Any]
    place: str

    def require(self, *columns: str) -> None:
        """Refuses a row that lacks one of these columns.

        Raises:
            DataError: With the nearest that it has.
        """
        for column in columns:
            _require(self.values, column, self.place)


Parse = Callable[[Mapping[str, object], Sequence[str], str], Iterator[T]]
"""What is kept of a row's values under these columns, from this place."""


LONGEST_LINE_BYTES = 2**26
"""Of a line of a table; what is longer is no table of rows, and would fill the memory."""


LONGEST_TEXT = 2**28
"""Characters of a file that is one document, which is held and tokenised as a whole."""


def read(
    source: str, column: str, bad: BadRows | None = None, first_rows: int | None = None
) -> Sequence[Document]:
    """The documents of a file, of every file of a folder, or of a data set on the Hub, kept on disk.

    Args:
        source: A path, or `owner/name[@revision][:split]`.
        column: Where a row's text stands, in jsonl, csv and on the Hub.
        bad: What is done about a row that cannot be read; by default it is an error.
        first_rows: Documents that are read; those of the Hub then come as a stream, of which nothing else is
            downloaded. None: all.

    Raises:
        DataError: Nothing is there, or a row cannot be read; it names file and line.
    """
    rows = _read_source(source, [column], _row, bad or BadRows(), is_streamed=first_rows is not None)
    return OnDisk(Document(row.values[column], row.place) for row in islice(rows, first_rows))


def read_records(source: str, columns: Sequence[str], bad: BadRows | None = None) -> list[Record]:
    """The rows of a source with values of any kind, as jsonl and the Hub have them.

    Args:
        source: A path, or `owner/name[@revision][#configuration]`; either may be followed by `:split`.
        columns: What every row must have.
        bad: What is done about a row that cannot be read; by default it is an error.

    Raises:
        DataError: Nothing is there, or a row cannot be read; it names file and line.
    """
    return list(_read_source(source, columns, _record, bad or BadRows()))


def _read_source(
    source: str, columns: Sequence[str], parse: Parse[T], bad: BadRows, *, is_streamed: bool = False
) -> Iterator[T]:
    known = bad.count
    files = splits.files_of(source, SUFFIXES)
    if files is None:
        yield from _read_hub(source, columns, parse, bad, is_streamed=is_streamed)
        return
    is_empty = True
    for file in files:
        for row in _read_file(file, columns, parse, bad):
            is_empty = False
            yield row
    if is_empty:
        empty = DataError(f"{source} is empty")
        if Path(source).is_dir():
            hint = f"read are: {', '.join(SUFFIXES)}"
            empty = DataError(f"the folder {source} holds no text", hint=hint)
        raise bad.since(known, source) or empty


def _read_file(path: Path, columns: Sequence[str], parse: Parse[T], bad: BadRows) -> Iterator[T]:
    if path.name.endswith((".jsonl", ".jsonl.gz", ".json.gz")):
        return _read_jsonl(path, columns, parse, bad)
    if path.suffix == ".csv":
        return _read_csv(path, columns, parse, bad)
    return _read_text(path, columns, parse, bad)


def content_of(path: Path, bad: BadRows) -> str:
    """A file's text, unpacked.

    Raises:
        DataError: It cannot be read, or is no UTF-8.
    """
    return "".join(line for _, line in lines_of(path, bad, longest_bytes=None))


def lines_of(
    path: Path, bad: BadRows, longest_bytes: int | None = LONGEST_LINE_BYTES
) -> Iterator[tuple[int, str]]:
    """The lines of a file, unpacked, each with its number and its end; only a line at a time is in memory.

    Args:
        path: The file.
        bad: What is done about a line that is too long.
        longest_bytes: Of a line; None: there is no such limit.

    Raises:
        DataError: The file cannot be read, or is no UTF-8, or a line is too long.
    """
    # What is no UTF-8 becomes half a character, which makes the row that reads it a bad one.
    errors = "surrogateescape" if bad.are_skipped else "strict"
    start = 0
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            for number, raw in enumerate(iter(lambda: file.readline(longest_bytes or -1), b""), 1):
                if longest_bytes and len(raw) == longest_bytes and not raw.endswith(b"\n"):
                    bad.read(_too_long(path, number, longest_bytes))
                    while (rest := file.readline(longest_bytes)) and not rest.endswith(b"\n"):
                        pass
                    continue
                try:
                    text = raw.decode("utf-8", errors)
                except UnicodeDecodeError as error:
                    raise DataError(
                        f"{path} is not UTF-8: byte {start + error.start}",
                        source=f"{path}:{number}",
                        hint="save it as UTF-8",
                    ) from error
                start += len(raw)
                # Some editors begin a file with a mark.
                yield number, text.removeprefix("\ufeff") if number == 1 else text
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}") from error


def _too_long(path: Path, number: int, longest_bytes: int) -> DataError:
    return DataError(
        f"a line has more than {longest_bytes:,} bytes",
        source=f"{path}:{number}",
        hint="give each row a line of its own, cut its text, or leave such rows out: data.on_bad_row: skip",
    )


def _read_text(path: Path, columns: Sequence[str], parse: Parse[T], bad: BadRows) -> Iterator[T]:
    if len(columns) != 1:
        lacking = f"`{columns[1]}`" if columns else "columns"
        raise DataError(f"{path} is one text, it has no {lacking}", hint="give jsonl or csv")
    with bad.row():
        yield from parse({columns[0]: "".join(_bounded(path, bad))}, columns, str(path))


def _bounded(path: Path, bad: BadRows) -> Iterator[str]:
    """The lines of one document, refused before they fill the memory."""
    size = 0
    for number, line in lines_of(path, bad, LONGEST_TEXT):
        size += len(line)
        if size > LONGEST_TEXT:
            raise DataError(
                f"a document has more than {LONGEST_TEXT:,} characters",
                source=f"{path}:{number}",
                hint="a txt file is one document: split it, or give jsonl with a document on each line",
            )
        yield line


def _read_jsonl(path: Path, columns: Sequence[str], parse: Parse[T], bad: BadRows) -> Iterator[T]:
    for number, line in lines_of(path, bad):
        if line.strip():
            with bad.row():
                yield from parse(_object(line.rstrip("\n"), f"{path}:{number}"), columns, f"{path}:{number}")


def _object(line: str, place: str) -> Mapping[str, object]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise DataError(f"a line is no JSON: {error}", source=place) from error
    if not isinstance(row, dict):
        raise DataError(f"a line is no JSON object but {type(row).__name__}", source=place)
    return row


def _read_csv(path: Path, columns: Sequence[str], parse: Parse[T], bad: BadRows) -> Iterator[T]:
    limit = csv.field_size_limit(LONGEST_LINE_BYTES)  # a field may be a book
    try:
        rows = _fields(path, bad)
        _, header = next(rows, ("", []))
        for place, row in rows:
            with bad.row():
                if len(row) != len(header):
                    raise DataError(
                        f"a row has {len(row)} fields, the header {len(header)}",
                        source=place,
                        hint="a field that holds a comma must stand in quotes",
                    )
                yield from parse(dict(zip(header, row, strict=True)), columns, place)
    finally:
        csv.field_size_limit(limit)


def _fields(path: Path, bad: BadRows) -> Iterator[tuple[str, list[str]]]:
    """The rows of a table that are not empty, each with its place."""
    lines = (part for _, line in lines_of(path, bad) for part in io.StringIO(line, newline=""))
    rows = csv.reader(lines, strict=True)
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
    values = {column: _value(row, column, place) for column in columns}
    if values[columns[0]].strip():
        yield Row(values, place)


def _record(row: Mapping[str, object], columns: Sequence[str], place: str) -> Iterator[Record]:
    record = Record(row, place)
    record.require(*columns)
    yield record


def _require(row: Mapping[str, object], column: str, place: str) -> None:
    if column not in row:
        raise DataError(f"a row has no `{column}`", source=place, hint=did_you_mean(column, row))


def _value(row: Mapping[str, object], column: str, place: str) -> str:
    _require(row, column, place)
    return whole_text(row[column], column, place)


def whole_text(value: object, column: str, place: str) -> str:
    """A value that must be a text.

    Raises:
        DataError: It is none, or holds what no encoding can write.
    """
    if not isinstance(value, str):
        raise DataError(f"`{column}` must be a text, got {type(value).__name__}", source=place)
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"`{column}` holds half a character: {value[error.start]!r}", source=place) from error
    return value


def require_text(value: object, column: str, place: str) -> str:
    """A value that must be a text with something in it.

    Raises:
        DataError: It is none, or is empty.
    """
    text = whole_text(value, column, place)
    if not text.strip():
        raise DataError(
            f"`{column}` is empty",
            source=place,
            hint="give it a text, or leave such rows out: data.on_bad_row: skip",
        )
    return text


class Ids:
    """The ids of a source's rows, each of which only one row may have."""

    def __init__(self) -> None:
        self._places: dict[str, str] = {}

    def add(self, value: object, column: str, place: str) -> None:
        """Counts a row's id.

        Raises:
            DataError: An earlier row has it, too.
        """
        if (first := self._places.setdefault(str(value), place)) is not place:
            raise DataError(
                f"`{column}` is `{value}` a second time, the first is {first}",
                source=place,
                hint="give each row an id of its own, or leave such rows out: data.on_bad_row: skip",
            )


def _read_hub(
    source: str, columns: Sequence[str], parse: Parse[T], bad: BadRows, *, is_streamed: bool
) -> Iterator[T]:
    import datasets  # takes seconds to import, and local files do without

    whole, _, split = source.partition(":")
    name, _, configuration = whole.partition("#")
    name, _, revision = name.partition("@")
    chosen = {"name": configuration, "revision": revision, "streaming": is_streamed}
    given = {key: value for key, value in chosen.items() if value}
    try:
        rows = datasets.load_dataset(name, split=split or "train", **given)
    except Exception as error:  # datasets raises many kinds for what is not to be had
        raise _not_had(source, error) from error
    _note_commit(source, rows)
    features = getattr(rows, "features", None) or {}
    names = {column: _names(feature) for column, feature in features.items()}
    is_empty, known = True, bad.count
    for number, row in enumerate(_unbroken(rows, source)):
        with bad.row():
            for parsed in parse(_with_names(row, names), columns, f"{source} row {number}"):
                is_empty = False
                yield parsed
    if is_empty:
        raise bad.since(known, source) or DataError(f"the data set `{source}` holds no text")


def _unbroken(rows: Iterable[T], source: str) -> Iterator[T]:
    """The same rows; of a stream that ends too early, which is not to be mistaken for its end, an error."""
    try:
        yield from rows
    except Exception as error:  # of networks and of formats
        raise _not_had(source, error) from error


def _not_had(source: str, error: Exception) -> DataError:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return DataError(f"the data set `{source}` cannot be had: {reason}")


def _names(feature: Any) -> Sequence[str]:
    """The names of a column of labels, or of lists of labels; of any other, none."""
    inner = getattr(feature, "feature", feature)
    return getattr(inner, "names", None) or ()


_COMMITS: dict[str, str] = {}
"""Of what this process has read from the Hub, by source."""


def _note_commit(source: str, rows: object) -> None:
    """Finds in the addresses of a data set's files the commit of which they are."""
    files: Mapping[str, object] = getattr(getattr(rows, "info", None), "download_checksums", None) or {}
    for address in files:
        if found := re.match("hf://datasets/[^@]+@([0-9a-f]{40})/", address):
            _COMMITS[source] = found[1]


def commit_of(source: str) -> str | None:
    """The commit of a data set on the Hub, once it has been read; of a file, None."""
    return _COMMITS.get(source)


def _with_names(row: Mapping[str, object], names: Mapping[str, Sequence[str]]) -> Mapping[str, object]:
    """A row in whose columns of labels names stand for numbers; -1, the Hub's none, stays."""
    return {column: _named(value, names.get(column, ())) for column, value in row.items()}


def _named(value: object, names: Sequence[str]) -> object:
    if names and isinstance(value, list):
        return [_named(item, names) for item in value]
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(names):
        return names[value]
    return value
