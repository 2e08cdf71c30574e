"""What is promised of a head, on a tiny backbone of each shape that it fits."""

import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from jsonargparse import ArgumentParser
from torch import Tensor

from zoo import registry
from zoo.errors import SpecError
from zoo.heads.base import Batch, Metrics, unlabelled
from zoo.hub import load, save
from zoo.layers import IGNORED
from zoo.modules.base import ZooModule
from zoo.specs import BackboneSpec, HeadSpec, Shape, from_plain
from zoo.testing.families import Family, module_of, require_alike
from zoo.words import meanings

GROUPS: dict[Shape, str] = {
    "encoder": "zoo.encoders",
    "decoder": "zoo.decoders",
    "encoder-decoder": "zoo.encoder_decoders",
}
LABELS = ("first", "second", "third")


def family_of(shape: Shape) -> Family:
    """The first family of a shape that comes with the zoo."""
    first_party = (
        entry for entry in registry.in_group(GROUPS[shape]) if entry.distribution == registry.DISTRIBUTION
    )
    return Family(next(first_party).load())


@dataclass
class HeadSubject:
    """A head, and what it stands on."""

    kind: type[HeadSpec]

    def spec(self) -> HeadSpec:
        """The head with three labels, where it tells labels."""
        return self.kind().with_labels(LABELS)

    def on(self, shape: Shape, *, seed: int = 0) -> ZooModule:
        """A tiny model of this shape under the head, in training."""
        return family_of(shape).fresh(seed=seed, head=self.spec(), initializer_range=0.1, eos_token_id=2)

    def models(self) -> Iterator[tuple[ZooModule, Batch]]:
        """One of each shape that it fits, and a batch for it."""
        for shape in self.kind.shapes:
            module = self.on(shape)
            yield module, self.batch(module)

    def batch(self, module: ZooModule, *, more_padding: int = 0) -> Batch:
        """Three padded texts with labels: as the head gives them, or a number for each row of its logits."""
        given = self.kind.example(module.spec)
        batch = given if given is not None else self._numbered(module)
        width = batch["input_ids"].shape[1]
        return {
            name: _widened(value, name, width, more_padding, module.spec) for name, value in batch.items()
        }

    def _numbered(self, module: ZooModule) -> Batch:
        batch = family_of(module.shape).batch()
        batch["input_ids"] = batch["input_ids"].index_put(
            (torch.arange(3), batch["attention_mask"].sum(1) - 1), torch.tensor(2)
        )
        name = "decoder" if module.head().generates else "text"
        if name == "text":
            batch = {key: batch[key] for key in ("input_ids", "attention_mask")}
        module.eval()
        with torch.no_grad():
            logits = module.head()(module.hidden_states(batch), batch)
        module.train()
        generator = torch.Generator().manual_seed(3)
        labels = torch.randint(logits.shape[-1], logits.shape[:-1], generator=generator)
        if labels.ndim == 2:
            real = batch.get("decoder_attention_mask")
            real = batch["attention_mask"] if real is None else real
            labels = labels.masked_fill(real == 0, IGNORED)
        return {**batch, "labels": labels}


def _widened(value: Any, name: str, width: int, number: int, spec: BackboneSpec) -> Any:
    if not (number and isinstance(value, torch.Tensor) and value.shape[1:] == (width,)):
        return value
    filler = IGNORED if name == "labels" else 0 if name.endswith("_mask") else spec.pad_token_id or 0
    return torch.nn.functional.pad(value, (0, number), value=filler)


def _loss(module: ZooModule, batch: Batch) -> Any:
    batch = module.head().prepare(batch)
    return module.head().loss(module.hidden_states(batch), batch)


def head_survives_json(head: HeadSubject) -> None:
    """A head comes back from JSON, from the parser of recipes and from config.json as it was."""
    spec = head.spec()
    assert from_plain(json.loads(json.dumps(spec.to_plain()))) == spec, "it comes back from JSON otherwise"
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--it", type=HeadSpec)
    parsed = parser.parse_object({"it": spec.to_plain()})
    again = parser.instantiate(parser.parse_string(parser.dump(parsed))).it
    assert again == spec, "it comes back from the parser otherwise"
    read = head.kind.of_config(json.loads(json.dumps(spec.to_hub())))
    assert read == spec, f"{read} comes back from config.json in place of {spec}"


def every_argument_is_documented(head: HeadSubject) -> None:
    """Every field says what it is in a text below it."""
    silent = [item.name for item in fields(head.kind) if item.name not in meanings(head.kind)]
    assert not silent, f"nothing says what these are: {', '.join(silent)}"


def fits_the_shapes_that_it_says(head: HeadSubject) -> None:
    """It accepts backbones of its shapes, and refuses others."""
    assert head.kind.shapes, "it names no `shapes`"
    for shape in GROUPS:
        try:
            head.spec().require_fit(family_of(shape).spec())
        except SpecError:
            assert shape not in head.kind.shapes, f"it refuses the shape {shape}"
        else:
            assert shape in head.kind.shapes, f"it accepts the shape {shape}, which `shapes` does not name"


