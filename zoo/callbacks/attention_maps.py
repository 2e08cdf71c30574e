"""What the model looks at in one text."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from zoo.callbacks.looking import boards, new_figure, require_pictures
from zoo.errors import SpecError
from zoo.layers import attention_weights
from zoo.modules.base import ZooModule, evaluating
from zoo.tokenizer import Tokenizer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_TOKENS = 64
"""Of a text that is drawn."""
COLUMNS = 4
"""Heads beside each other."""


class AttentionMaps(Callback):
    """Draws, after each validation, what every head of attention weighs when one text is read.

    Args:
        text: What is read, or a pair of texts.
        target: For an encoder-decoder that writes, what it is to have written.
        layers: Numbers of the attentions that are drawn, in the order in which they are computed, from zero;
            -1 is the last. By default the first and the last.
        head: The name of the head for which it is read, where the model has several.

    Raises:
        ZooError: The extra `pictures` is missing.
    """

    def __init__(
        self,
        text: str | tuple[str, str],
        target: str | None = None,
        layers: Sequence[int] = (0, -1),
        head: str | None = None,
    ) -> None:
        require_pictures(self)
        if not layers:
            raise SpecError("`layers` must name at least one", at="layers")
        self.text = text if isinstance(text, str) else (text[0], text[1])
        self.target, self.layers, self.head = target, list(layers), head

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Reads the text, and draws."""
        if not isinstance(pl_module, ZooModule) or pl_module.tokenizer is None:
            return
        maps = self._maps(pl_module, pl_module.tokenizer)
        for layer in self.layers:
            if not -len(maps) <= layer < len(maps):
                raise SpecError(
                    f"`layers` names {layer}, the model has {len(maps)} attentions",
                    at="trainer.callbacks.layers",
                    hint=f"name some from 0 to {len(maps) - 1}",
                )
        if trainer.sanity_checking:
            return
        for board in boards(trainer):
            for number in dict.fromkeys(layer % len(maps) for layer in self.layers):
                board.add_figure(f"attention/{number}", draw(*maps[number]), trainer.global_step)

    @torch.no_grad()
    def _maps(self, module: ZooModule, tokenizer: Tokenizer) -> list[tuple[Tensor, list[str], list[str]]]:
        """What each attention weighs (heads, queries, keys), with the tokens that look and that are seen."""
        batch = _cut(tokenizer.batch([self.text], max_length=MOST_TOKENS), module)
        name = module.head_name(self.head)
        if module.shape == "encoder-decoder" and module.head(name).generates:
            written = tokenizer.batch([self.target or self.text], max_length=MOST_TOKENS)
            batch["labels"] = _cut(written, module)["input_ids"]
        with evaluating(module), attention_weights() as weights:
            module(**batch, head=name)
        read = [
            [tokenizer.decode([token], skip_special=False) for token in ids[0].tolist()]
            for ids, _ in module.read({**batch, "head": name})
        ]
        # An encoder is through before the first token of what is written looks at anything.
        first = next((number - 1 for number, one in enumerate(weights) if one.is_across), len(weights))
        looking = [read[-1] if number >= first else read[0] for number in range(len(weights))]
        return [
            (one.values_BHTS[0].float().cpu(), tokens, read[0] if one.is_across else tokens)
            for one, tokens in zip(weights, looking, strict=True)
        ]


def _cut(batch: Mapping[str, Tensor], module: ZooModule) -> dict[str, Tensor]:
    """What of a text the model takes, no longer than what it sees, where it is."""
    taken = {"input_ids", "attention_mask", *module.spec.inputs} & batch.keys()
    return {name: batch[name][:, : module.spec.max_tokens].to(module.device) for name in taken}


def draw(weights_HTS: Tensor, looking: Sequence[str], seen: Sequence[str]) -> "Figure":
    """A picture for each head: the tokens that look down, those that are seen across.

    Args:
        weights_HTS: (heads, queries, keys).
        looking: The queries' tokens.
        seen: The keys' tokens.
    """
    number = len(weights_HTS)
    columns = min(number, COLUMNS)
    rows = -(-number // columns)
    side = 1.2 + 0.16 * max(len(looking), len(seen))
    figure = new_figure(columns * side, rows * side)
    grid: Any = figure.subplots(rows, columns, squeeze=False)
    for head, axes in enumerate(grid.flat):
        if head >= number:
            axes.set_axis_off()
            continue
        axes.imshow(weights_HTS[head].numpy(), cmap="Blues", vmin=0, vmax=1)
        axes.set_title(f"head {head}", size=8)
        axes.set_xticks(range(len(seen)), seen, rotation=90, size=6)
        axes.set_yticks(range(len(looking)), looking, size=6)
    return figure
