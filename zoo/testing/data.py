"""What is promised of data, by the small example that their class gives."""

import copy
import functools
import inspect
import itertools
import re
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import torch
from torch import Tensor

from zoo import registry
from zoo.errors import SpecError
from zoo.heads.base import Batch
from zoo.modules.base import ZooModule
from zoo.specs import HeadSpec
from zoo.testing.checks import Skip
from zoo.testing.families import module_of
from zoo.testing.heads import family_of

NUM_BATCHES = 4


@dataclass
class DataSubject:
    """A LightningDataModule's class."""

    kind: type[L.LightningDataModule]

    @contextmanager
    def example(self, rank: int = 0, processes: int = 1) -> Iterator[Any]:
        """The small one that its class gives, set up for one of so many processes.

        Raises:
            Skip: It gives none.
        """
        make = getattr(self.kind, "example", lambda _: None)
        with tempfile.TemporaryDirectory() as folder:
            data = make(Path(folder))
            if data is None:
                raise Skip(f"{self.kind.__name__} gives no `example(folder)`: a small one, for these checks")
            data.trainer = _trainer(rank, processes)
            data.setup("fit")
            yield data

    def batches(self, data: Any, number: int = NUM_BATCHES) -> list[Batch]:
        """The first batches to train on."""
        return list(itertools.islice(iter(data.train_dataloader()), number))

    def head(self) -> HeadSpec:
        """A head of the zoo's own for its tasks.

        Raises:
            Skip: There is none, so that its author must try it with another.
        """
        tasks: frozenset[str] = getattr(self.kind, "tasks", frozenset())
        for entry in registry.in_group("zoo.heads"):
            if entry.distribution == registry.DISTRIBUTION and (kind := entry.load()).task in tasks:
                found: HeadSpec = kind()
                return found
        raise Skip(f"no head of the zoo's own is for the tasks {', '.join(sorted(tasks)) or 'none'}")

    def model(self, head: HeadSpec, **sizes: Any) -> ZooModule:
        """A tiny model under a head, not built yet."""
        family = family_of(head.shapes[0])
        spec = family.spec(**{"vocab_size": 2048, "max_position_embeddings": 512, **sizes})
        optimizer = functools.partial(torch.optim.AdamW, lr=1e-3)
        kind: Any = module_of(spec.shape)
        made: ZooModule = kind(spec, head, optimizer=optimizer)
        return made


def _trainer(rank: int, processes: int) -> Any:
    """What data ask of a Trainer: which share is theirs."""
    places = {"rank": rank, "num_replicas": processes}
    return SimpleNamespace(
        strategy=SimpleNamespace(distributed_sampler_kwargs=places), lightning_module=None, overfit_batches=0
    )


def every_argument_is_documented(data: DataSubject) -> None:
    """The class says what each of its arguments is."""
    told = set(re.findall(r"^\s+(\w+):", inspect.getdoc(data.kind) or "", re.MULTILINE))
    taken = [name for name in inspect.signature(data.kind).parameters if name not in ("args", "kwargs")]
    silent = [name for name in taken if name not in told]
    assert not silent, f"nothing says what these are: {', '.join(silent)}; list them under `Args:`"


def batches_speak_the_hubs_words(data: DataSubject) -> None:
    """Batches have `input_ids` (rows, tokens), a mask of the same shape, and labels, in whole numbers."""
    with data.example() as made:
        for batch in data.batches(made):
            ids = batch.get("input_ids")
            assert isinstance(ids, Tensor), f"a batch has {', '.join(batch)}; `input_ids` is not among them"
            assert ids.ndim == 2, f"`input_ids` is {list(ids.shape)}, not (rows, tokens)"
            assert "labels" in batch, "a batch has no `labels`"
            for name in ("input_ids", "attention_mask"):
                value = batch.get(name, ids)
                assert value.shape == ids.shape, (
                    f"`{name}` is {list(value.shape)}, `input_ids` {list(ids.shape)}"
                )
                assert not value.is_floating_point(), f"`{name}` is {value.dtype}"
            assert int(ids.min()) >= 0, "`input_ids` has numbers below zero"


