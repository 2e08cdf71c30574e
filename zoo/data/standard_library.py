"""The Python standard library's own sources, as they lie on the user's machine."""

import sysconfig
from pathlib import Path

from zoo.data.reading import Document
from zoo.data.text import Text, split
from zoo.errors import DataError

_LEFT_OUT = {"site-packages", "dist-packages", "test", "tests", "idle_test", "__pycache__", "ensurepip"}


class StandardLibrary(Text):
    """About 12 MB of Python code and English comments, split by file; nothing is downloaded.

    Args:
        validation_fraction: Share of the files that is held out.
        vocab_size: Of the byte-level BPE that is trained where the model brings no tokenizer.
        sequence_length: Tokens of a row.
        batch_size: Rows of a batch.
        seed: Of the order in which rows are drawn.
        num_workers: Processes that make batches.
    """

    def __init__(
        self,
        validation_fraction: float = 0.05,
        vocab_size: int = 8192,
        sequence_length: int = 256,
        batch_size: int = 16,
        seed: int = 0,
        num_workers: int = 0,
    ) -> None:
        super().__init__(
            source=sysconfig.get_path("stdlib"),
            validation_fraction=validation_fraction,
            vocab_size=vocab_size,
            sequence_length=sequence_length,
            batch_size=batch_size,
            seed=seed,
            num_workers=num_workers,
        )

    def documents(self) -> tuple[list[Document], list[Document]]:
        """The library's files, without its tests."""
        if self._parts is None:
            self._parts = split(_sources(Path(self.source)), self.validation_fraction)
        return self._parts


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
