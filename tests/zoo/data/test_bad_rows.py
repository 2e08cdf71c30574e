"""Rows that cannot be used are left out where that is asked for, and counted."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from zoo.data import Text, TextClassification, TextPairs
from zoo.data.bad_rows import BadRows
from zoo.data.loading import HeldOut, Loader, RandomOrder
from zoo.data.reading import read
from zoo.errors import DataError, SpecError
from zoo.layers import IGNORED


def left(path: Path) -> tuple[list[str], BadRows]:
    bad = BadRows("skip")
    return [document.text for document in read(str(path), "text", bad)], bad


@pytest.mark.parametrize(
    ("name", "raw", "texts", "shown"),
    [
        (
            "a.jsonl",
            b'{"text": "one"}\n{"text": \n["b"]\n{"text": 5}\n{"tekst": "b"}\n{"text": "two"}',
            ["one", "two"],
            [
                "{}:2: a line is no JSON: Expecting value: line 1 column 10 (char 9)",
                "{}:3: a line is no JSON object but list",
                "{}:4: `text` must be a text, got int",
            ],
        ),
        (
            "b.jsonl",
            b'{"text": "one"}\n{"text": "M\xfcller"}\n{"text": "two", "by": "M\xfcller"}',
            ["one", "two"],
            ["{}:2: `text` holds half a character: '\\udcfc'"],
        ),
        (
            "a.csv",
            b'id,text\n1,one\n2,b,c\n3,"b"c\n4,two\n',
            ["one", "two"],
            [
                "{}:3: a row has 3 fields, the header 2",
                "{}:4: a row is no CSV: ',' expected after '\"'",
            ],
        ),
    ],
)
def test_bad_rows_of_a_file_are_left_out_and_counted(
    name: str, raw: bytes, texts: list[str], shown: list[str], tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(raw)
    found, bad = left(path)
    assert (found, bad.shown) == (texts, [line.format(path) for line in shown])
    assert bad.count == (4 if name == "a.jsonl" else len(shown))


def test_of_a_folder_a_text_in_another_encoding_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"M\xfcller")
    (tmp_path / "b.txt").write_bytes(b"one")
    found, bad = left(tmp_path)
    assert (found, bad.count) == (["one"], 1)
    assert bad.shown == [f"{tmp_path / 'a.txt'}: `text` holds half a character: '\\udcfc'"]


def test_a_quote_that_nothing_closes_is_no_single_row(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('id,text\n1,one\n2,"two\n3,three\n4,four\n')
    with pytest.raises(DataError) as caught:
        left(path)
    assert str(caught.value) == f"a row is no CSV: unexpected end of data\n  in    {path}:5"


def test_where_all_rows_are_bad_that_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"tekst": "a"}\n' * 5)
    with pytest.raises(DataError) as caught:
        left(path)
    assert str(caught.value) == f"all rows of `{path}` are bad\n" + "\n".join(
        f"  {path}:{number}: a row has no `text`" for number in (1, 2, 3)
    )


def test_another_way_is_refused() -> None:
    with pytest.raises(SpecError) as caught:
        Text("texts", on_bad_row="ignore")  # type: ignore[arg-type]
    assert str(caught.value) == "`on_bad_row` must be one of error, skip, got `ignore`\n  at    on_bad_row"


def test_examples_without_a_label_and_with_none_of_the_heads_are_left_out(tmp_path: Path) -> None:
    rows = [{"text": f"text {number}", "label": ["a", "b"][number % 2]} for number in range(40)]
    wrong = [{"text": "no label", "label": ""}, {"text": "number", "label": 0.5}]
    source = tmp_path / "rows.jsonl"
    source.write_text("\n".join(map(json.dumps, [*rows, *wrong])))
    data = TextClassification(str(source), on_bad_row="skip", vocab_size=64)
    data.setup("fit")
    assert (data.labels, data.bad_rows.count) == (["a", "b"], 2)
    assert sum(map(len, data.examples())) == 40
    data.labels = ["a", "c"]
    assert {example.label for example in data._labelled(data.examples()[0])} == {"a"}


def test_pairs_without_one_side_are_left_out(tmp_path: Path) -> None:
    rows = [{"input": f"text {number}", "target": f"{number}"} for number in range(40)]
    source = tmp_path / "rows.jsonl"
    source.write_text("\n".join(map(json.dumps, [*rows, {"input": "alone"}])))
    data = TextPairs(str(source), on_bad_row="skip")
    assert (sum(map(len, data.examples())), data.bad_rows.count) == (40, 1)


# Met while batches are made


class Rows:
    """Rows that are their own numbers; some cannot be read, of some no batch can be made."""

    def __init__(self, unreadable: set[int], unfit: set[int] = frozenset()) -> None:  # type: ignore[assignment]
        self.unreadable, self.unfit = unreadable, unfit

    def __len__(self) -> int:
        return 24

    def __getitem__(self, index: int) -> dict[str, Any]:
        if index in self.unreadable:
            raise KeyError("text")
        return {"ids": torch.tensor([index]), "noise": torch.rand(()), "unfit": index in self.unfit}


def collate(items: list[dict[str, Any]]) -> dict[str, Tensor]:
    if any(item["unfit"] for item in items):
        raise ValueError("it does not fit")
    ids = torch.stack([item["ids"] for item in items])
    noise = torch.stack([item["noise"] for item in items])
    return {"input_ids": ids, "labels": ids, "num_bytes": torch.tensor(len(items)), "noise": noise}


def taken(loader: Any) -> list[tuple[list[int], list[int], list[float], int]]:
    return [
        (
            batch["input_ids"].flatten().tolist(),
            batch["labels"].flatten().tolist(),
            batch["noise"].tolist(),
            int(batch["num_bytes"]),
        )
        for batch in loader
    ]


def loader_of(rows: Rows, size: int, workers: int = 0) -> Loader:
    return Loader(rows, RandomOrder(24, size, 0), collate, 0, workers, BadRows("skip"))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_batch_is_made_of_the_rows_that_are_not_bad(workers: int) -> None:
    whole, loader = loader_of(Rows(set()), 4), loader_of(Rows({3, 7}, {11}), 4, workers)
    for _ in range(2):
        expected = [[row for row in ids if row not in (3, 7, 11)] for ids, *_ in taken(whole)]
        found = taken(loader)
        assert [ids for ids, *_ in found] == [labels for _, labels, *_ in found] == expected
        assert loader.bad.met == {"row 3", "row 7", "row 11"}
    assert sorted(loader.bad.shown) == [
        "row 3 cannot be read: KeyError: 'text'",
        "row 7 cannot be read: KeyError: 'text'",
        "the rows 11 make no batch: ValueError: it does not fit",
    ]


def test_workers_and_restarts_change_nothing() -> None:
    rows = Rows({3, 7, 8}, {11})
    expected = taken(loader_of(rows, 4))
    assert taken(loader_of(rows, 4, workers=2)) == expected
    left, resumed = loader_of(rows, 4), loader_of(rows, 4, workers=2)
    batches = iter(left)
    next(batches), next(batches)
    resumed.load_state_dict(left.state_dict())
    assert taken(resumed) == expected[2:]


@pytest.mark.parametrize(
    "make", [loader_of, lambda rows, size: HeldOut(rows, size, collate, 0, bad=BadRows("skip"))]
)
def test_a_batch_of_bad_rows_alone_has_a_stand_in_that_teaches_nothing(
    make: Callable[[Rows, int], Any],
) -> None:
    loader = make(Rows({3, 4}), 1)
    found = taken(loader)
    assert len(found) == 24
    standing_in = [(ids, labels, num_bytes) for ids, labels, _, num_bytes in found if labels == [IGNORED]]
    assert standing_in == [([5], [IGNORED], 0)] * 2
    assert loader.bad.count == 2


def test_without_any_row_there_is_no_stand_in() -> None:
    with pytest.raises(DataError, match=r"^row \d+ cannot be read: KeyError: 'text'$"):
        taken(loader_of(Rows(set(range(24))), 2))


def test_rows_that_make_no_batch_only_together_are_an_error() -> None:
    def together(items: list[dict[str, Any]]) -> dict[str, Tensor]:
        if len(items) > 1:
            raise ValueError("too many")
        return collate(items)

    loader = Loader(Rows(set()), RandomOrder(24, 2, 0), together, 0, 0, BadRows("skip"))
    with pytest.raises(DataError, match=r"^the rows \d+, \d+ make no batch: ValueError: too many$"):
        taken(loader)


# Told


def test_a_run_tells_what_it_left_out_and_logs_it(command: Any, workplace: Path) -> None:
    lines = [json.dumps({"text": text}) for text in (workplace / "text.txt").read_text().splitlines()]
    lines[7:7] = ["{", "[]", '{"text": 5}', "{}"]
    (workplace / "rows.jsonl").write_text("\n".join(lines))
    flags = ("--config", "recipe.yaml", "--data.source", "rows.jsonl")
    refused = command("fit", *flags)
    assert refused.code == 2
    assert refused.err.startswith("zoo: a line is no JSON: Expecting property name")
    logger = ("--trainer.logger", "lightning.pytorch.loggers.CSVLogger", "--trainer.logger.save_dir", "logs")
    done = command("fit", *flags, "--data.on_bad_row", "skip", *logger)
    assert done.code == 0, done.err
    fault = "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"
    told = (
        "zoo: 4 bad rows left out\n"
        f"  rows.jsonl:8: a line is no JSON: {fault}\n"
        "  rows.jsonl:9: a line is no JSON object but list\n"
        "  rows.jsonl:10: `text` must be a text, got int\n"
        "  and 1 more\n"
    )
    assert done.err == told
    (figures,) = (workplace / "logs").rglob("metrics.csv")
    header, *rows = (line.split(",") for line in figures.read_text().splitlines())
    assert {row[header.index("skipped_rows")] for row in rows} - {""} == {"4"}
    (checkpoint,) = workplace.rglob("last.ckpt")
    again = ("--ckpt_path", str(checkpoint), "--data.on_bad_row", "skip")
    assert command("validate", *flags, *again).err == told
