"""GPT-3 beside torch's own layers, with copied weights and bands written out."""

import functools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import zoo
from zoo.errors import SpecError
from zoo.modules import DecoderModule
from zoo.testing import Reference
from zoo.testing.parity import Parity, padded_batch, scramble
from zoo.testing.ways import Way

from .conftest import STEPS, WAYS, of_torch

pytestmark = [  # the compiler's own
    pytest.mark.filterwarnings("ignore:.*torch.jit.script_method.*:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf"),
]
NAME = f"torch.nn {torch.__version__}"
# torch's attention has heads that fill the width.
TINY: dict[str, Any] = {**zoo.decoders.GPT3.tiny, "hidden_size": 36}
FULL, BANDED = "full_attention", "sliding_attention"
VARIANTS: dict[str, dict[str, Any]] = {
    "a band narrower than the text": {},
    "a band wider than the text": {"sliding_window": 50},
    "no band": {"sliding_window": None},
    "banded first": {"layer_types": [BANDED, FULL, BANDED], "num_hidden_layers": 3, "sliding_window": 2},
    "untied, narrow": {"tie_word_embeddings": False, "intermediate_size": 20},
}


class TorchGPT(nn.Module):
    """Written from the paper and torch's documentation: encoder layers normed before, each with its mask."""

    def __init__(self, spec: Any, bands: list[int | None]) -> None:
        super().__init__()
        self.embedding = nn.Embedding(spec.vocab_size, spec.hidden_size)
        self.positions = nn.Embedding(spec.max_position_embeddings, spec.hidden_size)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                spec.hidden_size,
                spec.num_attention_heads,
                spec.intermediate_size or 4 * spec.hidden_size,
                0.0,
                activation=functools.partial(F.gelu, approximate="tanh"),
                batch_first=True,
                norm_first=True,
            )
            for _ in bands
        )
        self.norm = nn.LayerNorm(spec.hidden_size)
        self.decoder = nn.Linear(spec.hidden_size, spec.vocab_size, bias=False)
        if spec.tie_word_embeddings:
            self.decoder.weight = self.embedding.weight
        self.bands = bands

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        ids = batch["input_ids"]  # padded at the end, where no real token looks
        length = ids.shape[1]
        x = self.embedding(ids) + self.positions(torch.arange(length))
        for layer, band in zip(self.layers, self.bands, strict=True):
            hidden = torch.tensor(
                [
                    [s > t or (band is not None and t - s >= band) for s in range(length)]
                    for t in range(length)
                ]
            )
            x = layer(x, src_mask=hidden)
        logits = self.decoder(self.norm(x))
        loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), batch["labels"][:, 1:].flatten())
        return logits, loss


def parts(spec: Any) -> dict[str, str]:
    found = {"embedding": "embedding", "positions": "positions", "norm": "norm"}
    if not spec.tie_word_embeddings:
        found["projection"] = "decoder"
    for index in range(spec.num_hidden_layers):
        mine, theirs = f"blocks.{index}", f"layers.{index}"
        found |= {
            f"{mine}.attention": f"{theirs}.self_attn",
            f"{mine}.attention_norm": f"{theirs}.norm1",
            f"{mine}.feedforward.up": f"{theirs}.linear1",
            f"{mine}.feedforward.down": f"{theirs}.linear2",
            f"{mine}.feedforward_norm": f"{theirs}.norm2",
        }
    return found


def built(**sizes: Any) -> DecoderModule:
    module = DecoderModule(backbone=zoo.decoders.GPT3(**{**zoo.decoders.GPT3.tiny, **sizes}))
    module.build()
    scramble(module)
    return module.eval()


def pair(**sizes: Any) -> tuple[DecoderModule, Reference]:
    module = built(**{**TINY, **sizes})
    band = module.spec.sliding_window
    kinds = module.spec.layer_types or [FULL, BANDED]
    bands = [band if kind == BANDED else None for kind in kinds]
    return module, of_torch(module, TorchGPT(module.spec, bands), parts(module.spec))


