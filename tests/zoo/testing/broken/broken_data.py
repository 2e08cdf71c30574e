"""Data of which each breaks one promise, named after the check that notices it."""

import os
from types import SimpleNamespace
from typing import Any

import sound_data

Data = sound_data.YourPlugin


def data(**members: Any) -> Any:
    """Data that differ from sound ones by some members."""
    return type("BrokenData", (Data,), {"__doc__": Data.__doc__, **members})


def renamed(self: Any) -> list[Any]:
    """Batches with another word for ids."""
    return [{"ids": batch["input_ids"], "labels": batch["labels"]} for batch in Data.train_dataloader(self)]


def in_any_order(self: Any, stage: str) -> None:
    self.seed = int.from_bytes(os.urandom(4))
    Data.setup(self, stage)


def for_itself(self: Any) -> Any:
    """All rows, whoever else there is."""
    alone = SimpleNamespace(distributed_sampler_kwargs={"rank": 0, "num_replicas": 1})
    self.trainer.strategy = alone
    return Data.train_dataloader(self)


class Silent(Data):
    """Says of no argument what it is."""


BROKEN = {
    "every_argument_is_documented": (Silent, r"nothing says what these are: num_documents, largest, "),
    "batches_speak_the_hubs_words": (
        data(train_dataloader=renamed), r"a batch has ids, labels; `input_ids` is not among them"
    ),
    "the_same_seed_gives_the_same_batches": (
        data(setup=in_any_order), r"two of the same arguments give other batches"
    ),
    "it_goes_on_where_it_was": (
        data(load_state_dict=lambda self, state: None), r"it goes on with other batches"
    ),
    "processes_share_the_rows": (data(train_dataloader=for_itself), r"both processes have the same batch"),
    "a_model_trains_on_it": (data(val_dataloader=lambda self: []), r"no held-out loss is measured"),
    "other_heads_are_refused": (data(require_fit=lambda self, model: None), r"it takes the head \w+, whose task"),
}  # fmt: skip
"""By the check: data, and what is said of them."""
