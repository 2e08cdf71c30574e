"""Files: what is saved comes back, here and in transformers."""

import importlib.util
import tempfile
from pathlib import Path

import torch

from zoo import registry
from zoo.hub import load, save
from zoo.testing.checks import Skip
from zoo.testing.families import Family
from zoo.testing.parity import assert_parity, of_transformers


def saved_and_loaded_it_is_the_same(family: Family) -> None:
    """Saved in the Hub's format, loaded and saved again, weights and files are the same to the last bit."""
    _require_registered(family)
    module = family.scrambled()
    with tempfile.TemporaryDirectory() as place:
        folders = [Path(place, name) for name in ("first", "again")]
        again = load(save(module, folders[0]))
        same = again.spec.to_hub() == module.spec.to_hub()
        assert same, f"{again.spec} was loaded in place of {module.spec}"
        batch, found = family.batch(), again.state_dict()
        with torch.no_grad():
            same = torch.equal(again.hidden_states(batch), module.hidden_states(batch))
        assert same, "with what was loaded it computes other hidden states"
        for name, tensor in module.state_dict().items():
            assert torch.equal(found[name], tensor), f"`{name}` comes back otherwise"
        save(again, folders[1])
        for path in folders[0].iterdir():
            same = path.read_bytes() == (folders[1] / path.name).read_bytes()
            assert same, f"{path.name} differs when it is saved again"


def transformers_loads_what_it_saves(family: Family) -> None:
    """Where transformers knows the `model_type`, it loads the files and computes the same, gradients too."""
    _require_registered(family)
    if importlib.util.find_spec("transformers") is None:
        raise Skip("transformers is not installed")
    from transformers import CONFIG_MAPPING

    model_type = registry.model_type_of(family.kind)
    if model_type not in CONFIG_MAPPING:
        raise Skip(f"transformers knows no model_type `{model_type}`")
    module, batch = family.scrambled(), family.batch()
    del batch["labels"]
    if module.shape == "encoder-decoder":
        ids, real = batch.pop("decoder_input_ids"), batch.pop("decoder_attention_mask")
        batch["labels"] = ids.masked_fill(real == 0, -100)
    else:
        batch["labels"] = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    with tempfile.TemporaryDirectory() as place:
        _, reference = of_transformers(save(module, Path(place, "model")))
        assert_parity(module, reference, batch, rtol=1e-4, atol=1e-4)


def it_equals_the_authors_reference(family: Family) -> None:
    """Logits, loss and gradients are those of the reference that its author gives."""
    module, batch = family.scrambled(), family.batch()
    give = family.reference or module.spec.reference
    reference = give(module)
    if reference is None:
        raise Skip("its author gives no `reference`")
    assert_parity(module, reference, batch)


def _require_registered(family: Family) -> None:
    if not family.is_registered:
        raise Skip("no installed entry point names it, so no checkpoint finds it")
