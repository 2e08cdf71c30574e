"""What is promised of a LightningModule that trains a backbone."""

import inspect
import json
import re
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch.utils.data import DataLoader

from zoo import registry
from zoo.errors import SpecError
from zoo.heads.masked_lm import MaskedLM
from zoo.hub import load
from zoo.modules.base import ZooModule
from zoo.testing.checks import Skip
from zoo.testing.families import Family
from zoo.testing.heads import GROUPS, family_of


@dataclass
class ModuleSubject:
    """A module's class."""

    kind: type[L.LightningModule]

    @property
    def family(self) -> Family:
        """What it trains here.

        Raises:
            Skip: It is no `ZooModule`, so that what it takes is its own affair.
        """
        if not issubclass(self.kind, ZooModule):
            raise Skip(f"{self.kind.__name__} is no ZooModule, so what it takes is its own affair")
        return family_of(self.kind.shape)

    def make(self, **choices: Any) -> ZooModule:
        """One on a tiny backbone, not built yet."""
        spec = self.family.spec()
        head = {"head": MaskedLM()} if spec.shape == "encoder" else {}
        made: Any = self.kind(spec, **{**head, **choices})
        assert isinstance(made, ZooModule)
        return made


def every_argument_is_documented(module: ModuleSubject) -> None:
    """The class, or the one that it extends, says what each of its arguments is."""
    texts = "\n".join(inspect.cleandoc(base.__doc__ or "") for base in module.kind.__mro__)
    told = set(re.findall(r"^\s+(\w+):", texts, re.MULTILINE))
    silent = [name for name in inspect.signature(module.kind).parameters if name not in told]
    assert not silent, f"nothing says what these are: {', '.join(silent)}; list them under `Args:`"


def it_is_light_until_it_is_built(module: ModuleSubject) -> None:
    """Making it takes no memory for weights; building it makes them."""
    made = module.make()
    assert not list(made.parameters()), "it has parameters before `configure_model`"
    made.build()
    assert list(made.parameters()), "it has no parameters after it was built"


def other_shapes_are_refused(module: ModuleSubject) -> None:
    """A backbone of another shape is refused in one sentence."""
    own = module.family.kind.shape
    for shape in GROUPS:
        if shape == own:
            continue
        made: Any = module.kind
        try:
            _ = made(family_of(shape).spec(), **({"head": MaskedLM()} if own == "encoder" else {})).spec
        except SpecError:
            continue
        raise AssertionError(f"it takes a backbone of the shape {shape}")


def plain_values_make_it_again(module: ModuleSubject) -> None:
    """What a checkpoint keeps of it is JSON, and makes the same module again."""
    made = module.make()
    kept = json.loads(json.dumps(made.described()))
    again: Any = module.kind(**kept)
    assert again.described() == made.described(), "it comes back from its plain values otherwise"


def a_checkpoint_stands_alone(module: ModuleSubject) -> None:
    """It trains; `zoo.load` makes the trained model of the checkpoint, without the recipe."""
    batch = module.family.batch()
    rows: Any = [{name: value[row] for name, value in batch.items()} for row in range(3)]
    made = module.make()
    if not registry.path_of(module.kind).startswith("zoo.modules."):
        raise Skip("no installed entry point names it, so no checkpoint finds it")
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")  # advice on loaders and loggers
        trainer = L.Trainer(
            accelerator="cpu", max_steps=2, limit_val_batches=0, logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, default_root_dir=folder,
        )  # fmt: skip
        trainer.fit(made, DataLoader(rows, batch_size=3))
        path = Path(folder, "last.ckpt")
        trainer.save_checkpoint(path)
        again = load(path)
    assert type(again) is module.kind, f"it comes back as {type(again).__name__}"
    for name, tensor in made.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), f"`{name}` comes back otherwise"
