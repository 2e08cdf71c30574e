"""Several data for several heads of one model."""

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

import lightning as L

from zoo.data.base import ZooData
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
        for name, part in parts.items():
            part.head, part.at = name, f"data.parts.{name}"

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
            try:
                part.setup(stage)
            except DataError as error:
                error.at = error.at or part.at
                raise

    def train_dataloader(self) -> "Mixed":
        """Batches to train on."""
        return Mixed({name: part.train_dataloader() for name, part in self.parts.items()}, self.steps)

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


class Mixed:
    """Batches of several loaders, each tagged with its loader's name."""

    def __init__(self, loaders: Mapping[str, Any], steps: Mapping[str, int] | None) -> None:
        self.loaders, self.steps = loaders, steps

    def __len__(self) -> int:
        if self.steps is not None:
            return sum(self.steps.values())
        return len(self.loaders) * max(len(loader) for loader in self.loaders.values())

    def __iter__(self) -> Iterator[Batch]:
        endless = {name: _over_and_over(loader) for name, loader in self.loaders.items()}
        if self.steps is not None:
            for name, count in self.steps.items():
                for batch in islice(endless[name], count):
                    yield {**batch, "head": name}
            return
        for _ in range(len(self) // len(endless)):
            for name, batches in endless.items():
                yield {**next(batches), "head": name}


def _over_and_over(loader: Any) -> Iterator[Batch]:
    while True:
        yield from loader
