"""Questions in SQuAD's formats."""

import json
from pathlib import Path
from typing import Any

import pytest

import zoo
from zoo.data import ExtractiveQA
from zoo.data.extractive_qa import Asked
from zoo.errors import DataError
from zoo.heads.answers import normalized

TEXT = "the cat sat on the mat and the dog ran to a red sun"


def row(**changes: Any) -> dict[str, Any]:
    answers = [{"text": "red sun", "answer_start": TEXT.index("red")}]
    return {"question": "where", "context": TEXT, "answers": answers, **changes}


def data_of(source: Path | str, **choices: Any) -> ExtractiveQA:
    given = {"vocab_size": 200, "max_length": 24, "stride": 8, "batch_size": 3, **choices}
    return ExtractiveQA(str(source), **given)


def test_squads_own_json_and_the_hubs_rows_are_read_alike(tmp_path: Path) -> None:
    nested = {"data": [{"paragraphs": [{"context": TEXT, "qas": [
        {"id": "7", "question": "where", "answers": row()["answers"]},
        {"id": "8", "question": "when", "answers": [], "is_impossible": True},
    ]}]}]}  # fmt: skip
    (tmp_path / "a.json").write_text(json.dumps(nested))
    lists = {"text": ["red sun"], "answer_start": [TEXT.index("red")]}
    rows = [row(answers=lists), row(question="when", answers={"text": [], "answer_start": []})]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for name, places in (("a.json", ["question 7", "question 8"]), ("a.jsonl", ["1", "2"])):
        path = tmp_path / name
        between = " " if name == "a.json" else ":"
        assert data_of(path).read_source(str(path)) == [
            Asked("where", TEXT, [("red sun", TEXT.index("red"))], f"{path}{between}{places[0]}"),
            Asked("when", TEXT, [], f"{path}{between}{places[1]}"),
        ]


def test_labels_are_the_answers_tokens_or_the_first_token(tmp_path: Path) -> None:
    far = " ".join([TEXT, *["cat sat"] * 20])
    rows = []
    for number in range(12):
        context = f"{number} {far}"
        answers = [{"text": "red sun", "answer_start": context.index("red")}]
        rows.append(row(context=context, answers=answers))
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    data = data_of(tmp_path / "a.jsonl", validation_fraction=0.3)
    data.setup("fit")
    for batch in data.val_dataloader():
        found = set()
        for index, (first, last) in enumerate(batch["labels"].tolist()):
            if (first, last) == (0, 0):
                continue
            start, end = batch["offsets"][index, first, 0], batch["offsets"][index, last, 1]
            assert batch["texts"][batch["example"][index]][start:end] == "red sun"
            found.add(int(batch["example"][index]))
        assert found == set(range(len(batch["texts"])))
        assert len(batch["labels"]) > len(batch["texts"])
        assert batch["answers"] == [["red sun"]] * len(batch["texts"])


@pytest.mark.parametrize(
    ("changes", "message", "hint"),
    [
        (
            {"answers": [{"text": "red sun", "answer_start": 3}]},
            "the answer `red sun` does not stand at character 3", f"it stands at {TEXT.index('red')}",
        ),
        (
            {"answers": [{"text": "moon", "answer_start": 3}]},
            "the answer `moon` does not stand at character 3", "it stands nowhere in `context`",
        ),
        ({"answers": [{"text": "cat"}]}, "`answers.answer_start` must be a place, got None", None),
        (
            {"answers": "cat"}, "`answers` must be a list, got str",
            "of {text, answer_start}; it is empty where there is no answer",
        ),
        (
            {"question": " "}, "`question` is empty",
            "give it a text, or leave such rows out: data.on_bad_row: skip",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_its_place(
    tmp_path: Path, changes: dict[str, Any], message: str, hint: str | None
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(row()) + "\n" + json.dumps(row(**changes)))
    with pytest.raises(DataError) as caught:
        data_of(path).read_source(str(path))
    assert (caught.value.message, caught.value.source, caught.value.hint) == (message, f"{path}:2", hint)


def test_an_id_of_two_questions_is_refused(tmp_path: Path) -> None:
    (path := tmp_path / "a.jsonl").write_text("\n".join(json.dumps({**row(), "id": one}) for one in "aba"))
    with pytest.raises(DataError) as caught:
        ExtractiveQA(str(path)).read_source(str(path))
    assert str(caught.value) == (
        f"`id` is `a` a second time, the first is {path}:1\n  in    {path}:3\n"
        "  give each row an id of its own, or leave such rows out: data.on_bad_row: skip"
    )
    assert len(ExtractiveQA(str(path), on_bad_row="skip").read_source(str(path))) == 2


def test_json_that_is_no_squad_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"rows": []}')
    with pytest.raises(DataError) as caught:
        data_of(tmp_path / "a.json").examples()
    assert str(caught.value) == (
        f"{tmp_path / 'a.json'} is no SQuAD: KeyError('data')\n"
        "  it has `data`, of `paragraphs`, of `context` and `qas`"
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["squad_v1", "squad_v2"])
def test_real_answers_are_found_to_the_character(shared: Path, name: str) -> None:
    from zoo.tokenizer import Tokenizer

    folder = shared / "checkpoints" / "all-MiniLM-L6-v2"
    data = data_of(f"{shared / 'data' / name}:dev", max_length=384, stride=128)
    data._tokenizer = Tokenizer.from_folder(folder)
    asked, exact, answered = data.read_source(data.source)[:3000], 0, 0
    for start in range(0, len(asked), 50):
        piece = asked[start : start + 50]
        batch = data.collate(piece)
        told: dict[int, str] = {}
        for index, (first, last) in enumerate(batch["labels"].tolist()):
            if first or last:
                number = int(batch["example"][index])
                begin, end = batch["offsets"][index, first, 0], batch["offsets"][index, last, 1]
                told[number] = piece[number].context[begin:end]
        for number, one in enumerate(piece):
            assert (number in told) == bool(one.answers), one
            if one.answers:
                answered += 1
                assert one.answers[0][0] in told[number]
                exact += normalized(told[number]) == normalized(one.answers[0][0])
    assert exact / answered > 0.985  # the others end amid a token: `19th` of `19th-century` does not


def test_the_head_is_known() -> None:
    assert zoo.heads.ExtractiveQA.task in ExtractiveQA.tasks
