"""The Python standard library's own sources, as they lie on the user's machine."""

import ast
import sysconfig
from collections import Counter, defaultdict
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Self

from zoo.data.base import TokenizerKind, require_least
from zoo.data.reading import Document
from zoo.data.samples import write_library
from zoo.data.splitting import split
from zoo.data.text import Text
from zoo.data.text_classification import Example, TextClassification
from zoo.data.text_pairs import Pair, TextPairs
from zoo.errors import DataError

_LEFT_OUT = {"site-packages", "dist-packages", "test", "tests", "idle_test", "__pycache__", "ensurepip"}

NUM_PACKAGES, LEAST_FILES = 20, 4


class StandardLibrary(Text):
    """About 12 MB of Python code and English comments, split by file; nothing is downloaded.

    Args:
        validation_fraction: Share of the files that is held out.
        tokenizer: What is trained where the model brings none: byte-level BPE, WordPiece or Unigram.
        vocab_size: Of the tokenizer that is trained.
        sequence_length: Tokens of a row.
        mask_fraction: Share of tokens that a masked language model is asked for.
        batch_size: Rows of a batch.
        seed: Of the order in which rows are drawn.
        num_workers: Processes that make batches.
    """

    def __init__(
        self,
        validation_fraction: float = 0.05,
        tokenizer: TokenizerKind = "bpe",
        vocab_size: int = 8192,
        sequence_length: int = 256,
        mask_fraction: float = 0.15,
        batch_size: int = 16,
        seed: int = 0,
        num_workers: int = 0,
    ) -> None:
        super().__init__(
            source=sysconfig.get_path("stdlib"),
            validation_fraction=validation_fraction,
            tokenizer=tokenizer,
            vocab_size=vocab_size,
            sequence_length=sequence_length,
            mask_fraction=mask_fraction,
            batch_size=batch_size,
            seed=seed,
            num_workers=num_workers,
        )

    @classmethod
    def example(cls, folder: Path) -> Self:
        """A small one, for `zoo.testing`."""
        made = cls(validation_fraction=0.3, vocab_size=300, sequence_length=16, batch_size=4)
        made.source = write_library(folder)
        return made

    def documents(self) -> tuple[Sequence[Document], Sequence[Document]]:
        """The library's files, without its tests."""
        if self._parts is None:
            self._parts = split(_sources(Path(self.source)), self.validation_fraction)
        return self._parts


class StandardLibraryFunctions(TextClassification):
    """Functions of the standard library, each labelled with the top-level package that it comes from.

    The packages are the 20 with the most functions among those of at least 4 files. A file stands on
    the side of the split on which StandardLibrary has it, so what learns from one is not asked about it here;
    nor is it asked about a function that stands on both sides.

    Args:
        validation_fraction: Share of the library's files that is held out.
        tokenizer: What is trained where the model brings none: byte-level BPE, WordPiece or Unigram.
        vocab_size: Of the tokenizer that is trained.
        max_length: Tokens of a function; what is longer is cut.
        batch_size: Functions of a batch.
        seed: Of the order in which functions are drawn.
        num_workers: Processes that make batches.
    """

    def __init__(
        self,
        validation_fraction: float = 0.2,
        tokenizer: TokenizerKind = "wordpiece",
        vocab_size: int = 8192,
        max_length: int = 128,
        batch_size: int = 32,
        seed: int = 0,
        num_workers: int = 0,
    ) -> None:
        super().__init__(
            source=sysconfig.get_path("stdlib"),
            validation_fraction=validation_fraction,
            tokenizer=tokenizer,
            vocab_size=vocab_size,
            max_length=max_length,
            batch_size=batch_size,
            seed=seed,
            num_workers=num_workers,
        )

    @classmethod
    def example(cls, folder: Path) -> Self:
        """A small one, for `zoo.testing`."""
        made = cls(validation_fraction=0.3, vocab_size=300, max_length=24, batch_size=4)
        made.source = write_library(folder)
        return made

    def read(self) -> tuple[list[Example], list[Example]]:
        """The functions of the commonest packages."""
        parts = split(_sources(Path(self.source)), self.validation_fraction)
        training, held_out = (self._by_package(part) for part in parts)
        num_files = Counter({package: len(files) for package, files in training.items()})
        num_files.update({package: len(files) for package, files in held_out.items()})
        num_functions = Counter(
            {
                package: sum(map(len, training[package] + held_out[package]))
                for package, count in num_files.items()
                if count >= LEAST_FILES
            }
        )
        packages = [package for package, _ in num_functions.most_common(NUM_PACKAGES)]
        learnt, asked = (
            [example for package in packages for file in part[package] for example in file]
            for part in (training, held_out)
        )
        seen = {example.text for example in learnt}
        return learnt, [example for example in asked if example.text not in seen]

    def _by_package(self, documents: Sequence[Document]) -> defaultdict[str, list[list[Example]]]:
        """The functions of each file, by package."""
        found: defaultdict[str, list[list[Example]]] = defaultdict(list)
        for document in documents:
            package, *within = Path(document.place).relative_to(self.source).parts
            if within and (functions := _functions(document, package)):
                found[package].append(functions)
        return found


