"""Large files take little memory, are read in one way however large they are, and broken ones are named."""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from zoo.data import reading
from zoo.data.bad_rows import BadRows
from zoo.data.on_disk import Chosen, OnDisk
from zoo.data.reading import Document, read
from zoo.data.rows import token_file
from zoo.errors import DataError
from zoo.tokenizer import train

LARGE_BYTES = int(os.environ.get("ZOO_LARGE_BYTES", 200_000_000))
"""Of the generated file; the promise is made for 2 GB."""

BOUND_BYTES = 1_000_000_000
"""Of memory, whatever the size of the file: torch and the tokenizer's counts take most of it."""

PREPROCESS = """
import os, resource, sys, time
from zoo.data import Text
began = time.monotonic()
data = Text(sys.argv[1], vocab_size=2000, sequence_length=256)
data.setup("fit")
rows = data.training_rows
for index in range(0, len(rows), max(len(rows) // 100, 1)):
    rows[index]
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(len(rows), len(rows.tokens), peak, round(time.monotonic() - began))
"""


@pytest.mark.slow
def test_preprocessing_a_large_file_takes_bounded_memory(tmp_path: Path) -> None:
    path = tmp_path / "large.jsonl"
    words = [f"{'extraordinarily' * 3}{number}" for number in range(2000)]
    size, number = 0, 0
    with path.open("w") as file:
        while size < LARGE_BYTES:
            text = " ".join(words[(number * step) % 2000] for step in range(1, 100))
            size += file.write(json.dumps({"text": f"{number} {text}"}) + "\n")
            number += 1
    environment = {**os.environ, "ZOO_CACHE": str(tmp_path / "cache"), "TMPDIR": str(tmp_path)}
    found = [
        subprocess.run(
            [sys.executable, "-c", PREPROCESS, str(path)],
            capture_output=True, text=True, env=environment, check=True,
        ).stdout.split()
        for _ in range(2)
    ]  # fmt: skip
    (num_rows, num_tokens, peak, first), (*again, _, second) = (map(int, line) for line in found)
    print(f"{size / 1e9:.2f} GB, {num_tokens:,} tokens, peak {peak / 1e6:.0f} MB: {first} s, {second} s")
    assert peak < BOUND_BYTES
    assert num_tokens > size / 100
    assert again == [num_rows, num_tokens]  # of what the cache holds
    assert len(list((tmp_path / "cache").glob("tokens-*"))) == 2


def test_items_on_disk_are_a_sequence() -> None:
    items = OnDisk(Document(f"text {number}", f"place {number}") for number in range(5))
    assert len(items) == 5
    assert items[1] == items[-4] == Document("text 1", "place 1")
    assert [item.text for item in items[1:4:2]] == ["text 1", "text 3"]
    assert [item.place for item in items] == [f"place {number}" for number in range(5)]
    with pytest.raises(IndexError):
        items[5]
    some = Chosen(items, [4, 0], lambda document: document.text)
    assert (list(some), len(some), some[-1], some[:1]) == (["text 4", "text 0"], 2, "text 0", ["text 4"])


def test_tokens_do_not_depend_on_how_many_texts_go_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tokenizer = train("bpe", ["a cat and a dog"], 300)
    documents = [Document("a cat " * number, "") for number in range(9)]
    found = []
    for most in (2**22, 10):
        monkeypatch.setattr("zoo.data.rows.CHARACTERS_AT_ONCE", most)
        monkeypatch.setenv("ZOO_CACHE", f"{os.environ['ZOO_CACHE']}/{most}")
        found.append(token_file(documents, tokenizer, 0).read_bytes())
    assert found[0] == found[1]


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit of 100 bytes in place of 64 MiB."""
    limited = reading.lines_of.__defaults__
    assert limited == (2**26,)
    monkeypatch.setattr(reading.lines_of, "__defaults__", (100,))


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.csv"])
def test_a_line_without_an_end_is_named_and_not_held(name: str, tmp_path: Path) -> None:
    rows = ["one", "x" * 1000, "three"]
    raw = "\n".join(["text", *rows] if name == "a.csv" else [json.dumps({"text": row}) for row in rows])
    path = tmp_path / name
    path.write_bytes(gzip.compress(raw.encode()) if name.endswith("gz") else raw.encode())
    line = 3 if name == "a.csv" else 2
    with pytest.raises(DataError) as caught:
        read(str(path), "text")
    assert str(caught.value) == (
        f"a line has more than 100 bytes\n  in    {path}:{line}\n"
        "  give each row a line of its own, cut its text, or leave such rows out: data.on_bad_row: skip"
    )
    bad = BadRows("skip")
    assert [document.text for document in read(str(path), "text", bad)] == ["one", "three"]
    assert bad.shown == [f"{path}:{line}: a line has more than 100 bytes"]


def test_lines_of_a_table_may_end_in_any_way(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b'text,n\rone,1\r\n"two\r\nlines",2\nthree,3')
    assert [document.text for document in read(str(path), "text")] == ["one", "two\r\nlines", "three"]


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz"])
@pytest.mark.parametrize("text", ["four\n" * 20 + "words", "x" * 200], ids=["lines", "one line"])
def test_a_document_without_an_end_is_named_and_not_held(
    name: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (path := tmp_path / name).write_bytes(gzip.compress(text.encode()) if "gz" in name else text.encode())
    assert [document.text for document in read(str(path), "text")] == [text]
    monkeypatch.setattr(reading, "LONGEST_TEXT", 64)
    with pytest.raises(DataError) as caught:
        read(str(path), "text")
    what, line = ("a document", 13) if "\n" in text else ("a line", 1)
    assert caught.value.source == f"{path}:{line}"
    assert caught.value.message.startswith(f"{what} has more than 64 ")
