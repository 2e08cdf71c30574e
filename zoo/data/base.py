"""What the zoo's data share: sizes, the tokenizer, the head that their batches are for."""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal, overload

import lightning as L
import torch
from torch.utils.data import DataLoader

from zoo import registry
from zoo.data.bad_rows import BadRows, OnBadRow
from zoo.data.bucketing import ByLength
from zoo.data.caching import cached, content_hash
from zoo.data.gathering import Gathered, Gatherer, SortedBatches
from zoo.data.loading import Arrange, Collate, HeldOut, Items, Loader, Plan, Position, RandomOrder
from zoo.data.measures import Measure, Question
from zoo.data.packing import OpenRows
from zoo.data.reading import commit_of
from zoo.data.splits import halves
from zoo.errors import DataError, SpecError
from zoo.heads.base import Batch
from zoo.modules.base import ONLY, ZooModule
from zoo.tokenizer import Tokenizer, train
from zoo.training.sharding import place_among

TokenizerKind = Literal["bpe", "wordpiece", "unigram"]

LEAST_IDS: dict[TokenizerKind, int] = {"bpe": 256 + 1, "unigram": 256 + 3, "wordpiece": 32}
"""Of a tokenizer that is trained: bytes and special tokens."""

PROMPTS_AT_ONCE = 256
"""Texts of a batch that is asked about: texts alone, of which the model reads as many at once as it likes."""


