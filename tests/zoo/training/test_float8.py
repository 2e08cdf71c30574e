"""Float8 is a line of a recipe where it can be had, and a sentence where it cannot."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest
import torch
from torch.testing import assert_close

import zoo
from zoo.errors import SpecError
from zoo.layers import Linear
from zoo.training import Float8
from zoo.training.float8 import convert

FIT = ("fit", "--config", "recipe.yaml")
PRESET = ("--config", "presets/one-gpu-float8", "--trainer.accelerator", "cpu")


def test_a_machine_that_cannot_is_told_what_it_takes(command: Any, workplace: Path) -> None:
    outcome = command(*FIT, *PRESET)
    told, at, source, hint = outcome.err.splitlines()
    assert (outcome.code, told) == (
        2,
        "zoo: float8 needs a GPU of compute capability 8.9 or more (Ada, Hopper or newer), "
        "this run is on cpu",
    )
    assert (at, source.endswith("one-gpu-float8.yaml:7")) == ("  at    trainer.plugins", True)
    assert hint == "  use presets/one-gpu-bf16; or emulate: true, which is slow, to try it out"
    assert sorted(path.name for path in workplace.iterdir()) == ["recipe.yaml", "text.txt"]


def test_an_install_without_the_extra_is_told_its_name(
    command: Any, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torchao", None)
    monkeypatch.setitem(sys.modules, "torchao.float8", None)
    outcome = command(*FIT, *PRESET, "--trainer.plugins.emulate", "true")
    assert (outcome.code, outcome.err.splitlines()[0], outcome.err.splitlines()[-1]) == (
        2,
        "zoo: zoo.training.Float8 needs the extra `float8`",
        "  pip install 'lightning-zoo[float8]'",
    )


def test_a_recipe_for_float8_is_checked_anywhere(command: Any, workplace: Path) -> None:
    outcome = command("check", "recipe.yaml", "--config", "presets/one-gpu-float8")
    assert (outcome.code, outcome.err) == (0, "")


# Where torchao is installed, on any device: as float8 rounds.


def module_of(**sizes: Any) -> zoo.modules.DecoderModule:
    torch.manual_seed(0)
    llama = zoo.decoders.Llama
    module = zoo.modules.DecoderModule(backbone=llama(**{**llama.tiny, **sizes}))
    module.build()
    return module


def test_projections_of_blocks_are_converted_and_keep_their_weights_and_names() -> None:
    pytest.importorskip("torchao", reason="the extra float8 is needed")
    module, plain = module_of(), module_of()
    convert(module, emulate=True)
    convert(module, emulate=True)  # again is no harm
    assert {type(part).__name__ for part in module.backbone.blocks.modules()} >= {"Float8Linear"}
    assert type(module.heads["head"].projection) is Linear
    assert module.state_dict().keys() == plain.state_dict().keys()
    ids = torch.randint(3, 90, (3, 7))
    losses, norms = [], []
    for model in (plain, module):
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        losses.append(loss.detach())
        norms.append(torch.nn.utils.get_total_norm(part.grad for part in model.parameters()))
    assert_close(losses[1], losses[0], rtol=0.02, atol=0)
    assert_close(norms[1], norms[0], rtol=0.1, atol=0)
    assert not torch.equal(losses[1], losses[0])


def test_a_model_of_other_sizes_is_refused() -> None:
    pytest.importorskip("torchao", reason="the extra float8 is needed")
    module = module_of(hidden_size=24, num_attention_heads=4, num_key_value_heads=2, intermediate_size=40)
    with pytest.raises(SpecError) as caught:
        convert(module, emulate=True)
    assert caught.value.message == (
        "none of the model's projections has sizes that are multiples of 16, as float8 needs"
    )


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
def test_a_run_in_float8_learns_and_its_checkpoint_is_any_other(command: Any, workplace: Path) -> None:
    pytest.importorskip("torchao", reason="the extra float8 is needed")
    outcome = command(*FIT, *PRESET, "--trainer.plugins.emulate", "true")
    assert outcome.code == 0, outcome.err
    (checkpoint,) = workplace.rglob("last.ckpt")
    assert zoo.load(checkpoint).generate("the cat", max_new_tokens=2)


def test_it_is_bf16_mixed_to_everything_else() -> None:
    trainer = L.Trainer(accelerator="cpu", plugins=Float8(emulate=True), logger=False)
    assert trainer.precision == "bf16-mixed"


def test_layers_that_processes_divide_are_refused() -> None:
    llama = zoo.decoders.Llama
    module: Any = zoo.modules.DecoderModule(backbone=llama(**llama.tiny))
    module.trainer = SimpleNamespace(precision_plugin=Float8())
    module._device_mesh = {"tensor_parallel": SimpleNamespace(size=lambda: 2)}
    with pytest.raises(SpecError) as caught:
        module._convert()
    assert str(caught.value) == (
        "zoo.training.Float8 divides no layers\n"
        "  at    trainer.plugins\n"
        "  set trainer.strategy's tensor_parallel_size to 1, or use bf16-mixed"
    )
