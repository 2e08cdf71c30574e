"""The standard library's sources, by a small stand-in."""

from pathlib import Path

import pytest

from zoo.data import StandardLibrary, StandardLibraryFunctions, StandardLibraryLines
from zoo.errors import DataError

LEFT_OUT = (
    "test/test_os.py",
    "json/tests/test_json.py",
    "idlelib/idle_test/test_x.py",
    "site-packages/numpy/core.py",
    "dist-packages/apt.py",
    "__pycache__/os.py",
    "ensurepip/x.py",
)


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "site-packages" / "python3"  # names above the library say nothing
    for index in range(60):
        path = folder / f"package{index % 5}" / f"module{index}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'"""Module {index}."""\n\n\ndef function_{index}():\n    return {index}\n')
    for name in LEFT_OUT:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"left_out = {name!r}\n")
    (folder / "test.py").write_text("# a module, no folder of tests\n")
    (folder / "notes.txt").write_text("no code")
    (folder / "empty.py").write_text("\n")
    (folder / "latin.py").write_bytes(b"# -*- coding: latin-1 -*-\nx = '\xfc'\n")
    for index in range(3):
        (folder / f"copy{index}.py").write_text("copies = 'of one file'\n")
    monkeypatch.setattr("sysconfig.get_path", lambda name: {"stdlib": str(folder)}[name])
    return folder


def test_sources_are_read_without_tests_and_copies(library: Path) -> None:
    training, held_out = StandardLibrary(validation_fraction=0.3).documents()
    places = sorted(
        Path(document.place).relative_to(library).as_posix() for document in [*training, *held_out]
    )
    modules = [f"package{index % 5}/module{index}.py" for index in range(60)]
    assert places == sorted([*modules, "test.py", "copy0.py"])
    assert not {document.text for document in training} & {document.text for document in held_out}
    assert 8 <= len(held_out) <= 30


def test_the_split_is_always_the_same(library: Path) -> None:
    first, second = (StandardLibrary(validation_fraction=0.3).documents() for _ in range(2))
    assert [list(part) for part in first] == [list(part) for part in second]


def test_rows_are_made_of_it(library: Path) -> None:
    data = StandardLibrary(validation_fraction=0.3, vocab_size=300, sequence_length=32, batch_size=2)
    data.setup("fit")
    expected = sum(len(document.text.encode()) for document in data.documents()[1])
    assert sum(int(batch["num_bytes"].sum()) for batch in data.val_dataloader()) == expected
    assert next(iter(data.train_dataloader()))["input_ids"].shape == (2, 32)


def test_a_python_without_its_sources_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path))
    with pytest.raises(DataError) as caught:
        StandardLibrary().documents()
    assert str(caught.value) == f"{tmp_path} holds no sources of the standard library"


def test_functions_stand_on_the_side_of_the_split_on_which_their_file_stands(library: Path) -> None:
    whole, functions = StandardLibrary(validation_fraction=0.3), StandardLibraryFunctions(0.3)
    for documents, examples in zip(whole.documents(), functions.examples(), strict=True):
        places = {document.place for document in documents if "/package" in document.place}
        assert {example.place.rpartition(":")[0] for example in examples} == places
    assert set(functions.found_labels()) == {f"package{index}" for index in range(5)}


def test_a_package_of_few_files_is_left_out(library: Path) -> None:
    for index in range(3):
        path = library / "small" / f"module{index}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"def small_{index}():\n    pass\n" * 9)
    assert "small" not in StandardLibraryFunctions().found_labels()


def test_a_function_is_its_own_lines_without_those_around_it(library: Path) -> None:
    own = "async def f(x):\n        '''\n  low'''\n        \f\n        return 1"
    text = f"class A:\n    @staticmethod\n    {own}\n\n    y = 2\n"
    for index in range(4):
        path = library / "indented" / f"module{index}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text + f"z = {index}\n")
    found = [example for part in StandardLibraryFunctions().examples() for example in part]
    (function,) = {example.text for example in found if example.label == "indented"}
    assert function == own


def test_a_function_that_stands_on_both_sides_is_not_asked_about(library: Path) -> None:
    for path in sorted(library.glob("package*/*.py")):
        path.write_text(path.read_text() + "\n\ndef close(self):\n    return self\n")
    training, held_out = StandardLibraryFunctions(validation_fraction=0.3).examples()
    assert "close" in {example.text[4:9] for example in training}
    assert held_out
    assert not {example.text for example in training} & {example.text for example in held_out}


def test_the_packages_with_the_most_functions_are_told_apart(library: Path) -> None:
    for number in range(25):  # package 24 has most
        for index in range(4):
            path = library / f"many{number:02}" / f"module{index}.py"
            path.parent.mkdir(exist_ok=True)
            name = f"f_{number}_{index}"
            path.write_text("".join(f"def {name}_{turn}(): pass\n" for turn in range(30 + number)))
    assert StandardLibraryFunctions().found_labels() == [f"many{number:02}" for number in range(5, 25)]


def test_the_real_library_has_at_most_twenty_packages_and_no_test_among_them() -> None:
    data = StandardLibraryFunctions()
    training, held_out = data.examples()
    labels = data.found_labels()
    assert 10 <= len(labels) <= 20
    assert not {"test", "tests", "site-packages"} & set(labels)
    assert not {example.text for example in training} & {example.text for example in held_out}
    files = [{example.place.rpartition(":")[0] for example in part} for part in (training, held_out)]
    assert not files[0] & files[1]


def test_lines_are_read_without_their_spaces(library: Path) -> None:
    for index, path in enumerate(sorted(library.glob("package*/*.py"))):
        text = f"    x{index} = {index} + 1  # in\tits own words\nshort\n{'a b ' * 20}\nü = 1\nimport os\n"
        path.write_text(path.read_text() + text)
    training, held_out = StandardLibraryLines(validation_fraction=0.3).examples()
    pairs = training + held_out
    assert ("x7=7+1#in\titsownwords", "x7 = 7 + 1  # in\tits own words") in pairs
    for pair in pairs:
        assert pair.input == pair.target.replace(" ", "") != pair.target == pair.target.strip()
        assert len(pair.target) <= 64
        assert pair.target.isascii()
    assert len({pair.target for pair in pairs}) == len(pairs)
    assert not {pair.input for pair in training} & {pair.input for pair in held_out}
    assert ("importos", "import os") in training  # it stands on both sides
    assert StandardLibraryLines(validation_fraction=0.3).examples() == (training, held_out)


def test_as_many_lines_are_held_out_as_are_asked_for_at_most(library: Path) -> None:
    whole = StandardLibraryLines(validation_fraction=0.3).examples()[1]
    some = StandardLibraryLines(validation_fraction=0.3, max_held_out=4).examples()[1]
    assert len(whole) > len(some) == 4
    assert set(some) <= set(whole)
