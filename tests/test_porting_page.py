"""docs/porting.md, followed: its code is the example's, and the plugin that comes of it conforms."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from zoo.cli.scaffolding import write
from zoo.errors import SpecError
from zoo.hub import save
from zoo.layers import IGNORED
from zoo.testing.checks import run
from zoo.testing.families import Family
from zoo.testing.parity import assert_parity, of_transformers
from zoo.testing.profiles import profile

DOCS = Path(__file__).parents[1] / "docs"
EXAMPLE = DOCS / "examples" / "smollm3.py"


def test_the_page_shows_pieces_of_the_example() -> None:
    page, example = (DOCS / "porting.md").read_text("utf-8"), EXAMPLE.read_text("utf-8")
    shown = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert len(shown) == 7
    for piece in shown[:-1]:  # the last one is a reader's, with the Hub
        assert piece in example, piece


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory, installed: Any) -> Iterator[Family]:
    """What the scaffold writes, with the example as its module and the spec's name as transformers has it."""
    place = tmp_path_factory.mktemp("porting")
    folder = write("smollm3", "decoder", place)
    for path in (*folder.rglob("*.toml"), *folder.rglob("*.yaml"), *folder.rglob("test_*.py")):
        path.write_text(path.read_text("utf-8").replace("Smollm3", "SmolLM3"), "utf-8")
    (folder / "smollm3" / "model.py").write_text(EXAMPLE.read_text("utf-8"), "utf-8")
    own = (folder / "pyproject.toml", EXAMPLE)
    assert sum(len(path.read_text("utf-8").splitlines()) for path in own) <= 150
    with installed(place / "site", folder):
        import zoo

        yield Family(zoo.decoders.SmolLM3)


QUICK = ("transformers_loads_what_it_saves", "cached_equals_uncached", "packed_equals_separate")


@pytest.mark.parametrize(
    "check",
    [
        pytest.param(one, id=one.name, marks=() if one.name in QUICK else pytest.mark.slow)
        for one in profile("family")
    ],
)
@pytest.mark.filterwarnings(
    "ignore:Mismatch dtype between input and weight",
    "ignore:.*torch.jit.script_method.*:DeprecationWarning",
    "ignore:The .grad attribute of a Tensor that is not a leaf",
)
def test_the_example_conforms(family: Family, check: Any) -> None:
    outcome = run(check, family)
    if check.name == "it_equals_the_authors_reference":
        assert outcome.reason == "its author gives no `reference`"
    else:
        assert outcome.state == "passed", outcome.reason


def test_it_is_equal_where_its_layers_are_named_one_by_one(family: Family, tmp_path: Path) -> None:
    kinds = ["sliding_attention", "full_attention"]
    module = family.scrambled(no_rope_layers=[0, 1], layer_types=kinds, attention_bias=True)
    batch = {name: value for name, value in family.batch().items() if name != "labels"}
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, IGNORED)
    _, reference = of_transformers(save(module, tmp_path / "model"))
    assert_parity(module, reference, {**batch, "labels": labels})


def test_layers_that_are_not_spoken_of_are_refused(family: Family) -> None:
    told = "`no_rope_layers` must speak of 3 layers, got 1\n  at    no_rope_layers"
    with pytest.raises(SpecError, match=f"^{told}$"):
        family.spec(num_hidden_layers=3, no_rope_layers=[1])
