"""What is written: whole, once, and in the Hub's own words."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors import safe_open
from torch.testing import assert_close

import zoo
from zoo.errors import CheckpointError
from zoo.hub import weights
from zoo.modules import DecoderModule

Build = Callable[..., DecoderModule]
FILES = {
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
}


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_folder_holds_the_hubs_files_and_nothing_else(folder: Path) -> None:
    assert names(folder) == FILES
    assert names(folder.parent) == {"model"}


def test_config_says_what_the_hub_needs(folder: Path, model: DecoderModule) -> None:
    text = (folder / "config.json").read_text()
    config = json.loads(text)
    assert text == json.dumps(config, indent=2, sort_keys=True) + "\n"
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert config["model_type"] == "llama"
    assert config["dtype"] == "float32"
    assert config["hidden_size"] == 32
    generation = json.loads((folder / "generation_config.json").read_text())
    assert generation == {"bos_token_id": config["bos_token_id"], "eos_token_id": config["eos_token_id"]}


def test_a_folder_loads_back_equal(folder: Path, model: DecoderModule) -> None:
    loaded = zoo.load(folder)
    assert loaded.spec == model.spec
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)


def test_a_half_precision_model_says_so(model: DecoderModule, tmp_path: Path) -> None:
    zoo.save(model.to(torch.bfloat16), tmp_path / "half")
    assert json.loads((tmp_path / "half" / "config.json").read_text())["dtype"] == "bfloat16"
    assert zoo.load(tmp_path / "half").backbone.embedding.weight.dtype == torch.bfloat16


def test_a_model_that_was_not_built_is_built(tmp_path: Path) -> None:
    llama = zoo.decoders.Llama
    zoo.save(DecoderModule(backbone=llama(**llama.tiny)), tmp_path / "fresh")
    assert zoo.load(tmp_path / "fresh").spec == llama(**llama.tiny)


@pytest.mark.parametrize("existing", [False, True])
@pytest.mark.parametrize("failing", ["zoo.hub.weights.save_file", "zoo.hub.config.write_json"])
def test_a_write_that_fails_leaves_things_as_they_were(
    model: DecoderModule, tmp_path: Path, existing: bool, failing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "model"
    if existing:
        zoo.save(model, folder)
    before = contents(folder) if existing else None
    torch.nn.init.zeros_(model.backbone.embedding.weight)

    def full(*given: Any, **named: Any) -> None:
        (folder.parent / ".model.part" / "model.safetensors").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(failing, full)
    with pytest.raises(OSError, match=r"^\[Errno 28\] No space left on device$"):
        zoo.save(model, folder)
    if existing:
        assert contents(folder) == before
    assert names(tmp_path) == ({"model"} if existing else set())


def test_what_an_interrupted_save_left_is_no_hindrance(model: DecoderModule, tmp_path: Path) -> None:
    (tmp_path / ".model.part").mkdir()
    (tmp_path / ".model.part" / "rest").write_text("half")
    zoo.save(model, tmp_path / "model")
    assert names(tmp_path / "model") == FILES
    assert names(tmp_path) == {"model"}


def test_a_folder_that_is_a_file_is_refused(model: DecoderModule, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("mine")
    with pytest.raises(CheckpointError) as caught:
        zoo.save(model, path)
    assert str(caught.value) == f"{path} is a file; a model is saved as a folder"
    assert path.read_text() == "mine"


def test_parents_are_made_and_the_working_folder_serves(
    model: DecoderModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert zoo.save(model, tmp_path / "a" / "b" / "c") == tmp_path / "a" / "b" / "c"
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    zoo.save(model, ".")
    assert names(tmp_path / "here") == FILES
    assert zoo.save(model, "inner") == Path("inner")
    assert names(tmp_path / "here" / "inner") == FILES


def test_a_model_can_be_saved_where_it_was_loaded_from(folder: Path) -> None:
    before = contents(folder)
    loaded = zoo.load(folder)
    zoo.save(loaded, folder)
    assert contents(folder) == before
    torch.nn.init.ones_(loaded.backbone.embedding.weight)
    zoo.save(loaded, folder)
    assert zoo.load(folder).backbone.embedding.weight.eq(1).all()


def test_nothing_of_another_model_is_left_to_mislead(folder: Path) -> None:
    for name in (
        "model-00001-of-00002.safetensors",
        "model.safetensors.index.json",
        "chat_template.jinja",
        "README.md",
        "notes.safetensors",
    ):
        (folder / name).write_text("of another model")
    llama = zoo.decoders.Llama
    zoo.save(DecoderModule(backbone=llama(**llama.tiny)), folder)  # it has no tokenizer
    assert names(folder) == FILES - {"tokenizer.json", "tokenizer_config.json"} | {
        "README.md",
        "notes.safetensors",
    }
    assert zoo.load(folder).tokenizer is None


def test_generation_config_goes_round(model: DecoderModule, tmp_path: Path) -> None:
    model.generation_config = {
        "do_sample": True,
        "temperature": 0.6,
        "eos_token_id": [2, 5],
        "max_new_tokens": 9,
    }
    zoo.save(model, tmp_path / "one")
    loaded = zoo.load(tmp_path / "one")
    assert loaded.generation_config == {**model.generation_config, "bos_token_id": 1}
    zoo.save(loaded, tmp_path / "two")
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    theirs = transformers.GenerationConfig.from_pretrained(tmp_path / "one")
    assert (theirs.do_sample, theirs.temperature, theirs.eos_token_id) == (True, 0.6, [2, 5])


def test_the_tokenizers_special_ids_stand_in_the_configs_where_the_spec_has_none(
    build: Build, tmp_path: Path
) -> None:
    model = build(bos_token_id=None, eos_token_id=None)
    end = model.tokenizer.special_id("eos_token")  # type: ignore[union-attr]
    zoo.save(model, tmp_path / "model")
    for name in ("config.json", "generation_config.json"):
        values = json.loads((tmp_path / "model" / name).read_text())
        assert (values["bos_token_id"], values["eos_token_id"]) == (end, end)


def test_tied_weights_are_saved_once(build: Build, tmp_path: Path) -> None:
    model = build(tie_word_embeddings=True)
    zoo.save(model, tmp_path / "tied")
    with safe_open(tmp_path / "tied" / "model.safetensors", "pt") as file:
        assert "lm_head.weight" not in file.keys()  # noqa: SIM118 - not a mapping
        assert file.metadata() == {"format": "pt"}
    loaded = zoo.load(tmp_path / "tied")
    assert loaded.head().projection.weight is loaded.backbone.embedding.weight
    ids = torch.randint(0, 300, (1, 5))
    assert_close(loaded(ids).logits, model(ids).logits, rtol=0, atol=0)


def test_tokenizer_files_and_the_chat_template_go_round(folder: Path, tmp_path: Path) -> None:
    template = "{% for message in messages %}{{ message.content }}{% endfor %}\n"
    (folder / "chat_template.jinja").write_text(template)
    zoo.save(zoo.load(folder), tmp_path / "again")
    assert contents(tmp_path / "again") == contents(folder)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "again")
    assert theirs.apply_chat_template([{"role": "user", "content": "hi"}], tokenize=False) == "hi"
    assert theirs.eos_token == "<|endoftext|>"


def test_weights_on_another_layout_are_written_as_they_read(tmp_path: Path) -> None:
    tensor = torch.arange(12.0).reshape(3, 4).T
    weights.write({"a": tensor}, tmp_path)
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert torch.equal(file.get_tensor("a"), tensor)


def test_permissions_of_saved_files_follow_the_users_mask(folder: Path) -> None:
    before = os.umask(0)
    os.umask(before)
    for path in folder.iterdir():
        assert path.stat().st_mode & 0o777 == 0o666 & ~before, path.name
