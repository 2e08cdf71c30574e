"""What data of one example a row share: reading, holding some out, batches of like lengths."""

from abc import abstractmethod
from collections.abc import Container, Iterable, Sequence
from typing import ClassVar, Generic, TypeVar

from zoo.data.bad_rows import OnBadRow
from zoo.data.base import TokenizerKind, ZooData, require_least
from zoo.data.loading import HeldOut, Loader
from zoo.data.splits import halves
from zoo.data.splitting import apart, warn_of_leaks
from zoo.errors import DataError
from zoo.heads.base import Batch
from zoo.modules.base import ZooModule
from zoo.tokenizer import Tokenizer

E = TypeVar("E")

TextOrPair = str | tuple[str, str]
"""What a model reads at once."""


class ExampleData(ZooData, Generic[E]):
    """Examples of a source, some of them held out.

    Args:
        source: What is read.
        validation: A source for validation, or the name of a split of `source`; by default some of it is
            held out.
        validation_fraction: Share of `source` that is held out.
        tokenizer: What is trained where the model brings none: byte-level BPE, WordPiece or Unigram.
        vocab_size: Of the tokenizer that is trained.
        max_length: Tokens of a row.
        batch_size: Examples of a batch.
        seed: Of the order in which examples are drawn.
        num_workers: Processes that make batches.
        on_bad_row: Whether a row that cannot be used is an error, or is left out and counted.
    """

    noun: ClassVar[str] = "example"
    """What messages call one."""

    def __init__(
        self,
        source: str,
        validation: str | None,
        validation_fraction: float,
        tokenizer: TokenizerKind,
        vocab_size: int,
        max_length: int,
        batch_size: int,
        seed: int,
        num_workers: int,
        on_bad_row: OnBadRow,
    ) -> None:
        super().__init__(
            validation_fraction, tokenizer, vocab_size, batch_size, seed, num_workers, on_bad_row
        )
        require_least("max_length", max_length, 2)
        self.source, self.validation, self.max_length = source, validation, max_length
        self._parts: tuple[Sequence[E], Sequence[E]] | None = None
        self._tokenizer: Tokenizer | None = None

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer, once the data is set up."""
        assert self._tokenizer is not None
        return self._tokenizer

    def examples(self) -> tuple[Sequence[E], Sequence[E]]:
        """Examples to train on and examples held out, read once.

        Raises:
            DataError: One side is empty.
        """
        if self._parts is None:
            self._parts = self.read()
        for part, name in zip(self._parts, ("train on", "hold out"), strict=True):
            if not part:
                raise DataError(f"there is no {self.noun} to {name}", hint="give more, or another split")
        return self._parts

    def read(self) -> tuple[Sequence[E], Sequence[E]]:
        """Reads the source, and holds some of it out where no other is named."""
        training, validation = halves(self.source, self.validation)
        if validation is not None:
            parts = self.read_source(training), self.read_source(validation)
            warn_of_leaks(*parts, self.content)
            return parts
        learnt, held_out = apart(self.read_source(training), self.content, self.validation_fraction)
        return list(learnt), list(held_out)

    @abstractmethod
    def read_source(self, source: str) -> list[E]:
        """The examples of one source."""

    @abstractmethod
    def content(self, example: E) -> str:
        """What decides on which side an example is: those of equal content stay together."""

    @abstractmethod
    def texts(self, example: E) -> Iterable[str]:
        """The texts of an example, of which a tokenizer can be trained."""

    def length(self, example: E) -> int:
        """How long it is, in any unit: those of a batch are about as long as each other."""
        return sum(map(len, self.texts(example)))

    @abstractmethod
    def collate(self, examples: Sequence[E]) -> Batch:
        """Examples as a batch."""

    def setup(self, stage: str) -> None:
        """Reads the examples, and gives the model what it lacks of labels and a tokenizer."""
        if self.model:
            self.require_fit(self.model)
        training, _ = self.examples()
        self._tokenizer = self.shared_tokenizer(
            lambda: [text for example in training for text in self.texts(example)]
        )

    def require_fit(self, model: ZooModule) -> None:
        """Refuses a model that cannot read these batches.

        Raises:
            SpecError: They are for another head, or too long, or of too many ids.
        """
        super().require_fit(model)
        self.require_length(model, "max_length", self.max_length)

    def train_dataloader(self) -> Loader:
        """Examples in random order, those of a batch of like length."""
        training, _ = self.examples()
        lengths = [self.length(example) for example in training]
        return self.loader(training, self.collate, is_training=True, lengths=lengths)

    def val_dataloader(self) -> HeldOut:
        """Held-out examples in order."""
        return self.loader(self.examples()[1], self.collate, is_training=False)


def column_of(values: Container[str], given: str | None, known: Sequence[str], default: str) -> str:
    """The column that was given, else the first of those known that a row has, else the default."""
    return given or next((name for name in known if name in values), default)
