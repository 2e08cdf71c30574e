"""Texts from files, and errors with file and line."""

import csv
import gzip
import io
import json
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.data import Text
from zoo.data.reading import Document, commit_of, read
from zoo.errors import DataError, SpecError


def texts(source: Path, column: str = "text") -> list[str]:
    return [document.text for document in read(str(source), column)]


def refusal(source: Path | str, column: str = "text") -> str:
    with pytest.raises(DataError) as caught:
        read(str(source), column)
    return str(caught.value)


@pytest.mark.parametrize("name", ["a.txt", "a.text", "a.md", "a.py", "no-suffix"])
def test_a_text_file_is_one_document(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes("one\r\n\n  two ü 🦙\n".encode())
    assert list(read(str(path), "text")) == [Document("one\r\n\n  two ü 🦙\n", str(path))]


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.json.gz"])
def test_each_line_of_jsonl_is_a_document_with_its_place(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    raw = b'{"text": "one", "more": 1}\n\n{"text": " "}\r\n{"text": "two\\nlines"}'
    path.write_bytes(gzip.compress(raw, mtime=0) if name.endswith(".gz") else raw)
    assert list(read(str(path), "text")) == [
        Document("one", f"{path}:1"),
        Document("two\nlines", f"{path}:4"),
    ]


def test_a_text_file_may_be_packed(tmp_path: Path) -> None:
    path = tmp_path / "a.txt.gz"
    path.write_bytes(gzip.compress(b"packed", mtime=0))
    assert texts(path) == ["packed"]


def test_the_column_can_be_chosen(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "no", "content": "yes"}')
    (tmp_path / "a.csv").write_text("id,content\n1,yes\n")
    assert texts(tmp_path / "a.jsonl", "content") == ["yes"]
    assert texts(tmp_path / "a.csv", "content") == ["yes"]


def test_csv_keeps_quotes_commas_and_newlines(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b'id,text\r\n1,"a ""b"", c\nd"\r\n\r\n2,plain\r\n3,\r\n')
    assert list(read(str(path), "text")) == [
        Document('a "b", c\nd', f"{path}:3"),
        Document("plain", f"{path}:5"),
    ]


def test_a_field_of_a_csv_may_be_a_book(tmp_path: Path) -> None:
    limit = csv.field_size_limit()
    (tmp_path / "a.csv").write_text("text\n" + "x" * 200_000 + "\n")
    assert [len(text) for text in texts(tmp_path / "a.csv")] == [200_000]
    assert csv.field_size_limit() == limit


any_text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30).filter(str.strip)


@settings(deadline=None, max_examples=80, derandomize=True)
@given(expected=st.lists(any_text, min_size=1, max_size=5), ascii_only=st.booleans())
def test_any_text_comes_back_from_jsonl_and_csv(
    tmp_path_factory: pytest.TempPathFactory, expected: list[str], ascii_only: bool
) -> None:
    folder = tmp_path_factory.mktemp("any")
    lines = (json.dumps({"text": text}, ensure_ascii=ascii_only) for text in expected)
    (folder / "a.jsonl").write_bytes("\n".join(lines).encode())
    assert texts(folder / "a.jsonl") == expected
    buffer = io.StringIO(newline="")
    csv.writer(buffer, quoting=csv.QUOTE_ALL).writerows([["text"], *([text] for text in expected)])
    (folder / "a.csv").write_bytes(buffer.getvalue().encode())
    assert texts(folder / "a.csv") == expected


def test_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    for name, raw in {"a.txt": "one", "a.jsonl": '{"text": "one"}', "a.csv": "text\none\n"}.items():
        (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + raw.encode())
        assert texts(tmp_path / name) == ["one"]


def test_a_folder_is_read_file_by_file_in_order_of_names(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    for name, raw in {
        "c.txt": "3",
        "b/x.jsonl": '{"text": "1"}\n{"text": "2"}',
        "a.csv": "text\n0\n",
        "empty.txt": " \n",
        "picture.png": "no text",
    }.items():
        (tmp_path / name).write_text(raw)
    assert texts(tmp_path) == ["0", "1", "2", "3"]


# Refusals


@pytest.mark.parametrize(
    ("name", "raw", "line", "message"),
    [
        (
            "a.jsonl",
            b'{"text": "a"}\n{"text": \n',
            2,
            "a line is no JSON: Expecting value: line 1 column 10 (char 9)",
        ),
        ("a.jsonl", b'\n\n{"text": "a"} x', 3, "a line is no JSON: Extra data: line 1 column 15 (char 14)"),
        ("a.jsonl", b'{"text": "a"}\n["b"]', 2, "a line is no JSON object but list"),
        ("a.jsonl", b'"a"', 1, "a line is no JSON object but str"),
        ("a.jsonl", b'{"text": 5}', 1, "`text` must be a text, got int"),
        ("a.jsonl", b'{"text": "a"}\n{"text": null}', 2, "`text` must be a text, got NoneType"),
        ("a.jsonl", b'{"text": "a\\ud800"}', 1, "`text` holds half a character: '\\ud800'"),
        ("a.csv", b"id,text\n1,a\n2,b,c\n", 3, "a row has 3 fields, the header 2"),
        ("a.csv", b"id,text\n1\n", 2, "a row has 1 fields, the header 2"),
        ("a.csv", b'id,text\n1,"a\n', 2, "a row is no CSV: unexpected end of data"),
        ("a.csv", b'id,text\n1,"a"b\n', 2, "a row is no CSV: ',' expected after '\"'"),
    ],
)
def test_a_row_that_cannot_be_read_is_named_by_file_and_line(
    name: str, raw: bytes, line: int, message: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(raw)
    hint = "\n  a field that holds a comma must stand in quotes" if "fields" in message else ""
    assert refusal(path) == f"{message}\n  in    {path}:{line}{hint}"
    assert refusal(tmp_path) == refusal(path)


@pytest.mark.parametrize(
    ("name", "raw"), [("a.jsonl", '{"text": "a"}\n{"Tekst": "b"}'), ("a.csv", "Tekst\nb\n")]
)
def test_a_missing_column_names_the_nearest(name: str, raw: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(raw)
    assert refusal(path) == f"a row has no `text`\n  in    {path}:2\n  did you mean `Tekst`?"
    assert refusal(path, "zzz").endswith("  known: Tekst" if name == "a.csv" else "  known: text")


@pytest.mark.parametrize(
    ("name", "raw"),
    [
        ("a.txt", b""),
        ("a.txt", b" \n\t\n"),
        ("a.jsonl", b""),
        ("a.jsonl", b"\n \n"),
        ("a.jsonl", b'{"text": " "}\n'),
        ("a.csv", b""),
        ("a.csv", b"text\n"),
        ("a.jsonl.gz", gzip.compress(b"", mtime=0)),
    ],
)
def test_a_file_without_text_is_refused(name: str, raw: bytes, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(raw)
    assert refusal(path) == f"{path} is empty"


def test_a_folder_without_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    (tmp_path / "empty.txt").write_text("")
    assert refusal(tmp_path) == (
        f"the folder {tmp_path} holds no text\n"
        "  read are: .txt, .txt.gz, .text, .md, .py, .jsonl, .jsonl.gz, .json.gz, .csv"
    )


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_a_file_in_another_encoding_is_named_with_the_line(mark: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(mark + b"one\ntwo\nM\xfcller\n")
    assert refusal(path) == f"{path} is not UTF-8: byte {len(mark) + 9}\n  in    {path}:3\n  save it as UTF-8"


@pytest.mark.parametrize(
    "raw",
    [
        b"no gzip at all",
        gzip.compress(b'{"text": "a"}' * 50, mtime=0)[:-9],
        gzip.compress(b'{"text": "a"}' * 50, mtime=0)[:12] + b"\xff" * 40,
        gzip.compress(b"x", mtime=0)[:-8] + b"\0" * 8,
    ],
)
def test_a_broken_archive_is_refused(raw: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(raw)
    message = refusal(path)
    assert message.startswith(f"{path} cannot be read: ")
    assert "\n" not in message


@pytest.mark.parametrize(
    "source", ["gone.txt", "./gone/file", "/gone/file", "a/b/c", "gone", "some/file.jsonl", "~/x"]
)
def test_a_source_that_is_nowhere_is_refused(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert refusal(source) == f"no file or folder `{source}`\n  give a path, or a data set's `owner/name`"


# Data sets on the Hub


@pytest.fixture
def fake_hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """`datasets` without a network: rows, or an error to be raised; and what was asked for."""
    hub: dict[str, Any] = {"rows": [], "error": None, "asked": []}

    def load_dataset(name: str, split: str) -> list[dict[str, Any]]:
        hub["asked"].append((name, split))
        if hub["error"] is not None:
            raise hub["error"]
        return hub["rows"]  # type: ignore[no-any-return]

    fake = types.ModuleType("datasets")
    fake.load_dataset = load_dataset  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasets", fake)
    return hub


def test_rows_of_a_data_set_are_documents(
    fake_hub: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    fake_hub["rows"] = [{"text": "one"}, {"text": " "}, {"text": "two"}]
    assert list(read("owner/name", "text")) == [
        Document("one", "owner/name row 0"),
        Document("two", "owner/name row 2"),
    ]
    read("owner/name:validation", "text")
    assert fake_hub["asked"] == [("owner/name", "train"), ("owner/name", "validation")]


class Rows(list[dict[str, Any]]):
    """As `datasets` gives them, with the addresses of the files that they were read from."""

    def __init__(self, *addresses: str) -> None:
        super().__init__([{"text": "one"}])
        self.info = types.SimpleNamespace(download_checksums=dict.fromkeys(addresses))


def test_the_commit_of_a_data_set_is_known_once_it_has_been_read(
    fake_hub: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    commit = "0123456789abcdef" * 2 + "01234567"
    assert commit_of("owner/told:test") is None
    fake_hub["rows"] = Rows(f"hf://datasets/owner/told@{commit}/data/test.parquet")
    read("owner/told:test", "text")
    assert commit_of("owner/told:test") == commit
    fake_hub["rows"] = Rows("https://example.org/data.zip")
    read("owner/other", "text")
    assert commit_of("owner/other") is None


def test_what_the_hub_cannot_give_is_one_clear_sentence(
    fake_hub: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    fake_hub["error"] = ConnectionError("no network\nmany more lines")
    assert refusal("owner/name") == "the data set `owner/name` cannot be had: no network"
    fake_hub["error"] = ConnectionError()
    assert refusal("owner/name") == "the data set `owner/name` cannot be had: ConnectionError"
    fake_hub["error"], fake_hub["rows"] = None, [{"sentence": "one"}]
    assert refusal("owner/name") == ("a row has no `text`\n  in    owner/name row 0\n  known: sentence")
    fake_hub["rows"] = []
    assert refusal("owner/name") == "the data set `owner/name` holds no text"


@pytest.fixture
def partly_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`owner/large` in the Hub's layout, of two files, the second of which would break whoever fetches it."""
    (folder := tmp_path / "hub" / "owner" / "large" / "data").mkdir(parents=True)
    rows = datasets.Dataset.from_dict({"text": [f"text {number}" for number in range(50)]})
    rows.to_parquet(folder / "train-00000-of-00002.parquet")
    (folder / "train-00001-of-00002.parquet").write_text("nothing that can be read")
    there = datasets.load_dataset
    monkeypatch.setattr(
        datasets, "load_dataset", lambda name, **given: there(str(tmp_path / "hub" / name), **given)
    )
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("partly_there")
def test_of_a_large_data_set_only_what_is_asked_for_is_fetched() -> None:
    documents = read("owner/large", "text", first_rows=20)
    assert [document.text for document in documents] == [f"text {number}" for number in range(20)]
    assert documents[3].place == "owner/large row 3"
    assert refusal("owner/large").startswith("the data set `owner/large` cannot be had: ")


@pytest.mark.usefixtures("partly_there")
def test_a_stream_that_breaks_off_is_no_end() -> None:
    with pytest.raises(DataError, match=r"^the data set `owner/large` cannot be had: "):
        read("owner/large", "text", first_rows=60)


@pytest.mark.usefixtures("partly_there")
def test_a_run_on_a_stream_goes_on_where_it_was() -> None:
    def batches() -> tuple[Text, Iterator[Any]]:
        data = Text("owner/large", vocab_size=300, sequence_length=8, batch_size=2, first_rows=40)
        data.setup("fit")
        return data, iter(data.train_dataloader())

    data, whole = batches()
    next(whole)
    assert len(data.documents()[0]) + len(data.documents()[1]) == 40
    state, expected = data.state_dict(), next(whole)
    data, _ = batches()
    data.load_state_dict(state)
    found = next(iter(data.train_dataloader()))
    assert found["input_ids"].tolist() == expected["input_ids"].tolist()


def test_only_so_many_rows_of_a_file_are_read(tmp_path: Path) -> None:
    (path := tmp_path / "a.jsonl").write_text("".join(f'{{"text": "{number}"}}\n' for number in range(9)))
    assert [document.text for document in read(str(path), "text", first_rows=2)] == ["0", "1"]
    with pytest.raises(SpecError, match="`first_rows` must be at least 1, got 0"):
        Text(str(path), first_rows=0)
