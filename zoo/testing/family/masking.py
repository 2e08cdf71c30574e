"""What a token sees: its own text, in the direction of its shape, and nothing else."""

from typing import Any

import torch
from torch import Tensor

from zoo.data.packing import laid_out
from zoo.heads.base import Batch
from zoo.modules.base import ZooModule
from zoo.testing.families import Family, padded, random_texts, require_alike

_ROWS = [[0, 1, 2], [3], [4, 5]]
_READ, _WRITTEN = (5, 3, 7, 13, 1, 9), (4, 6, 2, 8, 3, 1)


def padding_changes_nothing(family: Family) -> None:
    """Padding on either side, whatever ids it has, changes no real token's hidden state."""
    module = family.scrambled()
    (text,), (answer,) = (random_texts([7], module.spec.vocab_size, seed) for seed in (0, 1))
    alone = _hidden(module, _batch(family, [text], [answer]))
    for left in (False, True):
        for padding in (module.spec.pad_token_id or 0, 5):
            batch = _batch(family, [text, [3] * 12], [answer, [4] * 10], left=left, padding=padding)
            found = _hidden(module, batch)[0][family.written_mask(batch)[0]]
            require_alike(found, alone[0], f"hidden states with padding on the {'left' if left else 'right'}")


def a_row_alone_equals_its_row_in_a_batch(family: Family) -> None:
    """What stands in the other rows of a batch changes nothing."""
    module, batch = family.scrambled(), family.batch((9, 9, 9), (6, 6, 6))
    together = _hidden(module, batch)
    for row in range(3):
        alone = _hidden(module, {name: value[row : row + 1] for name, value in batch.items()})
        require_alike(together[row], alone[0], f"hidden states of row {row} alone and in a batch")


def it_looks_where_its_shape_says(family: Family) -> None:
    """A decoder never sees what comes after a token; all shapes see what comes before, an encoder both."""
    module, batch = family.scrambled(), family.batch((9,), (9,))
    name = "decoder_input_ids" if module.shape == "encoder-decoder" else "input_ids"
    before = _hidden(module, batch)[0]
    changed = _hidden(module, {**batch, name: _other(batch[name], 4)})[0]
    # But for rounding: experts multiply as many rows at once as tokens go through them.
    moved = [not torch.allclose(one, two, 1e-5, 1e-6) for one, two in zip(before, changed, strict=True)]
    if module.shape == "encoder":
        assert moved[3], "a token does not see the one after it"
    else:
        assert not any(moved[:4]), "a token sees those after it"
    assert moved[4], "a token does not see itself"
    assert moved[5], "a token does not see the one before it"
    if module.shape == "encoder-decoder":
        read = _hidden(module, {**batch, "input_ids": _other(batch["input_ids"], 8)})[0]
        assert not torch.equal(read[0], before[0]), "what is written does not see what is read"


def _other(ids_BT: Tensor, place: int) -> Tensor:
    ids_BT = ids_BT.clone()
    ids_BT[:, place] = torch.where(ids_BT[:, place] == 7, 8, 7)
    return ids_BT


def packed_equals_separate(family: Family) -> None:
    """Texts side by side in one row have the hidden states and gradients that they have alone."""
    module = family.scrambled()
    alone, packed = _separate_and_packed(family, module)
    expected = [module.hidden_states(batch)[0] for batch in alone]
    found = _documents(module.hidden_states(packed), packed)
    for number, (mine, theirs) in enumerate(zip(found, expected, strict=True)):
        require_alike(mine, theirs, f"hidden states of text {number} packed and alone")
    slopes = [torch.randn_like(hidden) for hidden in expected]
    named = dict(module.backbone.named_parameters())
    packed_slopes, own_slopes = (
        torch.autograd.grad(hidden, list(named.values()), slopes, allow_unused=True)
        for hidden in (found, expected)
    )
    for name, mine, theirs in zip(named, packed_slopes, own_slopes, strict=True):
        if theirs is not None:
            assert mine is not None, f"`{name}` gets no gradient from packed rows"
            # Some, as that of a key's bias, are zero but for rounding.
            require_alike(mine, theirs, f"gradients of `{name}` packed and alone", 5e-5, least=1.0)


def packed_texts_never_meet(family: Family) -> None:
    """What one text of a packed row says reaches no other, to the last bit."""
    module = family.scrambled()
    _, packed = _separate_and_packed(family, module)
    before = _documents(_hidden(module, packed), packed)
    for name, numbers in (("input_ids", "attention_mask"), ("decoder_input_ids", "decoder_attention_mask")):
        if name in packed:
            packed[name] = packed[name].where(packed[numbers] != 2, module.spec.vocab_size - 1)
    after = _documents(_hidden(module, packed), packed)
    changed = [not torch.equal(one, two) for one, two in zip(before, after, strict=True)]
    expected = [False, True, False, False, False, True]  # each row's second text was changed
    assert changed == expected, "a text of a packed row sees its neighbour"


@torch.no_grad()
def _hidden(module: ZooModule, batch: Batch) -> Tensor:
    return module.hidden_states(batch)


def _batch(
    family: Family,
    read: list[list[int]],
    written: list[list[int]],
    *,
    left: bool = False,
    padding: int = 0,
) -> Batch:
    """Texts to read, and to write where the shape does."""
    batch = dict(zip(("input_ids", "attention_mask"), padded(read, padding, left=left), strict=True))
    if family.kind.shape == "encoder-decoder":
        names = ("decoder_input_ids", "decoder_attention_mask")
        batch |= dict(zip(names, padded(written, padding, left=left), strict=True))
    return batch


def _separate_and_packed(family: Family, module: ZooModule) -> tuple[list[Batch], Batch]:
    read, written = (
        random_texts(lengths, module.spec.vocab_size, seed) for seed, lengths in enumerate((_READ, _WRITTEN))
    )
    packed = dict(zip(("input_ids", "attention_mask"), laid_out(read, _ROWS, 0), strict=True))
    if family.kind.shape == "encoder-decoder":
        names = ("decoder_input_ids", "decoder_attention_mask")
        packed |= dict(zip(names, laid_out(written, _ROWS, 0), strict=True))
    return [_batch(family, [one], [two]) for one, two in zip(read, written, strict=True)], packed


def _documents(hidden: Tensor, packed: Batch) -> list[Tensor]:
    """The hidden states of each document, in order."""
    numbers: Any = packed.get("decoder_attention_mask", packed["attention_mask"])
    return [
        hidden[row, numbers[row] == number + 1]
        for row in range(len(_ROWS))
        for number in range(len(_ROWS[row]))
    ]