class StandardLibraryLines(TextPairs):
    """Lines of the standard library without their spaces, to be written as they were.

    Files are wholly on one side of the split; a line that stands on both sides is left out of the held-out
    ones.

    Args:
        validation_fraction: Share of the files that is held out.
        tokenizer: What is trained where the model brings none: byte-level BPE, WordPiece or Unigram.
        vocab_size: Of the tokenizer that is trained.
        max_length: Tokens of a line.
        max_characters: Longer lines are left out.
        max_held_out: So many lines are held out at most.
        batch_size: Lines of a batch; of packed ones, rows.
        row_tokens: Packs several lines into rows of so many tokens on either side.
        seed: Of the order in which lines are drawn.
        num_workers: Processes that make batches.
    """

    def __init__(
        self,
        validation_fraction: float = 0.05,
        tokenizer: TokenizerKind = "bpe",
        vocab_size: int = 512,
        max_length: int = 96,
        max_characters: int = 64,
        max_held_out: int = 1000,
        batch_size: int = 32,
        row_tokens: int | None = None,
        seed: int = 0,
        num_workers: int = 0,
    ) -> None:
        super().__init__(
            source=sysconfig.get_path("stdlib"),
            validation_fraction=validation_fraction,
            tokenizer=tokenizer,
            vocab_size=vocab_size,
            max_length=max_length,
            batch_size=batch_size,
            row_tokens=row_tokens,
            seed=seed,
            num_workers=num_workers,
        )
        require_least("max_characters", max_characters, 3)
        require_least("max_held_out", max_held_out, 1)
        self.max_characters, self.max_held_out = max_characters, max_held_out

    @classmethod
    def example(cls, folder: Path) -> Self:
        """A small one, for `zoo.testing`."""
        made = cls(validation_fraction=0.3, vocab_size=300, max_length=24, batch_size=4)
        made.source = write_library(folder)
        return made

    def read(self) -> tuple[list[Pair], list[Pair]]:
        """The lines that have a space within, each once."""
        parts = split(_sources(Path(self.source)), self.validation_fraction)
        training, held_out = (self._lines(part) for part in parts)
        seen = {pair.input for pair in training}
        unseen = [pair for pair in held_out if pair.input not in seen]
        return training, unseen[:: max(1, len(unseen) // self.max_held_out)][: self.max_held_out]

    def _lines(self, documents: Sequence[Document]) -> list[Pair]:
        lines = {line.strip() for document in documents for line in document.text.splitlines()}
        fitting = sorted(line for line in lines if " " in line and len(line) <= self.max_characters)
        return [Pair(line.replace(" ", ""), line) for line in fitting if line.isascii()]


@cache
def _functions(document: Document, package: str) -> list[Example]:
    try:
        tree = ast.parse(document.text)
    except SyntaxError:  # a few files are wrong on purpose
        return []
    lines = document.text.split("\n")
    return [
        # Not ast.get_source_segment, which splits the whole text each time.
        Example(
            "\n".join(lines[node.lineno - 1 : node.end_lineno]).strip(),
            package,
            f"{document.place}:{node.lineno}",
        )
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]


@cache
def _sources(library: Path) -> list[Document]:
    found: dict[str, Document] = {}
    for path in sorted(library.rglob("*.py")):
        if _LEFT_OUT.intersection(path.relative_to(library).parts):
            continue
        try:
            text = path.read_text("utf-8")
        except (UnicodeDecodeError, OSError):  # a few files are in other encodings on purpose
            continue
        if text.strip():
            found.setdefault(text, Document(text, str(path)))
    if not found:
        raise DataError(f"{library} holds no sources of the standard library")
    return list(found.values())
