"""`zoo schema`: packaged recipes fit it, mistakes do not, and it says what fields mean."""

import copy
import json
from typing import Any

import pytest

from zoo import registry
from zoo.cli import recipes
from zoo.cli.schema import schema

jsonschema = pytest.importorskip("jsonschema")


@pytest.fixture(scope="module")
def known() -> Any:
    return jsonschema.Draft202012Validator(schema())


def decoder() -> Any:
    return copy.deepcopy(recipes.load(registry.recipes()["quickstart/decoder"].read_text("utf-8")))


@pytest.mark.parametrize("name", registry.recipes())
def test_a_packaged_recipe_fits(known: Any, name: str) -> None:
    values = recipes.load(registry.recipes()[name].read_text("utf-8"))
    assert not [error.message for error in known.iter_errors(json.loads(json.dumps(values)))]


MISTAKES = {
    "a key at the top": lambda recipe: recipe.update(modle={}),
    "an argument of the model": lambda recipe: recipe["model"]["init_args"].update(optimiser={}),
    "a size": lambda recipe: recipe["model"]["init_args"]["backbone"]["init_args"].update(hiden_size=3),
    "a type": lambda recipe: recipe["model"]["init_args"]["backbone"]["init_args"].update(hidden_size="wide"),
    "a choice of data": lambda recipe: recipe["data"]["init_args"].update(tokenizer="bpee"),
    "a key beside class_path": lambda recipe: recipe["data"].update(source="x"),
    "an argument of the trainer": lambda recipe: recipe["trainer"].update(max_epoch=3),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_does_not_fit(known: Any, mistake: str) -> None:
    recipe = decoder()
    assert known.is_valid(recipe)
    MISTAKES[mistake](recipe)
    assert not known.is_valid(recipe)


def test_fields_say_what_they_mean(known: Any) -> None:
    llama = known.schema["$defs"]["zoo.decoders.Llama"]["properties"]
    assert (
        llama["num_key_value_heads"]["description"]
        == "Heads of keys and values; None: as many as query heads."
    )
    assert llama["hidden_size"] == {
        "type": "integer", "default": 4096, "description": "Width of the residual stream."
    }  # fmt: skip
    assert (
        known.schema["$defs"]["zoo.data.Text"]["properties"]["batch_size"]["description"]
        == "Rows of a batch."
    )


def test_it_is_a_schema(known: Any, command: Any) -> None:
    jsonschema.Draft202012Validator.check_schema(known.schema)
    assert json.loads(command("schema").out)["title"] == "A recipe of Lightning Zoo"
