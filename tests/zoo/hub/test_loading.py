"""What does not fit is refused in one screen that names it; what is code never runs."""

import json
import os
import pickle
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

import zoo
from zoo import registry
from zoo.errors import CheckpointError, SpecError, UnknownNameError, ZooError
from zoo.modules import DecoderModule

Edit = Callable[..., None]


def refusal(model: Path | str, kind: type[ZooError] = CheckpointError, **choices: Any) -> str:
    with pytest.raises(kind) as caught:
        zoo.load(model, **choices)
    return str(caught.value)


# config.json


def test_an_unknown_key_is_named_with_the_file_and_the_nearest_key(folder: Path, edit: Edit) -> None:
    edit(hiden_size=32)
    assert refusal(folder, SpecError) == (
        "unknown key `hiden_size` for zoo.decoders.Llama\n"
        "  at    hiden_size\n"
        f"  in    {folder}/config.json\n"
        "  did you mean `hidden_size`?"
    )


def test_a_value_that_the_family_does_not_have_is_named_with_the_file(folder: Path, edit: Edit) -> None:
    edit(rope_parameters={"rope_type": "yarn", "rope_theta": 1e4})
    assert refusal(folder, SpecError) == (
        "unknown `rope_type` of rope_parameters, got 'yarn'\n"
        "  at    rope_parameters.rope_type\n"
        f"  in    {folder}/config.json\n"
        "  known: default, linear, llama3"
    )


def test_an_unknown_model_type_names_the_nearest(folder: Path, edit: Edit) -> None:
    edit(model_type="lama")
    families = [entry.name for group in registry.FAMILIES for entry in registry.in_group(group)]
    assert refusal(folder, UnknownNameError) == (
        "no installed plugin registers the model_type `lama`\n"
        "  did you mean `llama`?\n"
        f"  registered: {', '.join(sorted(families))}\n"
        "  a plugin adds one by an entry point `lama` in one of zoo.encoders, zoo.decoders, "
        "zoo.encoder_decoders"
    )


@pytest.mark.parametrize("model_type", [None, 5, ["llama"]])
def test_a_config_without_a_model_type_is_refused(folder: Path, edit: Edit, model_type: Any) -> None:
    edit(model_type=model_type)
    assert refusal(folder) == (
        f"{folder}/config.json names no `model_type`, so no family can be found for it"
    )


def test_a_folder_without_a_config_is_no_model(tmp_path: Path) -> None:
    assert refusal(tmp_path) == f"{tmp_path} holds no config.json, so it is no model in the Hub's format"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[1, 2]", "{} holds no JSON object"),
        (b'{"a": ', "{} cannot be read: Expecting value: line 1 column 7 (char 6)"),
        (b"", "{} cannot be read: Expecting value: line 1 column 1 (char 0)"),
        (
            b'{"a": "\xff"}',
            "{} cannot be read: 'utf-8' codec can't decode byte 0xff in position 7: invalid start byte",
        ),
    ],
)
def test_a_config_that_is_no_json_object_is_refused(folder: Path, content: bytes, message: str) -> None:
    path = folder / "config.json"
    path.write_bytes(content)
    assert refusal(folder) == message.format(path)


def test_an_unknown_architecture_says_which_head_to_give(folder: Path, edit: Edit) -> None:
    edit(architectures=["LlamaForTranslation"])
    assert refusal(folder) == (
        f"{folder} was saved as LlamaForTranslation, which is no head that the zoo knows for this "
        "family\n  give one: head=zoo.heads.CausalLM()"
    )
    assert zoo.load(folder, head=zoo.heads.CausalLM()).is_built
    edit(architectures=None)
    assert refusal(folder).startswith(f"{folder} was saved as none, which is no head that the zoo knows")


def test_keys_of_other_tools_that_say_nothing_about_the_numbers_are_passed_over(
    folder: Path, edit: Edit
) -> None:
    edit(transformers_version="4.30.0", use_cache=True, pretraining_tp=1, _name_or_path="x/y")
    assert zoo.load(folder).spec == zoo.decoders.Llama(**{**zoo.decoders.Llama.tiny, "vocab_size": 300})


# Weights


def test_a_missing_tensor_is_named(folder: Path, edit_tensors: Edit) -> None:
    edit_tensors({"model.norm.weight": None})
    assert refusal(folder) == f"tensor `model.norm.weight` is missing from {folder}"
    edit_tensors({"lm_head.weight": None, "model.layers.0.mlp.up_proj.weight": None})
    assert refusal(folder) == f"tensor `lm_head.weight` and 2 more is missing from {folder}"


