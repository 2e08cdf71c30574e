"""Compiled blocks, and blocks that are computed again, give what eager ones give."""

import copy
import functools
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

import zoo
from zoo import registry
from zoo.errors import SpecError
from zoo.heads.base import Batch
from zoo.layers import Mask
from zoo.modules import DecoderModule, EncoderDecoderModule, EncoderModule
from zoo.modules.base import ZooModule
from zoo.training import Muon, optimization
from zoo.training.blocks import blocks

pytestmark = [  # the compiler's own
    pytest.mark.filterwarnings("ignore:.*torch.jit.script_method.*:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf"),
]
KINDS = {
    "encoders": EncoderModule,
    "decoders": DecoderModule,
    "encoder_decoders": EncoderDecoderModule,
}
FAMILIES = {entry.value: group for group in KINDS for entry in registry.in_group(f"zoo.{group}")}
"""Every family that is registered, by where it stands, and its group."""


def module_of(family: str, dropout: float = 0.0, **switches: Any) -> ZooModule:
    torch.manual_seed(0)
    name = family.rpartition(":")[2]
    group = FAMILIES.get(family) or next(group for place, group in FAMILIES.items() if place.endswith(name))
    spec, kind = getattr(getattr(zoo, group), name), KINDS[group]
    drops = {field: dropout for field in spec.__dataclass_fields__ if "dropout" in field}
    head = zoo.heads.MaskedLM() if kind is EncoderModule else None
    module: ZooModule = kind(backbone=spec(**{**spec.tiny, **drops}), head=head, **switches)
    module.build()
    return module.train()


def batch_of(attention_mask: Tensor | None = None) -> Batch:
    torch.manual_seed(1)
    input_ids = torch.randint(3, 90, (3, 12))
    batch: Batch = {"input_ids": input_ids, "labels": input_ids.roll(-1, 1)}
    return batch if attention_mask is None else {**batch, "attention_mask": attention_mask}


RIGHT = (torch.arange(12)[None] < torch.tensor([[12], [9], [5]])).long()
PACKED = torch.tensor([[1] * 5 + [2] * 7, [1] * 3 + [2] * 4 + [3] * 5, [1] * 12])


def loss_and_gradients(module: ZooModule, batch: Batch, seed: int = 2) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    module.zero_grad()
    loss = module.head().loss(module.hidden_states(batch), batch).mean
    loss.backward()
    gradients = {name: parameter.grad for name, parameter in module.named_parameters()}
    return {"loss": loss.detach(), "rng": torch.get_rng_state(), **gradients}


def test_blocks_are_the_members_of_the_outermost_lists() -> None:
    module = module_of("T5")
    stacks = (module.backbone.encoder, module.backbone.decoder)
    assert blocks(module.backbone) == [block for stack in stacks for block in stack.blocks]
    assert blocks(nn.Linear(2, 2)) == []


@pytest.mark.parametrize("family", FAMILIES)
def test_muon_steps_every_family(family: str) -> None:
    module = module_of(family)
    module.optimizer = functools.partial(Muon, lr=0.01)
    optimizer = module.optimizer(optimization.groups_for(module.optimizer, module))
    before = {name: parameter.clone() for name, parameter in module.named_parameters()}
    for _ in range(2):
        loss_and_gradients(module, batch_of(RIGHT))
        optimizer.step()
    hidden = {part for group in optimizer.param_groups if group["is_muon"] for part in group["params"]}
    assert {parameter.ndim for parameter in hidden} == {2}
    inside = {part for block in blocks(module.backbone) for part in block.parameters()}
    assert hidden <= inside
    for name, parameter in module.named_parameters():
        assert parameter.isfinite().all(), name
        assert parameter.grad is None or not parameter.grad.any() or not torch.equal(parameter, before[name])


def kept_bytes(module: ZooModule) -> int:
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        module.hidden_states(batch_of())
    parameters = {parameter.untyped_storage().data_ptr() for parameter in module.parameters()}
    return sum(size for place, size in kept.items() if place not in parameters)


def test_blocks_that_are_computed_again_keep_less() -> None:
    assert (
        kept_bytes(module_of("Llama", activation_checkpointing="block")) < kept_bytes(module_of("Llama")) / 3
    )


def operations(module: ZooModule) -> int:
    """Floating-point operations of a backward pass, products and attention alone."""
    hidden = module.hidden_states(batch_of()).sum()
    with FlopCounterMode(display=False) as counter:
        hidden.backward()
    return int(counter.get_total_flops())


def test_selective_computes_no_product_again() -> None:
    eager, whole, selective = (
        operations(module_of("Llama", activation_checkpointing=choice))
        for choice in ("none", "block", "selective")
    )
    assert selective == eager < whole


def test_nothing_is_kept_to_be_computed_again_where_no_gradients_are_wanted() -> None:
    module = module_of("Llama", activation_checkpointing="selective").eval()
    with torch.no_grad():
        expected = module_of("Llama").eval().hidden_states(batch_of())
        assert torch.equal(module.hidden_states(batch_of()), expected)
    assert module.generate(torch.tensor([[5, 6]]), max_new_tokens=4)