@pytest.mark.parametrize("variant", VARIANTS)
def test_logits_loss_and_every_gradient_equal_torch_in_parity(
    prove: Callable[..., Parity], variant: str
) -> None:
    prove(*pair(**VARIANTS[variant]), padded_batch(96), NAME, variant)


@pytest.mark.parametrize("way", WAYS)
def test_it_is_in_parity_however_it_is_computed(prove_in: Callable[..., None], way: Way) -> None:
    prove_in(way, pair, padded_batch(96), NAME)


def test_it_learns_what_torch_does_in_parity(prove_learning: Callable[..., None]) -> None:
    prove_learning(*pair(), [padded_batch(96, seed=step) for step in range(STEPS)], NAME)


# The paper's 1.3B has more heads than fill its width, so it is larger than its name.
@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("125M", 125), ("350M", 356), ("760M", 760), ("1.3B", 1517), ("2.7B", 2652), ("6.7B", 6658),
        ("13B", 12936), ("175B", 174604),
    ],
)  # fmt: skip
def test_the_papers_models_have_as_many_parameters(name: str, millions: int) -> None:
    with torch.device("meta"):
        model = zoo.decoders.GPT3.sized(name).build()
    assert round(sum(part.numel() for part in model.parameters()) / 1e6) == millions


LARGEST = """\
model:
  class_path: zoo.modules.DecoderModule
  init_args:
    backbone:
      class_path: zoo.decoders.GPT3
      init_args: {num_hidden_layers: 96, hidden_size: 12288, num_attention_heads: 96, head_dim: 128}
data:
  class_path: zoo.data.Text
  init_args: {source: text.txt, sequence_length: 2048}
"""


def test_the_largest_is_planned_on_many_devices_without_one(command: Any, workplace: Path) -> None:
    Path("gpt3.yaml").write_text(LARGEST)
    outcome = command("check", "gpt3.yaml", "--config", "presets/fsdp-tp-bf16", "--devices", "1024")
    assert (outcome.code, outcome.err) == (0, "")
    assert "│ together │ 174,604,259,328 │" in outcome.out
    assert "Each of 1024 devices, 1 row of 2048 tokens." in outcome.out
    held = dict(re.findall(r"│ ([a-z, ]+?) +│ +([\d.]+) [GM]iB │", outcome.out))
    # Four bytes of weights, as many of gradients and twice as many of AdamW's moments, of each parameter.
    weights = 4 * 174_604_259_328 / 1024 / 2**20
    assert float(held["weights"]) == float(held["gradients"]) == pytest.approx(weights, rel=0.01)
    assert float(held["optimizer"]) == pytest.approx(2 * weights / 1024, rel=0.01)


def test_every_other_layer_of_the_largest_sees_a_band() -> None:
    spec = zoo.decoders.GPT3.sized("175B")
    assert [spec.reach(index) for index in range(96)] == [None, 256] * 48


def test_what_a_block_adds_starts_smaller() -> None:
    module = DecoderModule(backbone=zoo.decoders.GPT3(num_hidden_layers=2, vocab_size=96))
    module.build()
    for name, std in (("attention.query", 0.02), ("attention.output", 0.01), ("feedforward.down", 0.01)):
        weight = module.backbone.get_parameter(f"blocks.1.{name}.weight")
        torch.testing.assert_close(weight.std().item(), std, rtol=0.02, atol=0)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"hidden_act": "gelo"}, "unknown `hidden_act` for zoo.decoders.GPT3, got 'gelo'"),
        ({"sliding_window": 0}, "`sliding_window` must be at least 1, got 0"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(sizes: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as caught:
        zoo.decoders.GPT3(**sizes)
    assert caught.value.message == message


def test_a_size_that_the_paper_does_not_have_is_refused() -> None:
    with pytest.raises(SpecError, match=r"^there is no GPT-3 of 17B\n"):
        zoo.decoders.GPT3.sized("17B")