def test_an_unused_tensor_is_named_with_the_nearest(folder: Path, edit_tensors: Edit) -> None:
    edit_tensors({"model.norms.weight": torch.ones(32)})
    assert refusal(folder) == (
        f"tensor `model.norms.weight` of {folder}/model.safetensors has no place in the model\n"
        "  did you mean `model.norm.weight`?"
    )


def test_a_tensor_of_another_shape_is_named_with_both_shapes(folder: Path, edit_tensors: Edit) -> None:
    edit_tensors({"model.norm.weight": torch.ones(16)})
    assert refusal(folder) == (
        f"tensor `model.norm.weight` of {folder}/model.safetensors has shape (16,), "
        "config.json asks for (32,)"
    )


def test_sizes_that_the_weights_do_not_have_are_refused(folder: Path, edit: Edit) -> None:
    edit(num_hidden_layers=3)
    message = refusal(folder)
    assert re.fullmatch(
        rf"tensor `model\.layers\.2\.input_layernorm\.weight` and 8 more is missing from {folder}", message
    )


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_a_cut_off_file_is_refused(folder: Path, share: float) -> None:
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    message = refusal(folder)
    assert message.startswith(f"{path} is no safetensors file, or is cut off: ")
    assert "\n" not in message


def test_a_folder_of_pickled_weights_alone_is_refused(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({}))
    assert refusal(folder) == f"{folder} holds no model.safetensors\n  pickled weights are not read"


def shard(folder: Path, number: int = 3) -> Path:
    """The folder's weights in several files with an index; the index."""
    whole = folder / "model.safetensors"
    tensors = load_file(whole)
    whole.unlink()
    names = [f"model-{index + 1:05}-of-{number:05}.safetensors" for index in range(number)]
    weight_map = {name: names[place % number] for place, name in enumerate(sorted(tensors))}
    for file in names:
        save_file(
            {name: tensor for name, tensor in tensors.items() if weight_map[name] == file}, folder / file
        )
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return index


def test_a_model_in_several_files_loads_equal(folder: Path) -> None:
    expected = zoo.load(folder).state_dict()
    shard(folder)
    loaded = zoo.load(folder).state_dict()
    assert loaded.keys() == expected.keys()
    assert all(torch.equal(loaded[name], expected[name]) for name in expected)


@pytest.mark.parametrize(
    "name", ["../outside.safetensors", "/etc/passwd", "..", "sub/x.safetensors", "gone.safetensors", ""]
)
def test_an_index_names_only_files_beside_it(folder: Path, name: str) -> None:
    index = shard(folder)
    (folder.parent / "outside.safetensors").write_bytes(b"")
    (folder / "sub").mkdir()
    (folder / "sub" / "x.safetensors").write_bytes(b"")
    value = json.loads(index.read_text())
    value["weight_map"]["lm_head.weight"] = name
    index.write_text(json.dumps(value))
    assert refusal(folder) == f"{index} names `{name}`, which is no file beside it"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "{} cannot be read: "),
        ("[]", "{} holds no JSON object"),
        ("{}", "{} has no `weight_map`, so it names no file"),
        ('{"weight_map": ["a"]}', "{} has no `weight_map`, so it names no file"),
        ('{"weight_map": {"a": ["b"]}}', "{} names `['b']`, which is no file beside it"),
    ],
)
def test_an_index_that_is_no_index_is_refused(folder: Path, content: str, message: str) -> None:
    index = shard(folder)
    index.write_text(content)
    assert refusal(folder).startswith(message.replace("{}", str(index), 1))


# Tokenizer and generation_config.json


