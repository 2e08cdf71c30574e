"""The short verbs: check, list, generate, export."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch.testing import assert_close

import zoo
from zoo import registry
from zoo.cli import HELP, main

Command = Callable[..., Any]

CKPT = Path("runs", "recipe", "version_0", "checkpoints", "last.ckpt")


@pytest.fixture
def trained(command: Command, workplace: Path) -> str:
    assert command("fit", "--config", "recipe.yaml").code == 0
    return str(CKPT)


def test_help_and_version_are_printed(command: Command) -> None:
    for arguments in ((), ("--help",), ("-h",), ("help",)):
        outcome = command(*arguments)
        assert (outcome.code, outcome.out) == (0, HELP + "\n")
    assert command("--version").out == "zoo 0.1.0\n"


@pytest.mark.parametrize("verb", ["check", "list", "generate", "chat", "export"])
def test_each_short_verb_helps(command: Command, verb: str) -> None:
    outcome = command(verb, "--help")
    assert outcome.code == 0
    assert f"zoo {verb}" in outcome.out


@pytest.mark.parametrize("verb", ["fit", "validate", "test", "predict"])
def test_each_long_verb_helps(command: Command, verb: str) -> None:
    outcome = command(verb, "--help")
    assert outcome.code == 0
    assert "--config" in outcome.out


# check


def test_check_counts_the_parameters(command: Command, workplace: Path) -> None:
    before = sorted(workplace.rglob("*"))
    outcome = command("check", "recipe.yaml")
    assert (outcome.code, outcome.err) == (0, "")
    rows = [line.split() for line in outcome.out.replace("│", " ").splitlines()]
    vocabulary = 300 * 16
    block = 4 * 16 * 16 + 3 * 16 * 32 + 2 * 16
    assert ["backbone", f"{vocabulary + block + 16:,}"] in rows
    assert ["head", f"{vocabulary:,}"] in rows
    assert ["together", f"{2 * vocabulary + block + 16:,}"] in rows
    assert sorted(workplace.rglob("*")) == before


def test_a_tied_weight_is_counted_once(command: Command, workplace: Path) -> None:
    outcome = command("check", "recipe.yaml", "--model.backbone.tie_word_embeddings", "true")
    assert ["head", "0"] in [line.split() for line in outcome.out.replace("│", " ").splitlines()]


def test_check_needs_neither_weights_nor_data(command: Command, workplace: Path) -> None:
    (workplace / "text.txt").unlink()
    huge = ("--model.backbone.hidden_size", "16384", "--model.backbone.num_hidden_layers", "80")
    outcome = command("check", "recipe.yaml", *huge, "--trainer.accelerator", "gpu")
    assert outcome.code == 0


def test_check_counts_what_each_of_several_devices_holds(command: Command, workplace: Path) -> None:
    for flags in (("--devices", "4"), ("--devices=4",)):
        outcome = command("check", "recipe.yaml", *flags)
        assert (outcome.code, outcome.err) == (0, "")
        assert "Each of 4 devices, 1 row of 48 tokens." in outcome.out
        rows = [line.split() for line in outcome.out.replace("│", " ").splitlines()]
        parameters = 2 * 300 * 16 + 4 * 16 * 16 + 3 * 16 * 32 + 3 * 16
        assert ["weights", f"{parameters * 4 / 4 / 1024:.4g}", "KiB"] in rows


@pytest.mark.parametrize("value", ["0", "-1", "many", ""])
def test_a_number_of_devices_that_is_none_is_refused(command: Command, workplace: Path, value: str) -> None:
    outcome = command("check", "recipe.yaml", "--devices", value)
    assert outcome.code == 2
    assert outcome.err == f"zoo: `--devices` must be a number of at least 1, got `{value}`\n"


def test_devices_that_tensor_parallelism_does_not_divide_are_refused(
    command: Command, workplace: Path
) -> None:
    outcome = command("check", "recipe.yaml", "--devices", "3", "--config", "presets/tp-bf16")
    assert outcome.code == 2
    assert outcome.err.startswith("zoo: `tensor_parallel_size` must divide the 3 devices, got 2\n")


# list


def test_list_shows_every_kind_as_a_table(command: Command) -> None:
    lines = command("list").out.splitlines()
    for kind in ("families", "heads", "modules", "data", "callbacks", "schedules", "recipes", "plugins"):
        assert kind in lines
    rows = [line.split() for line in lines]
    assert ["zoo.decoders.Llama", "llama", "lightning-zoo", "0.1.0", "ok"] in rows
    assert ["quickstart/decoder", str(registry.recipe_path("quickstart/decoder"))] in rows


def test_list_shows_the_kinds_that_are_asked_for(command: Command) -> None:
    for words in (("heads", "recipes"), ("heads,recipes",), ("heads,", "recipes")):
        found = json.loads(command("list", *words, "--json").out)
        assert list(found) == ["heads", "recipes"]
    row = {"name": "zoo.heads.CausalLM", "entry": "causal_lm", "plugin": "lightning-zoo 0.1.0", "state": "ok"}
    assert row in found["heads"]


def test_everything_is_listed_as_json(command: Command) -> None:
    found = json.loads(command("list", "--json").out)
    listed = sum(len(found[kind]) for kind in found if kind not in ("recipes", "plugins"))
    assert listed == sum(entry.group != "zoo.recipes" for entry in registry.entries())
    [plugin] = [row for row in found["plugins"] if row["name"] == "lightning-zoo"]
    assert {"llama", "causal_lm", "quickstart"} <= set(plugin["registers"].split())


def test_a_reader_that_leaves_early_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(*arguments: Any) -> None:
        raise BrokenPipeError

    class Stream:
        write = closed

        def close(self) -> None:
            pass

    monkeypatch.setattr("sys.stdout", Stream())
    monkeypatch.setattr("sys.stderr", Stream())
    main(["list"])


# generate and export


def test_generate_continues_greedily_and_by_sampling(command: Command, trained: str) -> None:
    def text(*flags: str) -> str:
        outcome = command("generate", trained, "the cat", "--max-new-tokens", "12", *flags)
        assert (outcome.code, outcome.err) == (0, "")
        return str(json.loads(outcome.out)["text"])

    assert text() == text() == zoo.load(trained).generate("the cat", max_new_tokens=12)
    drawn = [text("--temperature", "1.5", "--seed", seed) for seed in "1123"]
    assert drawn[0] == drawn[1]
    assert len(set(drawn)) == 3
    assert text("--temperature", "1.5", "--top-k", "1") == text()
    assert text("--temperature", "1.5", "--top-p", "0.000001") == text()


def test_generate_stops_at_a_text(command: Command, trained: str) -> None:
    whole = zoo.load(trained).generate("the cat", max_new_tokens=12)
    stop = whole[3:5]
    outcome = command("generate", trained, "the cat", "--max-new-tokens", "12", "--stop", stop)
    assert json.loads(outcome.out)["text"] == whole[: whole.index(stop)]


@pytest.mark.parametrize(
    ("prompt", "flags", "message"),
    [
        ("", (), "prompt 0 is empty\n  give at least one token to continue"),
        ("the cat", ("--max-new-tokens", "999"), "the model sees at most 48 tokens; the prompt has "),
        ("cat " * 99, (), "the model sees at most 48 tokens; the prompt has "),
    ],
)
def test_a_prompt_that_cannot_be_followed_is_one_screen(
    command: Command, trained: str, prompt: str, flags: tuple[str, ...], message: str
) -> None:
    outcome = command("generate", trained, prompt, *flags)
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith(f"zoo: {message}")
    assert len(outcome.err.splitlines()) == 2


def test_export_is_what_transformers_loads_and_generate_reads(command: Command, trained: str) -> None:
    outcome = command("export", trained, "exported")
    assert (outcome.code, outcome.err) == (0, "")
    folder, _, files = outcome.out.strip().partition(" holds: ")
    assert folder == "exported"
    assert set(files.split(", ")) == {path.name for path in Path("exported").iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(files.split(", "))
    theirs, info = transformers.AutoModelForCausalLM.from_pretrained("exported", output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    ours = zoo.load(trained)
    ids = torch.tensor([ours.tokenizer.encode("the cat sat on the mat")])
    assert_close(ours(ids).logits, theirs(ids).logits, rtol=1e-5, atol=1e-5)
    from_folder, from_checkpoint = (
        command("generate", model, "the cat", "--max-new-tokens", "8") for model in ("exported", trained)
    )
    assert from_folder.out == from_checkpoint.out
    assert from_folder.code == 0
