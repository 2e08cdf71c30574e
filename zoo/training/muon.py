"""Muon for the matrices of a model's blocks, AdamW for everything else, as one optimizer.

Jordan et al., 2024: https://kellerjordan.github.io/posts/muon
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from zoo.training.blocks import blocks

Group = dict[str, Any]


class Muon(Optimizer):
    """One learning rate and one decay for all: Muon's steps are scaled to the size of AdamW's.

    The scale is that of Liu et al., 2025: https://arxiv.org/abs/2502.16982

    Args:
        params: Parameters or groups. Matrices are Muon's, but for those of a group with `is_muon: false`.
        lr: Learning rate.
        weight_decay: Of all groups that say nothing else.
        momentum: Of Muon.
        betas: Of AdamW.
        eps: Of AdamW.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.95),
        eps: float = 1e-8,
    ) -> None:
        none: list[Group] = [{"params": []}]
        self._muon = torch.optim.Muon(
            none, lr, weight_decay, momentum=momentum, adjust_lr_fn="match_rms_adamw"
        )
        self._adamw = torch.optim.AdamW(none, lr, betas, eps, weight_decay)
        super().__init__(params, {})

    @staticmethod
    def divide(module: nn.Module, groups: Iterable[Group]) -> Iterator[Group]:
        """Parts groups of a model's parameters: matrices of its blocks, and what looks up or projects."""
        parts = [part for block in blocks(module) for part in block.modules()]
        hidden = {
            weight
            for part in parts
            if not isinstance(part, nn.Embedding)
            for weight in part.parameters(recurse=False)
        }
        for group in groups:
            yield {**group, "params": [weight for weight in group["params"] if weight in hidden]}
            outside = [weight for weight in group["params"] if weight not in hidden]
            yield {**group, "params": outside, "is_muon": False}

    def add_param_group(self, param_group: Group) -> None:
        """Adds a group, or two: its matrices and the rest."""
        given = param_group["params"]
        parameters = [given] if isinstance(given, torch.Tensor) else list(given)
        may = param_group.get("is_muon", True)
        for optimizer in (self._muon, self._adamw):
            is_muon = optimizer is self._muon
            mine = [parameter for parameter in parameters if (may and parameter.ndim == 2) == is_muon]
            if mine:  # the optimizer checks the group, and adds what it does not say
                optimizer.add_param_group({**param_group, "params": mine, "is_muon": is_muon})
                super().add_param_group(optimizer.param_groups[-1])
        self._share()

    def _share(self) -> None:
        """Both work on the groups and the state that this one shows, saves and loads."""
        for optimizer in (self._muon, self._adamw):
            is_muon = optimizer is self._muon
            optimizer.param_groups = [group for group in self.param_groups if group["is_muon"] == is_muon]
            optimizer.state = self.state

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_muon": self._muon, "_adamw": self._adamw}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._share()

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of both."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._muon.step()  # type: ignore[no-untyped-call]
        self._adamw.step()
        return loss