def test_a_copy_computes_with_its_own_weights() -> None:
    module = module_of("Llama", activation_checkpointing="block", compile=True)
    twin = copy.deepcopy(module)
    for block in blocks(twin.backbone):
        assert block.forward.written.__self__ is block


def test_a_way_that_is_not_known_is_refused() -> None:
    with pytest.raises(SpecError) as caught:
        module_of("Llama", activation_checkpointing="all")
    assert caught.value.message == (
        "`activation_checkpointing` must be one of none, block, selective, got `all`"
    )


@pytest.fixture
def graphs() -> Any:
    """Compiled graphs since the test began, and where one ended early."""
    torch.compiler.reset()
    counters = torch._dynamo.utils.counters
    counters.clear()
    yield lambda: (counters["stats"]["unique_graphs"], dict(counters["graph_break"]))
    torch.compiler.reset()


def test_all_blocks_are_compiled_as_one_whole_graph(graphs: Any) -> None:
    module, compiled = module_of("Llama"), module_of("Llama", compile=True)
    assert compiled.state_dict().keys() == module.state_dict().keys()
    expected = loss_and_gradients(module, batch_of(RIGHT))
    for name, tensor in loss_and_gradients(compiled, batch_of(RIGHT)).items():
        assert_close(tensor, expected[name], rtol=1e-5, atol=1e-6, msg=name)
    assert graphs() == (1, {})


def ways_of(module: ZooModule) -> set[Any]:
    """Blocks that are built alike and look alike."""
    found: set[Any] = set()

    def note(block: nn.Module, arguments: Any, keywords: Any) -> None:
        masks = (value for value in (*arguments, *keywords.values()) if isinstance(value, Mask))
        found.add((str(block), *((mask.is_causal, mask.reach, mask.is_across) for mask in masks)))

    for block in blocks(module.backbone):
        block.register_forward_pre_hook(note, with_kwargs=True)
    module.hidden_states(batch_of())
    return found


@pytest.mark.slow
@pytest.mark.parametrize("choice", ["none", "block", "selective"])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_compiled_equals_eager(family: str, choice: str, graphs: Any) -> None:
    module = module_of(family)
    compiled = module_of(family, compile=True, activation_checkpointing=choice)
    for attention_mask in (None, RIGHT, PACKED):
        expected = loss_and_gradients(module, batch_of(attention_mask))
        for name, tensor in loss_and_gradients(compiled, batch_of(attention_mask)).items():
            assert_close(tensor, expected[name], rtol=1e-5, atol=1e-6, msg=name)
    num_graphs, ends = graphs()
    assert num_graphs <= 4 * len(ways_of(module))
    assert ends == {}


@pytest.mark.slow
def test_rows_of_many_lengths_are_compiled_a_few_times(graphs: Any) -> None:
    compiled = module_of("Llama", compile=True)
    for length in range(12, 4, -1):
        batch = {name: tensor[:, :length] for name, tensor in batch_of(RIGHT).items()}
        loss_and_gradients(compiled, batch)
    num_graphs, _ = graphs()
    assert num_graphs <= 4


def fitted(folder: Path, max_steps: int, ckpt_path: Path | None = None, **switches: Any) -> L.Trainer:
    torch.manual_seed(3)
    module = module_of("GPT2", dropout=0.2, **switches)
    module.optimizer = functools.partial(torch.optim.AdamW, lr=0.01)
    rows = [{name: tensor[0] for name, tensor in batch_of().items()}] * 8
    trainer = L.Trainer(
        accelerator="cpu", max_steps=max_steps, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=folder,
        limit_val_batches=0,
    )  # fmt: skip
    torch.manual_seed(4)
    trainer.fit(module, DataLoader(rows, batch_size=2), ckpt_path=ckpt_path, weights_only=True)
    return trainer


@pytest.mark.filterwarnings("ignore:.*srun:")
@pytest.mark.filterwarnings("ignore:You defined a `validation_step`")
@pytest.mark.filterwarnings(
    "ignore:You're resuming from a checkpoint that ended before"
)  # all rows are alike
def test_checkpoints_know_nothing_of_how_a_model_was_computed(tmp_path: Path) -> None:
    trainer = fitted(tmp_path, 2, activation_checkpointing="block")
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert not {"compile", "activation_checkpointing"} & saved["hyper_parameters"].keys()
    loaded = zoo.load(tmp_path / "last.ckpt")
    assert not any("forward" in vars(block) for block in blocks(loaded.backbone))
    for folder, module in (("again", trainer.lightning_module), ("loaded", loaded)):
        zoo.save(module, tmp_path / folder)
    for path in (tmp_path / "again").iterdir():
        assert path.read_bytes() == (tmp_path / "loaded" / path.name).read_bytes()
    resumed = [
        fitted(tmp_path, 4, tmp_path / "last.ckpt", activation_checkpointing=choice).lightning_module
        for choice in ("none", "selective")
    ]
    for one, other in zip(*(module.parameters() for module in resumed), strict=True):
        assert torch.equal(one, other)
