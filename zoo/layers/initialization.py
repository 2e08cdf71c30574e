"""Fresh weights, and modules that were built without memory."""

import torch
from torch import nn

from zoo.errors import SpecError


@torch.no_grad()
def initialize(module: nn.Module, std: float) -> None:
    """Draws fresh weights: matrices and embeddings from N(0, std²), biases and padding zero, norms one.

    A part that starts otherwise says so in its `reset_parameters`, called after those of the parts in it.

    Raises:
        SpecError: A part has weights of its own and does not say how they start.
    """
    for part in reversed(list(module.modules())):  # the inner ones first
        if isinstance(part, nn.Linear | nn.Embedding):
            nn.init.normal_(part.weight, std=std)
            if isinstance(part, nn.Embedding) and part.padding_idx is not None:
                nn.init.zeros_(part.weight[part.padding_idx])
            if isinstance(part, nn.Linear) and part.bias is not None:
                nn.init.zeros_(part.bias)
        elif callable(reset := getattr(part, "reset_parameters", None)):
            reset()
        elif own := [*part.named_parameters(recurse=False), *part.named_buffers(recurse=False)]:
            raise SpecError(
                f"{type(part).__name__} has `{own[0][0]}` and no `reset_parameters`, "
                "so nothing gives it a fresh value"
            )


def materialize(module: nn.Module, device: torch.device | str | None = None) -> None:
    """Gives memory to a module that was built on the meta device; its parameters are then to be filled."""
    unsaved = dict(module.named_buffers()).keys() - module.state_dict().keys()
    assert not unsaved, f"no checkpoint fills {sorted(unsaved)}: compute such tables where they are used"
    module.to_empty(device=device or torch.get_default_device())