def test_a_broken_tokenizer_is_refused(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{")
    assert refusal(folder).startswith(f"the tokenizer in {folder} cannot be read: ")


def test_a_tokenizer_with_more_ids_than_embeddings_is_refused(
    build: Callable[..., DecoderModule], tmp_path: Path, folder: Path
) -> None:
    small = DecoderModule(backbone=zoo.decoders.Llama(**zoo.decoders.Llama.tiny))
    zoo.save(small, tmp_path / "small")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "small" / name).write_bytes((folder / name).read_bytes())
    assert refusal(tmp_path / "small", SpecError).startswith("the tokenizer has ")


def test_a_broken_generation_config_is_refused(folder: Path) -> None:
    (folder / "generation_config.json").write_text("nothing")
    assert refusal(folder) == (
        f"{folder}/generation_config.json cannot be read: Expecting value: line 1 column 1 (char 0)"
    )


def test_a_model_without_a_tokenizer_loads(folder: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        (folder / name).unlink()
    loaded = zoo.load(folder)
    assert loaded.tokenizer is None
    assert loaded.generation_config == {}


# Names


def test_a_name_that_is_neither_a_folder_nor_a_hub_id_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "nowhere"
    assert refusal(path, SpecError) == (f"`{path}` is neither a folder nor a Hub id `owner/name[@revision]`")


def test_code_in_a_repository_never_runs(folder: Path, edit: Edit, tmp_path: Path) -> None:
    trap = f"open({str(tmp_path / 'ran')!r}, 'w').close()\nclass Model: ...\n"
    for name in ("modeling_llama.py", "configuration_llama.py", "__init__.py", "sitecustomize.py"):
        (folder / name).write_text(trap)
    edit(auto_map={"AutoModelForCausalLM": "modeling_llama.Model", "AutoConfig": "configuration_llama.Model"})
    edit("tokenizer_config.json", auto_map={"AutoTokenizer": ["modeling_llama.Model", None]})
    assert zoo.load(folder).is_built
    assert not (tmp_path / "ran").exists()


# Choices


def test_dtype_and_device_are_as_asked_for_and_the_model_is_in_eval_mode(folder: Path) -> None:
    loaded = zoo.load(folder, dtype=torch.float64, device="cpu")
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float64}
    assert {parameter.device.type for parameter in loaded.parameters()} == {"cpu"}
    assert not any(part.training for part in loaded.modules())
    assert zoo.load(str(folder)).backbone.embedding.weight.dtype == torch.float32


def test_loading_changes_no_global_default(folder: Path) -> None:
    zoo.load(folder, dtype=torch.bfloat16)
    assert torch.get_default_dtype() == torch.float32
    assert torch.empty(0).device.type == "cpu"


# Checkpoints of runs


@pytest.fixture
def checkpoint(model: DecoderModule, tmp_path: Path) -> Path:
    """The tiny Llama as a run leaves it."""
    path = tmp_path / "last.ckpt"
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False)
    trainer.strategy.connect(model)
    model.generation_config = {"max_new_tokens": 5}
    trainer.save_checkpoint(path)
    return path


def test_a_runs_checkpoint_loads_with_its_tokenizer(checkpoint: Path, model: DecoderModule) -> None:
    loaded = zoo.load(checkpoint)
    ids = torch.randint(0, 300, (2, 7))
    assert_close(loaded(ids).logits, model(ids).logits, rtol=0, atol=0)
    assert loaded.tokenizer.encode("the cat") == model.tokenizer.encode("the cat")  # type: ignore[union-attr]
    assert loaded.generation_config == {"max_new_tokens": 5}
    assert not loaded.training
    assert zoo.load(checkpoint, dtype=torch.bfloat16).backbone.embedding.weight.dtype == torch.bfloat16


def test_a_runs_checkpoint_holds_tensors_and_plain_values_alone(checkpoint: Path) -> None:
    saved = torch.load(checkpoint, weights_only=True)
    plain = json.dumps({key: saved[key] for key in ("zoo", "hyper_parameters")})
    assert json.loads(plain)["zoo"]["module"] == "zoo.modules.DecoderModule"