def the_same_seed_gives_the_same_batches(data: DataSubject) -> None:
    """Two of the same arguments give the same batches; the next epoch has another order."""
    found = []
    for _ in range(2):
        with data.example() as made:
            found.append(data.batches(made))
    for first, again in zip(*found, strict=True):
        require_same(first, again, "two of the same arguments give other batches")
    with data.example() as made:
        loader = made.train_dataloader()
        epochs = [list(loader), list(loader)]
    if sum(len(batch["input_ids"]) for batch in epochs[0]) > 8:
        differ = any(not _is_same(one, two) for one, two in zip(*epochs, strict=False))
        assert differ, "the second epoch has the order of the first"


def it_goes_on_where_it_was(data: DataSubject) -> None:
    """From the state after two batches, it goes on with the third."""
    with data.example() as made:
        batches = iter(made.train_dataloader())
        seen = [next(batches) for _ in range(2)]
        state = copy.deepcopy(made.state_dict())
        expected = list(itertools.islice(batches, 2))
    assert state, "its `state_dict` is empty after two batches"
    assert seen
    with data.example() as made:
        made.load_state_dict(state)
        found = data.batches(made, len(expected))
    for one, two in zip(found, expected, strict=True):
        require_same(one, two, "it goes on with other batches")


def processes_share_the_rows(data: DataSubject) -> None:
    """Two processes have as many batches each, and not the same."""
    found = []
    for rank in range(2):
        with data.example(rank, 2) as made:
            found.append(list(made.train_dataloader()))
    assert len(found[0]) == len(found[1]), f"one has {len(found[0])} batches, the other {len(found[1])}"
    for one, two in zip(*found, strict=True):
        assert not _is_same(one, two), "both processes have the same batch"


def a_model_trains_on_it(data: DataSubject) -> None:
    """A tiny model of the zoo's own, under a head of its task, trains and is measured on it."""
    head = data.head()
    with data.example() as made:
        made.trainer = None
        model = data.model(head)
        with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
            warnings.simplefilter("ignore")  # advice on loaders and loggers
            trainer = L.Trainer(
                accelerator="cpu", max_steps=2, limit_val_batches=1, num_sanity_val_steps=0, logger=False,
                enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
                default_root_dir=folder, val_check_interval=1,
            )  # fmt: skip
            trainer.fit(model, datamodule=made)
    assert trainer.global_step == 2, f"it made {trainer.global_step} steps of 2"
    loss = trainer.callback_metrics.get("val/loss")
    assert loss is not None, "no held-out loss is measured"
    assert loss.isfinite(), f"the held-out loss is {loss}"


def other_heads_are_refused(data: DataSubject) -> None:
    """A model whose head is for another task is refused before it reads."""
    tasks = getattr(data.kind, "tasks", None)
    if tasks is None:
        raise Skip("it names no `tasks`, so it cannot tell")
    with data.example() as made:
        for entry in registry.in_group("zoo.heads"):
            if entry.distribution != registry.DISTRIBUTION or (kind := entry.load()).task in (*tasks, ""):
                continue
            try:
                made.require_fit(data.model(kind()))
            except SpecError:
                continue
            raise AssertionError(f"it takes the head {kind.__name__}, whose task is {kind.task}")


def _is_same(one: Batch, two: Batch) -> bool:
    return one.keys() == two.keys() and all(
        torch.equal(value, two[name]) if isinstance(value, Tensor) else value == two[name]
        for name, value in one.items()
    )


def require_same(one: Batch, two: Batch, told: str) -> None:
    """Refuses batches that differ.

    Raises:
        AssertionError: With the first name of which they do.
    """
    assert one.keys() == two.keys(), f"{told}: {sorted(one)} and {sorted(two)}"
    assert _is_same(one, two), told
