"""The backbone: built without memory, filled with fresh weights."""

import torch
from torch import Tensor, nn

from zoo.testing.families import Family
from zoo.training.blocks import blocks


def builds_without_memory(family: Family) -> None:
    """Built on the meta device, it takes no memory, and has the same tensors as elsewhere."""
    spec = family.spec()
    with torch.device("meta"):
        light = spec.build()
    heavy = spec.build()
    for name, tensor in [*light.named_parameters(), *light.named_buffers()]:
        assert tensor.is_meta, f"`{name}` is on {tensor.device} where all is built on meta"
    assert _shapes(light) == _shapes(heavy), "on meta it has other tensors than elsewhere"
    unsaved = dict(light.named_buffers()).keys() - light.state_dict().keys()
    assert not unsaved, (
        f"nothing fills the unsaved buffers {sorted(unsaved)}: compute them where they are used"
    )


def _shapes(module: nn.Module) -> dict[str, list[int]]:
    return {name: list(tensor.shape) for name, tensor in module.state_dict().items()}


def fresh_weights_depend_on_the_seed_alone(family: Family) -> None:
    """The same seed gives the same weights, another one others, and all are finite."""
    first, again, other = (family.fresh(seed=seed).state_dict() for seed in (1, 1, 2))
    for name, tensor in first.items():
        assert torch.equal(tensor, again[name]), f"`{name}` differs between two starts of one seed"
        assert tensor.isfinite().all(), f"`{name}` starts with numbers that are not finite"
    differ = any(not torch.equal(tensor, other[name]) for name, tensor in first.items())
    assert differ, "another seed gives the same weights"


def fresh_weights_have_the_scale_of_the_spec(family: Family) -> None:
    """Matrices start with the standard deviation `initializer_range`, or less where more is added up."""
    narrow, wide = (family.fresh(initializer_range=std).backbone for std in (0.01, 0.03))
    for name, weight in narrow.named_parameters():
        if weight.ndim < 2 or weight.numel() < 100 or not weight.any():
            continue
        std = _std(weight)
        assert 0.001 <= std <= 0.012, f"`{name}` starts with {std:.1e} where initializer_range is 1e-02"
        ratio = _std(wide.get_parameter(name)) / std
        assert abs(ratio - 3) < 0.05, (
            f"`{name}` grows {ratio:.2g} times with an initializer_range 3 times as large"
        )


def _std(weight: Tensor) -> float:
    return float(weight.detach().flatten().double().std())


def hidden_states_have_their_shape_and_dtype(family: Family) -> None:
    """Ids become hidden states (batch, tokens, hidden_size) of the weights' own dtype."""
    module, batch = family.scrambled(), family.batch()
    tokens = family.written_mask(batch).shape
    for dtype in (torch.float32, torch.bfloat16):
        with torch.no_grad():
            hidden = module.to(dtype).hidden_states(batch)
        expected = (*tokens, module.spec.hidden_size)
        assert hidden.shape == expected, f"hidden states are {list(hidden.shape)}, not {list(expected)}"
        assert hidden.dtype == dtype, f"hidden states are {hidden.dtype} where weights are {dtype}"
        assert hidden.isfinite().all(), f"hidden states in {dtype} are not finite"


def what_it_repeats_stands_in_a_module_list(family: Family) -> None:
    """Its blocks are members of `nn.ModuleList`s, by which it is compiled, recomputed and spread."""
    with torch.device("meta"):
        backbone = family.spec().build()
    found = blocks(backbone)
    assert found, "no `nn.ModuleList` holds its blocks"
    inside = sum(part.numel() for block in found for part in block.parameters())
    embedded = sum(part.weight.numel() for part in backbone.modules() if isinstance(part, nn.Embedding))
    rest = sum(part.numel() for part in backbone.parameters()) - embedded
    assert inside > rest / 2, f"its blocks hold {inside} of the {rest} parameters that are no embedding's"