def test_a_checkpoint_loads_in_a_process_that_knows_nothing_of_the_run(
    model: DecoderModule, tmp_path: Path
) -> None:
    """Its optimizer's module is not there any more, and nothing it names is imported."""
    sources = tmp_path / "sources"
    sources.mkdir()
    (sources / "private_optimizer.py").write_text(
        "import torch\n\n\nclass Mine(torch.optim.SGD):\n    pass\n"
    )
    script = """
import functools, sys
import lightning as L, zoo
sys.path.insert(0, "sources")
from private_optimizer import Mine
module = zoo.modules.DecoderModule(
    backbone=zoo.decoders.Llama(**zoo.decoders.Llama.tiny), optimizer=functools.partial(Mine, lr=0.5)
)
module.build()
trainer = L.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False)
trainer.strategy.connect(module)
trainer.save_checkpoint("last.ckpt")
"""
    run = {"cwd": tmp_path, "check": True, "capture_output": True, "text": True, "timeout": 120}
    subprocess.run([sys.executable, "-c", script], **run)  # type: ignore[call-overload]
    elsewhere = """
import sys, zoo
model = zoo.load("last.ckpt")
assert "private_optimizer" not in sys.modules
print(model.generate(__import__("torch").ones(1, 3, dtype=int), max_new_tokens=2))
print(model.hparams["optimizer"])
"""
    done = subprocess.run([sys.executable, "-c", elsewhere], **run)  # type: ignore[call-overload]
    rows, optimizer = done.stdout.splitlines()
    assert len(json.loads(rows)[0]) == 2
    assert optimizer == "{'class_path': 'private_optimizer.Mine', 'init_args': {'lr': 0.5}}"


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def test_a_pickled_object_in_a_checkpoint_never_runs(checkpoint: Path, tmp_path: Path) -> None:
    saved = torch.load(checkpoint, weights_only=True)
    for place in ("zoo", "hyper_parameters", "state_dict"):
        torch.save({**saved, place: {"bomb": Bomb(tmp_path / "ran")}}, checkpoint)
        assert refusal(checkpoint) == (
            f"{checkpoint} holds more than tensors and plain values, so it is not read"
        )
    checkpoint.write_bytes(pickle.dumps({"zoo": Bomb(tmp_path / "ran")}))
    assert refusal(checkpoint) == (
        f"{checkpoint} is no checkpoint, or is cut off: it does not end as one does"
    )
    assert not (tmp_path / "ran").exists()


def test_a_class_path_in_a_checkpoint_imports_nothing(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "trap.py").write_text("raise SystemExit('imported')\n")
    sys.path.insert(0, str(tmp_path))
    saved = torch.load(checkpoint, weights_only=True)
    try:
        torch.save({**saved, "zoo": {**saved["zoo"], "module": "trap.Module"}}, checkpoint)
        assert refusal(checkpoint) == f"{checkpoint} was made by `trap.Module`, which no plugin registers"
        hyper = {**saved["hyper_parameters"], "backbone": {"class_path": "trap.Spec", "init_args": {}}}
        torch.save({**saved, "hyper_parameters": hyper}, checkpoint)
        assert refusal(checkpoint, SpecError) == (
            "`trap.Spec` is not registered by any plugin\n  import trap first"
        )
    finally:
        sys.path.remove(str(tmp_path))
    assert "trap" not in sys.modules


@pytest.mark.parametrize("named", ["os.system", "zoo.hub.load", "zoo.modules.base.Output", 5, None])
def test_a_checkpoint_of_something_that_is_no_module_is_refused(checkpoint: Path, named: Any) -> None:
    saved = torch.load(checkpoint, weights_only=True)
    torch.save({**saved, "zoo": {**saved["zoo"], "module": named}}, checkpoint)
    assert refusal(checkpoint) == f"{checkpoint} was made by `{named}`, which no plugin registers"


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_cut_off_checkpoint_is_refused(checkpoint: Path, share: float) -> None:
    whole = checkpoint.read_bytes()
    checkpoint.write_bytes(whole[: int(len(whole) * share)])
    assert refusal(checkpoint) == (
        f"{checkpoint} is no checkpoint, or is cut off: it does not end as one does"
    )


def test_another_archive_is_no_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "photos.ckpt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("cat.txt", "meow")
    message = refusal(path)
    assert message.startswith(f"{path} is no checkpoint, or is cut off: ")
    assert "\n" not in message


def test_a_checkpoint_of_another_lightning_project_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "foreign.ckpt"
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False)
    trainer.strategy.connect(L.LightningModule())
    trainer.save_checkpoint(path)
    assert refusal(path) == f"{path} is a checkpoint, but none that the zoo wrote"
    torch.save([1, 2], path)
    assert refusal(path) == f"{path} is a checkpoint, but none that the zoo wrote"


def test_a_checkpoint_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path / "gone.ckpt") == f"no checkpoint {tmp_path / 'gone.ckpt'}"


def test_a_checkpoint_whose_weights_do_not_fit_is_refused(checkpoint: Path) -> None:
    saved = torch.load(checkpoint, weights_only=True)
    del saved["state_dict"]["backbone.norm.weight"]
    saved["state_dict"]["backbone.embedding.weight"] = torch.zeros(7, 32)
    torch.save(saved, checkpoint)
    message = refusal(checkpoint)
    assert message.startswith(f"the weights of {checkpoint} do not fit the model that it describes: ")
    assert "backbone.norm.weight" in message