def starts_from_the_seed_alone(head: HeadSubject) -> None:
    """It is built without memory, and its fresh weights depend on the seed alone."""
    for shape in head.kind.shapes:
        first, again = (head.on(shape, seed=1).heads.state_dict() for _ in range(2))
        for name, tensor in first.items():
            assert torch.equal(tensor, again[name]), f"`{name}` differs between two starts of one seed"
            assert tensor.isfinite().all(), f"`{name}` starts with numbers that are not finite"


def no_label_is_no_loss(head: HeadSubject) -> None:
    """A batch of which nothing carries a label has a loss and gradients of zero, and counts no label."""
    for module, batch in head.models():
        loss = _loss(module, unlabelled(batch))
        assert int(loss.num_labels) == 0, f"it counts {int(loss.num_labels)} labels where there is none"
        mean = loss.mean.item()
        assert mean == 0, f"the loss without a label is {mean}"
        loss.mean.backward()
        for name, parameter in module.named_parameters():
            zero = parameter.grad is None or not parameter.grad.any()
            assert zero, f"`{name}` gets a gradient where nothing carries a label"


def a_batch_loses_what_its_rows_lose(head: HeadSubject) -> None:
    """The loss of a batch is the sum of its rows' losses, and its labels the sum of theirs."""
    for module, batch in head.models():
        module.eval()
        together = _loss(module, batch)
        rows = [
            _loss(module, {name: value[row : row + 1] for name, value in batch.items()}) for row in range(3)
        ]
        counted = sum(int(row.num_labels) for row in rows)
        assert counted == int(together.num_labels), (
            f"its rows have {counted} labels, the batch {together.num_labels}"
        )
        require_alike(
            sum(row.total for row in rows), together.total, "losses of rows and of their batch", 1e-4
        )


def padding_changes_no_loss(head: HeadSubject) -> None:
    """More padding changes neither loss nor logits of what is real."""
    for module, batch in head.models():
        module.eval()
        wide = head.batch(module, more_padding=5)
        require_alike(_loss(module, wide).total, _loss(module, batch).total, "losses with more padding", 1e-4)


def gradients_reach_the_head(head: HeadSubject) -> None:
    """One backward pass gives every parameter of the head a gradient, and the backbone one."""
    for module, batch in head.models():
        _loss(module, batch).mean.backward()
        for name, parameter in module.heads.named_parameters():
            assert parameter.grad is not None, f"`{name}` gets no gradient"
            assert parameter.grad.isfinite().all(), f"`{name}` gets a gradient that is not finite"
        reached = any(part.grad is not None and part.grad.any() for part in module.backbone.parameters())
        assert reached, "no gradient reaches the backbone"


def the_head_learns_a_batch_by_heart(head: HeadSubject) -> None:
    """AdamW brings the loss of one batch to a third within 100 steps."""
    for module, batch in head.models():
        optimizer = torch.optim.AdamW(module.parameters(), lr=5e-3, weight_decay=0.0)
        losses: list[float] = []
        while len(losses) < 100 and not (losses and losses[-1] <= losses[0] / 3):
            optimizer.zero_grad()
            loss = _loss(module, batch).mean
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        told = f"under {type(module.spec).__name__} the loss goes from {losses[0]:.3g} to {losses[-1]:.3g}"
        assert losses[-1] <= losses[0] / 3, told


def measures_count_and_start_anew(head: HeadSubject) -> None:
    """Its measures are finite, `loss` among them, do not depend on how rows are batched, and reset."""
    for module, batch in head.models():
        module.eval()
        whole, pieces = [slice(0, 3)], [slice(0, 1), slice(1, 3)]
        metrics = module.head().metrics()
        found = [_measured(module, batch, metrics, whole)]
        metrics.reset()
        _measured(module, batch, metrics, pieces[:1])  # what is counted here must be forgotten
        metrics.reset()
        found.append(_measured(module, batch, metrics, pieces))
        assert "loss" in found[0], f"its measures are {', '.join(found[0])}; `loss` is not among them"
        for name, value in found[0].items():
            assert value.isfinite().all(), f"the measure `{name}` is {value}"
            require_alike(
                found[1][name].float(), value.float(), f"the measure `{name}` of other batches", 1e-4
            )


def _measured(
    module: ZooModule, batch: Batch, metrics: Metrics, pieces: Sequence[slice]
) -> dict[str, Tensor]:
    """The measures after these rows of a batch."""
    for piece in pieces:
        part = {name: value[piece] for name, value in batch.items()}
        part = module.head().prepare(part)
        metrics.update(module.head().loss(module.hidden_states(part), part), part)
    return {name: torch.as_tensor(value) for name, value in metrics.compute().items()}


def a_model_under_it_is_saved_and_loaded(head: HeadSubject) -> None:
    """Saved in the Hub's format and loaded, a model under it has the same weights and the same head."""
    for module, _ in head.models():
        with tempfile.TemporaryDirectory() as place:
            again = load(save(module, Path(place, "model")), head=head.spec())
            for name, tensor in module.state_dict().items():
                assert torch.equal(again.state_dict()[name], tensor), f"`{name}` comes back otherwise"


def a_checkpoint_describes_it(head: HeadSubject) -> None:
    """What a checkpoint keeps of a module under it makes the same module again."""
    for module, _ in head.models():
        kept = json.loads(json.dumps(module.described()))
        again = module_of(module.shape)(**kept)
        assert again.head_specs == module.head_specs, "its head comes back otherwise"