class ZooData(L.LightningDataModule):
    """Batches for one head.

    Args:
        validation_fraction: Share of the source that is held out.
        tokenizer: What is trained where the model brings none: byte-level BPE, WordPiece or Unigram.
        vocab_size: Of the tokenizer that is trained.
        batch_size: Rows of a batch.
        seed: Of the order in which rows are drawn.
        num_workers: Processes that make batches.
        on_bad_row: Whether a row that cannot be used is an error, or is left out and counted.
    """

    tasks: ClassVar[frozenset[str]]
    """The tasks of heads that the batches are made for, in the Hub's words."""
    measure: Measure | None = None
    """What tells how well a model does beside `baselines`."""

    def __init__(
        self,
        validation_fraction: float,
        tokenizer: TokenizerKind,
        vocab_size: int,
        batch_size: int,
        seed: int,
        num_workers: int,
        on_bad_row: OnBadRow = "error",
    ) -> None:
        super().__init__()
        self.bad_rows = BadRows(on_bad_row)
        """What is done about rows that cannot be used, and how many there were."""
        require_share("validation_fraction", validation_fraction)
        least = {"batch_size": 1, "vocab_size": LEAST_IDS[tokenizer], "num_workers": 0}
        given = {"batch_size": batch_size, "vocab_size": vocab_size, "num_workers": num_workers}
        for name, value in given.items():
            require_least(name, value, least[name])
        self.validation_fraction = validation_fraction
        self.tokenizer_kind, self.vocab_size = tokenizer, vocab_size
        self.batch_size, self.seed, self.num_workers = batch_size, seed, num_workers
        self.batch_tokens: int | None = None
        """Tokens of a batch, padding counted, where they and not `batch_size` say how large it is."""
        self._trained: Tokenizer | None = None
        self.head: str | None = None
        """The name of the head that the batches are for, where the model has several."""
        self.at = "data"
        """Where the recipe names this data."""
        self.training: Loader | None = None
        """The batches that are trained on."""
        self.resumed: Position | None = None
        """Where a checkpoint says that these go on."""

    @classmethod
    def example(cls, folder: Path) -> "ZooData | None":
        """A small one, for `zoo.testing`; what it reads, it writes to the folder. None: there is none."""
        return None

    @property
    def parts(self) -> Mapping[str, "ZooData"]:
        """Itself; of several data, each."""
        return {self.head or ONLY: self}

    @property
    def sources(self) -> dict[str, str | None]:
        """Where its rows come from, as the recipe says, each with its commit where it is on the Hub."""
        source = getattr(self, "source", None)
        named = () if not isinstance(source, str) else halves(source, getattr(self, "validation", None))
        return {part: commit_of(part) for part in named if part is not None}

    @property
    def model(self) -> ZooModule | None:
        """The model that is trained or asked."""
        model = self.trainer.lightning_module if self.trainer else None
        return model if isinstance(model, ZooModule) else None

    def require_fit(self, model: ZooModule) -> None:
        """Refuses a model that cannot read these batches.

        Raises:
            SpecError: The head is for another task, or the tokenizer to be trained has too many ids.
        """
        spec = model.spec
        if self.head is None and len(model.head_specs) > 1:
            raise SpecError(
                f"{registry.path_of(type(self))} makes batches for one head, "
                f"the model has {', '.join(model.head_specs)}",
                at=self.at,
                hint="give zoo.data.Mixture a part for each head",
            )
        head = model.head_specs[model.head_name(self.head)]
        if head.task and head.task not in self.tasks:
            data = registry.usable("zoo.data").items()
            fitting = [name for name, kind in data if head.task in getattr(kind, "tasks", ())]
            raise SpecError(
                f"{registry.path_of(type(self))} makes no batches for {registry.path_of(type(head))}",
                at=self.at,
                hint=f"data that does: {', '.join(fitting) or 'none'}",
            )
        if not model.brings_tokenizer and self.vocab_size > spec.vocab_size:
            raise SpecError(
                f"a tokenizer of {self.vocab_size} ids is too large for a backbone of {spec.vocab_size}",
                at=f"{self.at}.vocab_size",
                hint=f"set it to at most {spec.vocab_size}, or the backbone's vocab_size",
            )

    def require_length(self, model: ZooModule, name: str, value: int) -> None:
        """Refuses rows that are longer than what the model sees.

        Raises:
            SpecError: With the name of the argument that says how long they are.
        """
        limit = model.spec.max_tokens
        if value > limit and model.spec.is_bounded:
            raise SpecError(
                f"rows of {value} tokens are too long for a model that sees {limit}",
                at=f"{self.at}.{name}",
                hint=f"set it to at most {limit}, or the backbone's max_position_embeddings",
            )

    def prepare_data(self) -> None:
        """Reads, trains the tokenizer where the model brings none, and tokenises."""
        self.setup("fit")

    @abstractmethod
    def setup(self, stage: str) -> None:
        """Makes the rows, and gives the model a tokenizer if it has none."""

    def shared_tokenizer(self, texts: Callable[[], Sequence[str]]) -> Tokenizer:
        """The model's tokenizer, or one that is trained on these texts and becomes the model's."""
        model = self.model
        tokenizer = model.own_tokenizer() if model else None
        if tokenizer is None:
            self._trained = self._trained or self.train_tokenizer(texts())
            tokenizer = self._trained
        if model:
            model.adopt_tokenizer(tokenizer)
        return tokenizer

    def train_tokenizer(self, texts: Sequence[str]) -> Tokenizer:
        """A tokenizer of at most `vocab_size` ids over these texts."""
        return trained_tokenizer(self.tokenizer_kind, texts, self.vocab_size)

    @overload
    def loader(
        self,
        rows: Items,
        collate: Collate | None,
        *,
        is_training: Literal[True],
        lengths: Sequence[int] | None = None,
        row_tokens: int | None = None,
    ) -> Loader: ...

    @overload
    def loader(self, rows: Items, collate: Collate | None, *, is_training: Literal[False]) -> HeldOut: ...

    def loader(
        self,
        rows: Items,
        collate: Collate | None,
        *,
        is_training: bool,
        lengths: Sequence[int] | None = None,
        row_tokens: int | None = None,
    ) -> Loader | HeldOut:
        """Batches of rows, in random order where they are trained on; of several processes each has its own.

        Args:
            rows: What batches are made of.
            collate: Makes one of some rows.
            is_training: Whether they are trained on.
            lengths: Of the rows, where those of a batch to train on should be alike; in tokens, where there
                are `batch_tokens` or `row_tokens`.
            row_tokens: Packs what is trained on into `batch_size` rows of so many tokens.

        Raises:
            DataError: There are fewer to train on than a batch takes.
        """
        rank, world_size = place_among(self.trainer)
        if not is_training:
            return HeldOut(
                rows, self.batch_size, collate, self.seed, self.num_workers, rank, world_size, self.bad_rows
            )
        plan = self._plan(len(rows), lengths, row_tokens, rank, world_size)
        if not len(plan):
            among = f" on each of {world_size} processes" if world_size > 1 else ""
            size = "batch_tokens" if self.batch_tokens else "batch_size"
            raise DataError(
                f"the data to train on makes {len(rows)} rows, a batch takes {getattr(self, size)}"
                f"{' tokens' if self.batch_tokens else ''}{among}",
                at=f"{self.at}.{size}",
                hint=f"give more text, or a smaller {size}",
            )
        self.training = Loader(rows, plan, collate, self.seed, self.num_workers, self.bad_rows)
        if self.resumed is not None:
            self.training.load_state_dict(self.resumed)
        return self.training

    def _plan(
        self, num_rows: int, lengths: Sequence[int] | None, row_tokens: int | None, rank: int, world_size: int
    ) -> Plan:
        is_overfit = getattr(self.trainer, "overfit_batches", 0) > 0
        if lengths is not None and (row_tokens or self.batch_tokens):
            gatherer: Callable[[], Gatherer] = partial(SortedBatches, self.batch_tokens or 0)
            groups = 1
            if row_tokens:
                gatherer, groups = partial(OpenRows, row_tokens), self.batch_size
            return Gathered(
                lengths, gatherer, groups, self.seed, rank, world_size, is_shuffled=not is_overfit
            )
        arrange: Arrange | None = None if lengths is None else partial(ByLength, lengths, self.batch_size)
        if is_overfit:
            arrange = partial(_unchanged, num_rows)
        return RandomOrder(num_rows, self.batch_size, self.seed, rank, world_size, arrange)

    def state_dict(self) -> dict[str, Any]:
        """Where the batches to train on go on."""
        return {} if self.training is None else self.training.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on from there; batches may be asked for before or after, as strategies differ."""
        self.resumed = state_dict
        if self.training is not None:
            self.training.load_state_dict(state_dict)

    def baselines(self) -> dict[str, float]:
        """What simple methods reach in `measure` on the held-out data, by their names."""
        return {}

    def questions(self) -> list[Question]:
        """Held-out texts and what is right about each, where the data tells."""
        return []

    def answer(self, prediction: Any) -> str:
        """What of a head's prediction is its answer to a question."""
        return str(prediction)

    def prompts(self, texts: Sequence[Any]) -> "DataLoader[Batch]":
        """Texts to be asked about, as they are."""
        return DataLoader(texts, batch_size=PROMPTS_AT_ONCE, collate_fn=_as_prompts)  # type: ignore[arg-type]

    @abstractmethod
    def train_dataloader(self) -> "Iterable[Batch]":
        """Batches to train on."""

    @abstractmethod
    def val_dataloader(self) -> "Iterable[Batch]":
        """Held-out batches, in order."""

    def test_dataloader(self) -> "Iterable[Batch]":
        """Held-out batches, in order."""
        return self.val_dataloader()


def _unchanged(num_rows: int, generator: torch.Generator) -> Iterable[int]:
    return range(num_rows)


def _as_prompts(texts: list[Any]) -> Batch:
    return {"prompts": texts}


def require_least(name: str, value: int, least: int) -> None:
    """Refuses an argument that is too small.

    Raises:
        SpecError: With its name and value.
    """
    if value < least:
        raise SpecError(f"`{name}` must be at least {least}, got {value}", at=name)


def require_share(name: str, value: float) -> None:
    """Refuses an argument that is no share.

    Raises:
        SpecError: With its name and value.
    """
    if not 0 < value < 1:
        raise SpecError(f"`{name}` must lie between 0 and 1, got {value}", at=name)


def trained_tokenizer(kind: TokenizerKind, texts: Sequence[str], vocab_size: int) -> Tokenizer:
    """A tokenizer over these texts, trained once."""

    def make(folder: Path) -> None:
        folder.mkdir()
        train(kind, texts, vocab_size).save(folder)

    folder = cached(f"{kind}-{content_hash(texts, str(vocab_size))}", make)
    tokenizer = Tokenizer.from_folder(folder)
    assert tokenizer is not None, f"{folder} is a cached tokenizer without its files"
    return tokenizer
