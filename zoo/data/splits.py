"""Which files a source means, and which part of it is held out."""

from collections.abc import Sequence
from pathlib import Path

from zoo.errors import DataError

NAMES = {"validation": ("validation", "valid", "val", "dev"), "train": ("train",), "test": ("test",)}
"""How files of a split may begin, beside its own name."""


def files_of(source: str, suffixes: Sequence[str]) -> list[Path] | None:
    """The files of a path, or of a folder's split; None where the source is a data set on the Hub.

    Args:
        source: A path, or `owner/name[@revision][#configuration]`; either may be followed by `:split`.
        suffixes: Of the files of a folder that are read.

    Raises:
        DataError: Nothing is there, or the folder has no such split.
    """
    path = Path(source)
    if path.is_dir():
        return _files_in(path, suffixes)
    if path.is_file():
        return [path]
    folder, _, split = source.rpartition(":")
    if folder and Path(folder).is_dir():
        return _of_split(Path(folder), split, suffixes)
    name = source.partition(":")[0].partition("#")[0].partition("@")[0]
    if path.suffix or name.count("/") != 1 or source.startswith((".", "/", "~")):
        raise DataError(f"no file or folder `{source}`", hint="give a path, or a data set's `owner/name`")
    return None


def _files_in(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    return sorted(
        file for file in folder.rglob("*") if file.is_file() and file.name.endswith(tuple(suffixes))
    )


def _of_split(folder: Path, split: str, suffixes: Sequence[str]) -> list[Path]:
    every = _files_in(folder, suffixes)
    found = [file for file in every if _words(file)[0] in (split, *NAMES.get(split, ()))]
    if not found:
        named = ", ".join(file.name for file in every[:4]) or "none"
        raise DataError(f"the folder {folder} has no split `{split}`", hint=f"its files: {named}")
    return found


def _words(file: Path) -> list[str]:
    """A file's name without its endings, by words: `train-00000-of-00002.jsonl` begins with `train`."""
    return file.name.partition(".")[0].replace("_", "-").split("-")


def halves(source: str, validation: str | None) -> tuple[str, str | None]:
    """The sources to train on and to hold out.

    Args:
        source: Of what is trained on.
        validation: A source of its own, or the name of a split of `source`; None: some is to be held out.

    Returns:
        Both, each with its split where one was named.
    """
    if validation is None or not validation.isidentifier() or Path(validation).exists():
        return source, validation
    whole, split = source, ""
    if not Path(source).exists() and ":" in source:
        whole, _, split = source.rpartition(":")
    return f"{whole}:{split or 'train'}", f"{whole}:{validation}"
