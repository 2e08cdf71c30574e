"""Heads of which each breaks one promise, named after the check that notices it."""

import os
from dataclasses import dataclass
from typing import Any

import sound_head
import torch
from torch import Tensor, nn

from zoo.heads.base import Loss

Spec, Head = sound_head.YourPlugin, sound_head.YourPluginHead


def spec(head: type = Head, **members: Any) -> Any:
    """A head that differs from a sound one by some members of its spec, or of its module."""
    made = {"build": lambda self, backbone: head(backbone.hidden_size, self.labels), "__module__": __name__}
    name = f"Broken{sum(name.startswith('Broken') for name in globals())}"
    globals()[name] = dataclass(frozen=True, kw_only=True)(type(name, (Spec,), made | members))
    return globals()[name]


def head(**members: Any) -> Any:
    """The same, by members of its module."""
    return spec(type("BrokenHead", (Head,), members))


def changed(change: Any) -> Any:
    """A head whose loss is changed."""
    return head(loss=lambda self, hidden, batch: change(Head.loss(self, hidden, batch)))


def unsteady(self: Any) -> None:
    self.projection.weight.normal_(generator=torch.Generator().manual_seed(int.from_bytes(os.urandom(4))))


def mean_of_all(self: Any, hidden: Tensor, batch: Any) -> Tensor:
    logits: Tensor = self.projection(hidden.mean(1))
    return logits


class Idle(Head):
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.idle = nn.Linear(2, 2)


class Forgetful(sound_head.ComparingMetrics):
    def reset(self) -> None:
        """Nothing starts anew."""


BROKEN = {
    "head_survives_json": (spec(to_hub=lambda self: {}), r"YourPlugin|Broken.* comes back from config.json"),
    "every_argument_is_documented": (
        spec(mystery=3, __annotations__={"mystery": int}), r"nothing says what these are: mystery"
    ),
    "fits_the_shapes_that_it_says": (
        spec(require_fit=lambda self, backbone, at="": None), r"it accepts the shape encoder-decoder"
    ),
    "starts_from_the_seed_alone": (head(reset_parameters=unsteady), r"`head.projection.weight` differs"),
    "no_label_is_no_loss": (
        changed(lambda loss: Loss(loss.total, loss.num_labels + 1, loss.labels, loss.predicted)),
        r"it counts 1 labels where there is none",
    ),
    "a_batch_loses_what_its_rows_lose": (
        changed(lambda loss: Loss(loss.mean, loss.num_labels, loss.labels, loss.predicted)),
        r"losses of rows and of their batch differ by",
    ),
    "padding_changes_no_loss": (head(forward=mean_of_all), r"losses with more padding differ by"),
    "gradients_reach_the_head": (spec(Idle), r"`head.idle.weight` gets no gradient"),
    "the_head_learns_a_batch_by_heart": (
        head(forward=lambda self, hidden, batch: Head.forward(self, hidden * 0, batch)), r"under \w+ the loss goes"
    ),
    "measures_count_and_start_anew": (
        head(metrics=lambda self: Forgetful(**dict(Head.metrics(self).measures))), r"the measure `\w+` of other"
    ),
    "a_model_under_it_is_saved_and_loaded": (
        head(unpublished=("projection",)), r"`heads.head.projection.weight` comes back otherwise"
    ),
    "a_checkpoint_describes_it": (
        spec(to_plain=lambda self: {"class_path": "broken_heads.Gone", "init_args": {}}), r"`broken_heads.Gone`"
    ),
}  # fmt: skip
"""By the check: a head, and what is said of it."""
