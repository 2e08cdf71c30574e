"""Forward pass and training step of each registered family beside transformers, whose attention is sdpa.

Families are found by the registry, and made from what their specs write as config.json: of each with a
counterpart there, four layers of 256 under its language model's head, on four rows of 128 tokens, float32.
Both sides have the same weights and batch, and take turns of several steps; figures are medians over the
turns. A training step is a forward pass with loss, a backward pass, and AdamW. The last line is JSON; a ratio
above 1 says that the zoo is faster.

    python benchmarks/families.py [--only llama bert …] [--turns 9] [--steps 2] [--shared] [--keep]

With --shared one thread computes, and processor time is told: for cores that other programs use, too. With
--keep each family's figures take the place of its last ones in benchmarks/families.json, of which
`python docs/performance.py` makes a table.
"""

import argparse
import datetime
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
import transformers

from zoo.heads.base import Batch
from zoo.testing.counterparts import Counterpart, registered

SIZES = {
    "vocab_size": 4096,
    "hidden_size": 256,
    "intermediate_size": 1024,
    "moe_intermediate_size": 256,
    "decoder_intermediate_size": 1024,
    "num_hidden_layers": 4,
    "num_decoder_layers": 4,
    "num_attention_heads": 4,
    "num_decoder_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "query_pre_attn_scalar": 64,
    "max_position_embeddings": 256,
    "sliding_window": 64,
    "local_attention": 64,
    "layer_types": None,
    "initializer_range": 0.02,
}
"""Of every family that has such a field."""
ROWS, TOKENS = 4, 128
HEADS = ("CausalLM", "MaskedLM", "Seq2SeqLM")
"""Whose labels are tokens."""
KEPT = Path(__file__).with_suffix(".json")
Step = Callable[[], object]
Clock = Callable[[], float]


def sizes_of(counterpart: Counterpart) -> dict[str, Any]:
    """The sizes above that a family has; a feed-forward that it derives stays derived."""
    spec = counterpart.spec()
    names = {item.name for item in fields(spec)}
    return {
        name: size
        for name, size in SIZES.items()
        if name in names and (name == "layer_types" or getattr(spec, name) is not None)
    }


def batch_of(counterpart: Counterpart, sizes: dict[str, Any]) -> Batch:
    """Rows without padding, as many tokens read as written."""
    ids = torch.randint(3, sizes["vocab_size"], (ROWS, TOKENS), generator=torch.Generator().manual_seed(0))
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}


def training(model: Any, loss: Callable[[], torch.Tensor]) -> Step:
    """One step of AdamW."""
    optimizer = torch.optim.AdamW(model.parameters())

    def step() -> None:
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()

    return step


def by_turns(sides: dict[str, Step], turns: int, steps: int, clock: Clock) -> dict[str, float]:
    """Milliseconds a step of each side, and their ratio, as medians over the turns but the first."""
    took: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(turns + 1):
        for name, step in sides.items():
            start = clock()
            for _ in range(steps):
                step()
            took[name].append(1e3 * (clock() - start) / steps)
    ours, theirs = (found[1:] for found in took.values())
    return {
        **{f"{name}_ms": round(statistics.median(found[1:]), 2) for name, found in took.items()},
        "ratio": round(statistics.median(other / one for one, other in zip(ours, theirs, strict=True)), 3),
    }


def compare(counterpart: Counterpart, turns: int, steps: int, clock: Clock) -> dict[str, Any]:
    """Both sides of one family."""
    sizes = sizes_of(counterpart)
    with tempfile.TemporaryDirectory() as folder:
        counterpart.save(Path(folder), sizes)
        module, reference = counterpart.pair(Path(folder))
    theirs: Any = reference.model
    batch = batch_of(counterpart, sizes)
    asked = {"use_cache": False} if counterpart.family.shape != "encoder" else {}
    read = {name: part for name, part in batch.items() if name != "labels"}
    if counterpart.family.shape == "encoder-decoder":
        read["decoder_input_ids"] = batch["labels"]

    @torch.inference_mode()
    def ours_forward() -> object:
        return module(**read)

    @torch.inference_mode()
    def theirs_forward() -> object:
        return theirs(**read, **asked)

    module.eval(), theirs.eval()
    reading = {"zoo": ours_forward, "transformers": theirs_forward}
    found = {"forward": by_turns(reading, turns, 2 * steps, clock)}
    module.train(), theirs.train()
    head = module.head()
    learning = {
        "zoo": training(module, lambda: head.loss(module.hidden_states(batch), batch).mean),
        "transformers": training(theirs, lambda: theirs(**batch, **asked).loss),
    }
    found["training step"] = by_turns(learning, turns, steps, clock)
    return {
        "head": counterpart.head,
        "attention": theirs.config._attn_implementation,
        **found,
    }


def known() -> dict[str, Counterpart]:
    """The language model of each family that transformers has, too."""
    found: dict[str, Counterpart] = {}
    for counterpart in registered():
        if counterpart.head in HEADS and counterpart.architecture() is not None:
            found[counterpart.model_type] = counterpart
    return found


def keep(name: str, figures: dict[str, Any]) -> None:
    """Puts a family's figures in the place of its last ones."""
    kept = json.loads(KEPT.read_text("utf-8"))
    kept[name] = figures
    KEPT.write_text(json.dumps(dict(sorted(kept.items())), indent=1) + "\n", "utf-8")


def row(name: str, figures: dict[str, Any]) -> str:
    """One line of the table."""
    cells = [name, figures["head"], figures["attention"]]
    for what in ("forward", "training step"):
        took = figures[what]
        cells += [f"{took['zoo_ms']:.1f}", f"{took['transformers_ms']:.1f}", f"{took['ratio']:.2f}"]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Runs the families and prints the figures."""
    families = known()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--steps", type=int, default=2, help="of each turn; twice as many forward passes")
    parser.add_argument("--only", nargs="+", choices=families, default=list(families))
    parser.add_argument("--shared", action="store_true", help="count processor time, of one thread")
    parser.add_argument("--keep", action="store_true", help=f"write the figures to {KEPT.name}")
    choices = parser.parse_args()
    clock = time.process_time if choices.shared else time.perf_counter
    if choices.shared:
        torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    print("| family | head | peer's attention | forward, ms | peer | ratio | step, ms | peer | ratio |")
    print(f"|{'---|' * 9}")
    how = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "turns": choices.turns,
        "clock": clock.__name__,
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
    }
    found = {}
    for name in choices.only:
        found[name] = compare(families[name], choices.turns, choices.steps, clock)
        print(row(name, found[name]), flush=True)
        if choices.keep:
            keep(name, {**found[name], "measured": how})
    ratios = [figures[what]["ratio"] for figures in found.values() for what in ("forward", "training step")]
    print(json.dumps({"benchmark": KEPT.stem, "families": found, "ratio": min(ratios), **how}))


if __name__ == "__main__":
    main()
