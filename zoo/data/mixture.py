"""Several data for several heads of one model."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import chain, cycle, islice, repeat
from pathlib import Path
from typing import Any, Self

import lightning as L

from zoo.data.base import ZooData
from zoo.data.text import Text
from zoo.errors import DataError, SpecError, did_you_mean
from zoo.heads.base import Batch
from zoo.modules.base import ZooModule


class Mixture(L.LightningDataModule):
    """Batches of several data, each named after the head that it is for.

    Args:
        parts: Data by the name of its head.
        steps: So many batches of each part, one part after the other; by default one of each by turns, until
            the longest is through.
        validation_steps: So many held-out batches of these parts at most; by default all of each.
    """

    def __init__(
        self,
        parts: dict[str, ZooData],
        steps: dict[str, int] | None = None,
        validation_steps: dict[str, int] | None = None,
    ) -> None:
        super().__init__()
        if not parts:
            raise SpecError("`parts` of zoo.data.Mixture names no data", at="parts")
        if steps is not None and steps.keys() != parts.keys():
            raise SpecError(
                f"`steps` must name the parts {', '.join(parts)}, got {', '.join(steps) or 'none'}",
                at="steps",
            )
        for name in validation_steps or {}:
            if name not in parts:
                raise SpecError(
                    f"`validation_steps` names `{name}`, which is no part",
                    at=f"validation_steps.{name}",
                    hint=did_you_mean(name, parts),
                )
        for key, counts in {"steps": steps, "validation_steps": validation_steps}.items():
            for name, count in (counts or {}).items():
                if count < 1:
                    raise SpecError(
                        f"`{key}` of `{name}` must be at least 1, got {count}", at=f"{key}.{name}"
                    )
        self.parts, self.steps, self.validation_steps = parts, steps, validation_steps or {}
        self.training: Mixed | None = None
        """The batches that are trained on."""
        self.resumed: dict[str, Any] | None = None
        """Where a checkpoint says that these go on."""
        for name, part in parts.items():
            part.head, part.at = name, f"data.parts.{name}"

    @classmethod
    def example(cls, folder: Path) -> Self:
        """A small one, for `zoo.testing`."""
        return cls(parts={name: Text.example(folder) for name in ("first", "second")})

    def require_fit(self, model: ZooModule) -> None:
        """Refuses a model that lacks a head, or cannot read a part's batches.

        Raises:
            SpecError: With the part that does not fit.
        """
        for name in self.parts:
            if name not in model.head_specs:
                raise SpecError(
                    f"the model has no head `{name}` for this data",
                    at=f"data.parts.{name}",
                    hint=f"its heads: {', '.join(model.head_specs)}",
                )
        for name in model.head_specs:
            if name not in self.parts:
                raise SpecError(
                    f"no data is for the head `{name}`",
                    at=f"model.heads.{name}",
                    hint=f"there is data for: {', '.join(self.parts)}",
                )
        for part in self.parts.values():
            with _placed(part):
                part.require_fit(model)

    def prepare_data(self) -> None:
        """Reads all parts; the tokenizer is trained on the first, where the model brings none."""
        self.setup("fit")

    def setup(self, stage: str) -> None:
        """Sets up each part for its head."""
        model = self.trainer.lightning_module if self.trainer else None
        if isinstance(model, ZooModule):
            self.require_fit(model)
        for part in self.parts.values():
            part.trainer = self.trainer
            with _placed(part):
                part.setup(stage)

    def train_dataloader(self) -> "Mixed":
        """Batches to train on."""
        self.training = Mixed(
            {name: part.train_dataloader() for name, part in self.parts.items()},
            self.steps,
            is_training=True,
        )
        if self.resumed is not None:
            self.training.load_state_dict(self.resumed)
        return self.training

    def state_dict(self) -> dict[str, Any]:
        """Where the batches to train on go on."""
        return {} if self.training is None else self.training.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on from there; batches may be asked for before or after, as strategies differ."""
        self.resumed = state_dict
        if self.training is not None:
            self.training.load_state_dict(state_dict)

    def val_dataloader(self) -> "Mixed":
        """The held-out batches of each part, one part after the other."""
        loaders = {name: part.val_dataloader() for name, part in self.parts.items()}
        sizes = {name: len(loader) for name, loader in loaders.items()}  # type: ignore[arg-type]
        return Mixed(
            loaders, {name: min(size, self.validation_steps.get(name, size)) for name, size in sizes.items()}
        )

    def test_dataloader(self) -> "Mixed":
        """The held-out batches of each part, one part after the other."""
        return self.val_dataloader()

    def predict_dataloader(self) -> "Mixed":
        """The `prompts` of each part, one part after the other."""
        loaders = {name: part.predict_dataloader() for name, part in self.parts.items()}
        return Mixed(loaders, {name: len(loader) for name, loader in loaders.items()})


@contextmanager
def _placed(part: ZooData) -> Iterator[None]:
    """Says whose data it is in which something is wrong."""
    try:
        yield
    except DataError as error:
        error.at = error.at or part.at
        raise


class Mixed:
    """Batches of several loaders, each tagged with its loader's name.

    Loaders to train on go on where they stopped, each through epochs of its own; held-out ones start anew.
    """

    def __init__(
        self, loaders: Mapping[str, Any], steps: Mapping[str, int] | None, *, is_training: bool = False
    ) -> None:
        self.loaders, self.steps, self.is_training = loaders, steps, is_training
        self.limit: float = float("inf")
        """Batches after which an epoch is cut, as `limit_train_batches` says."""
        self.batches_done = 0
        """Batches that were handed out in this epoch."""
        self._last: str | None = None

    def __len__(self) -> int:
        if self.steps is not None:
            return sum(self.steps.values())
        return len(self.loaders) * max(len(loader) for loader in self.loaders.values())

    def _names(self) -> Iterator[str]:
        """The loader of each batch of an epoch."""
        if self.steps is not None:
            return chain.from_iterable(repeat(name, count) for name, count in self.steps.items())
        return islice(cycle(self.loaders), len(self))

    def __iter__(self) -> Iterator[Batch]:
        if not self.is_training:  # a pass may have been cut, as by limit_val_batches
            self.batches_done = 0
        endless = {name: _over_and_over(loader) for name, loader in self.loaders.items()}
        end = int(min(self.limit, len(self)))
        for name in islice(self._names(), self.batches_done, end):
            batch = next(endless[name])
            self.batches_done, self._last = (self.batches_done + 1) % end, name
            yield {**batch, "head": name}

    def described(self) -> str:
        """The batch that was handed out last, in words."""
        return "no batch" if self._last is None else f"`{self._last}`: {self.loaders[self._last].described()}"

    def state_dict(self) -> dict[str, Any]:
        """The place after the batch that was handed out last, in each loader, too."""
        parts = {name: loader.state_dict() for name, loader in self.loaders.items()}
        return {"batches": self.batches_done, "parts": parts}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from a place."""
        self.batches_done = state["batches"]
        for name, loader in self.loaders.items():
            loader.load_state_dict(state["parts"][name])


def _over_and_over(loader: Any) -> Iterator[Batch]:
    while True:
        yield from loader
