"""Questions with answers to choose from."""

import json
from pathlib import Path
from typing import Any

import pytest

from zoo.data import MultipleChoice, NumberChoice
from zoo.errors import DataError

PETS = {"question": "who barks", "choices": ["cat", "dog", "sun"]}


def written(path: Path, *rows: dict[str, Any]) -> str:
    path.write_text("\n".join(map(json.dumps, rows)))
    return str(path)


@pytest.mark.parametrize("answer", [1, "1", "B", "b", "dog"])
def test_the_right_answer_is_a_number_a_letter_or_itself(tmp_path: Path, answer: Any) -> None:
    source = written(tmp_path / "a.jsonl", {**PETS, "answer": answer})
    (example,) = MultipleChoice(source).read_source(source)
    assert (example.choices, example.right) == (("cat", "dog", "sun"), 1)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({**PETS, "answer": "D"}, "`answer` is `D`, which is none of the 3 answers"),
        ({**PETS, "answer": "cow"}, "`answer` is `cow`, which is none of the 3 answers"),
        ({**PETS, "choices": ["dog"], "answer": 0}, "`choices` must be a list of at least two, got ['dog']"),
        (PETS, "a row has no `answer`"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    source = written(tmp_path / "a.jsonl", {**PETS, "answer": 0}, row)
    with pytest.raises(DataError) as caught:
        MultipleChoice(source).read_source(source)
    assert (caught.value.message, caught.value.source) == (message, f"{source}:2")


def test_the_right_number_stands_among_four(tmp_path: Path) -> None:
    rows = [
        {"question": "two cats and 3 dogs", "answer": "2+3=<<2+3=5>>5 pets\n#### 5"},
        {"question": "how much", "answer": "#### 1,250"},
        {"question": "half", "answer": "1/2 is .5\n#### 0.5"},
        {"question": "below", "answer": "2-5=-3\n#### -3"},
    ]
    source = written(tmp_path / "a.jsonl", *rows)
    data = NumberChoice(source)
    found = data.read_source(source)
    for example, right in zip(found, ["5", "1250", "0.5", "-3"], strict=True):
        assert example.choices[example.right] == right
        assert len(set(example.choices)) == 4
    assert {"2", "3"} < set(found[0].choices)
    assert found == data.read_source(source)


def test_a_solution_without_a_number_is_refused(tmp_path: Path) -> None:
    source = written(tmp_path / "a.jsonl", {"question": "how", "answer": "by hand"})
    with pytest.raises(DataError) as caught:
        NumberChoice(source).read_source(source)
    assert str(caught.value) == f"`answer` ends in no number\n  in    {source}:1\n  it ends: #### 72"


def test_every_problem_of_gsm8k_has_four_numbers(shared: Path) -> None:
    source = f"{shared / 'data' / 'gsm8k'}:test"
    found = NumberChoice(source).read_source(source)
    assert len(found) == 659
    assert all(len(set(example.choices)) == 4 for example in found)
    places = [example.right for example in found]
    assert max(map(places.count, range(4))) < 0.32 * len(places)  # none is preferred
