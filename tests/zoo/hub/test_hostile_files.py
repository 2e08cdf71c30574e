"""Files that were broken on the way, or on purpose: a model, or one clear sentence; never anything else."""

import json
import random
import re
import resource
import shutil
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import zoo
from zoo.errors import CheckpointError, SpecError, ZooError
from zoo.hub import config as hub_config
from zoo.tokenizer import Tokenizer, reading

Edit = Callable[..., None]


def refusal(folder: Path, kind: type[ZooError] = CheckpointError) -> str:
    with pytest.raises(kind) as caught:
        zoo.load(folder)
    return str(caught.value)


# config.json


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("hidden_size", "32", "must be int, got '32'"),
        ("hidden_size", 32.5, "must be int, got 32.5"),
        ("hidden_size", True, "must be int, got True"),
        ("hidden_size", None, "must be int, got None"),
        ("hidden_size", [32], "must be int, got [32]"),
        ("rms_norm_eps", float("nan"), "must be float, got nan"),
        ("attention_bias", "no", "must be bool, got 'no'"),
        ("hidden_act", 5, "must be str, got 5"),
        ("eos_token_id", ["a"], "must be int | list[int] | None, got ['a']"),
        ("num_hidden_layers", {"a": "b" * 200}, f"must be int, got {{'a': '{'b' * 50}..."),
    ],
)
def test_a_value_of_another_type_is_named(folder: Path, edit: Edit, key: str, value: Any, said: str) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    message = f"`{key}` of zoo.decoders.Llama {said}\n  at    {key}\n  in    {path}"
    assert refusal(folder, SpecError) == message


@pytest.mark.parametrize(
    ("key", "value", "most"),
    [
        ("num_hidden_layers", 10**12, "10,000 in any model, got 1000000000000"),
        ("num_hidden_layers", 10**300, "10,000 in any model, got a number beyond all bounds"),
        ("hidden_size", 10**12, "100,000,000 in any model, got 1000000000000"),
        ("vocab_size", 10**9, "100,000,000 in any model, got 1000000000"),
        ("max_position_embeddings", 2**40, "2,147,483,648 in any model, got 1099511627776"),
    ],
)
def test_an_absurd_size_is_refused_before_anything_is_built(
    folder: Path, edit: Edit, key: str, value: int, most: str
) -> None:
    edit(**{key: value})
    started = time.monotonic()
    assert refusal(folder, SpecError).startswith(f"`{key}` is at most {most}\n")
    assert time.monotonic() - started < 2


def test_sizes_that_the_files_do_not_have_take_no_memory(folder: Path, edit: Edit) -> None:
    """A vocabulary of 50 million would take 6 GB."""
    edit(vocab_size=50_000_000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert refusal(folder) == (
        f"tensor `lm_head.weight` of {folder}/model.safetensors has shape (300, 32), "
        "config.json asks for (50000000, 32)"
    )
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000


def test_a_config_that_is_too_large_or_too_deep_is_not_read(folder: Path) -> None:
    path = folder / "config.json"
    with path.open("wb") as file:
        file.truncate(2**31)
    assert refusal(folder) == f"{path} has 2,147,483,648 bytes; no such file needs more than 67,108,864"
    path.write_text('{"model_type": ' + "[" * 100_000)
    assert refusal(folder) == f"{path} cannot be read: it is nested too deeply"


@pytest.mark.parametrize("scaling", [5, "linear", [1]])
def test_a_scaling_that_is_no_object_is_named(folder: Path, edit: Edit, scaling: Any) -> None:
    edit(rope_parameters=None, rope_scaling=scaling)
    assert refusal(folder, SpecError).startswith(f"`rope_scaling` must be an object, got {scaling!r}\n")


def test_labels_that_cannot_be_read_are_refused(folder: Path, edit: Edit) -> None:
    edit(architectures=["LlamaForSequenceClassification"], id2label={"a": "b", "c": "d"})
    assert refusal(folder) == "config.json says of its labels what cannot be read"


# Weights


def header_of(path: Path) -> tuple[dict[str, Any], bytes]:
    data = path.read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + size]), data[8 + size :]


def write_header(path: Path, header: dict[str, Any], rest: bytes) -> None:
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + rest)


def test_overlapping_tensors_are_refused(folder: Path) -> None:
    path = folder / "model.safetensors"
    header, rest = header_of(path)
    norm = header["model.norm.weight"]
    header["model.layers.0.input_layernorm.weight"]["data_offsets"] = norm["data_offsets"]
    write_header(path, header, rest)
    assert re.match(rf"{path} is no safetensors file, or is cut off: .*", refusal(folder))


def test_a_header_that_is_longer_than_its_file_is_refused(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(struct.pack("<Q", 2**62) + path.read_bytes()[8:])
    assert refusal(folder).startswith(f"{path} is no safetensors file, or is cut off: ")


def test_whole_numbers_are_no_weights(folder: Path, edit_tensors: Edit) -> None:
    edit_tensors({"model.norm.weight": torch.ones(32, dtype=torch.int64)})
    assert refusal(folder) == (
        f"tensor `model.norm.weight` of {folder}/model.safetensors holds no plain floating-point numbers"
    )


def test_an_index_that_names_what_is_no_safetensors_file_is_refused(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "config.json"}}))
    assert refusal(folder) == f"{index} names `config.json`, which is no safetensors file"


# Tokenizer


def test_a_tokenizer_of_a_gigabyte_is_not_read(folder: Path) -> None:
    path = folder / "tokenizer.json"
    with path.open("r+b") as file:
        file.truncate(2**30)
    assert refusal(folder) == f"{path} has 1,073,741,824 bytes; no such file needs more than 268,435,456"


@pytest.mark.parametrize(
    ("key", "value"), [("model_max_length", "far"), ("padding_side", "up"), ("added_tokens_decoder", [1])]
)
def test_a_tokenizers_choice_of_another_type_is_named(folder: Path, edit: Edit, key: str, value: Any) -> None:
    edit("tokenizer_config.json", **{key: value})
    assert refusal(folder).startswith(f"`{key}` in {folder}/tokenizer_config.json must be ")


# Anything


EVIL: list[Any] = [
    None, True, False, 0, -1, 1, 3, 2**31, 2**63, 2**64, 10**12, 10**400, 0.5, -1e308, 1e308, float("nan"),
    float("inf"), "", "a", "../..", "\0", "💥" * 50, [], [None], [[[]]], {}, {"a": {"b": []}}, {"0": 1},
    ["a", "b"], "LlamaForCausalLM", "bert", "32",
]  # fmt: skip


def twisted(value: Any, draw: random.Random) -> Any:
    """A JSON value with one thing changed, somewhere in it."""
    if isinstance(value, dict) and value and draw.random() < 0.8:
        key = draw.choice(sorted(value))
        match draw.randrange(6):
            case 0:
                return {name: item for name, item in value.items() if name != key}
            case 1:
                return {
                    **value,
                    draw.choice(["x", "", "hidden_size", "__class__", "auto_map"]): draw.choice(EVIL),
                }
            case _:
                return {**value, key: twisted(value[key], draw)}
    if isinstance(value, list) and value and draw.random() < 0.8:
        place = draw.randrange(len(value))
        return [*value[:place], twisted(value[place], draw), *value[place + 1 :]]
    return draw.choice(EVIL)


def mangled(data: bytes, draw: random.Random) -> bytes:
    """Bytes with a part cut off, doubled, or with bits flipped."""
    place = draw.randrange(len(data)) if draw.random() < 0.5 else draw.randrange(min(len(data), 400))
    match draw.randrange(4):
        case 0:
            return data[:place]
        case 1:
            return data[:place] + data[place // 2 :]
        case _:
            count = draw.choice([1, 8])
            return data[:place] + draw.randbytes(count) + data[place + count :]


def break_one(folder: Path, draw: random.Random) -> str:
    """Changes one file of a folder; which."""
    name = draw.choice(
        ["config.json"] * 5 + ["model.safetensors"] * 4 + ["tokenizer.json"] * 3
        + ["tokenizer_config.json", "generation_config.json", "model.safetensors.index.json"] * 2
    )  # fmt: skip
    path = folder / name
    if not path.exists() and "index" not in name:
        return break_one(folder, draw)
    if name == "model.safetensors.index.json":
        (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
        names = header_of(folder / "model-00001-of-00001.safetensors")[0]
        index = {"weight_map": dict.fromkeys(names, "model-00001-of-00001.safetensors")}
        path.write_text(json.dumps(twisted(index, draw)))
    elif name == "model.safetensors" and draw.random() < 0.6:
        header, rest = header_of(path)
        write_header(path, twisted(header, draw), rest)
    elif name.endswith(".json") and draw.random() < 0.8:
        path.write_text(json.dumps(twisted(json.loads(path.read_text()), draw)))
    else:
        path.write_bytes(mangled(path.read_bytes(), draw))
    return name


@pytest.fixture
def models(folder: Path, tokenizer: Tokenizer, tmp_path: Path) -> list[Path]:
    """Sound folders of several kinds."""
    bert = {**zoo.encoders.Bert.tiny, "vocab_size": 300}
    classifier = zoo.modules.EncoderModule(
        backbone=zoo.encoders.Bert(**bert), head=zoo.heads.SequenceClassification(labels=["a", "b", "c"])
    )
    classifier.build()
    classifier.adopt_tokenizer(tokenizer)
    writer = zoo.modules.EncoderDecoderModule(
        backbone=zoo.encoder_decoders.T5(**{**zoo.encoder_decoders.T5.tiny, "vocab_size": 300})
    )
    writer.build()
    writer.adopt_tokenizer(tokenizer)
    return [folder, zoo.save(classifier, tmp_path / "bert"), zoo.save(writer, tmp_path / "t5")]


def broken(models: list[Path], number: int, place: Path) -> Iterator[tuple[str, Path]]:
    draw = random.Random(1)
    for count in range(number):
        folder = place / "broken"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(models[count % len(models)], folder)
        name = break_one(folder, draw)
        yield f"{count}: {models[count % len(models)].name} {name}", folder


def load_or_refuse(what: str, folder: Path) -> bool:
    """Whether it loads; then it also works."""
    started = time.monotonic()
    try:
        model = zoo.load(folder)
        ids = torch.ones(1, 3, dtype=torch.long)
        more = {"decoder_input_ids": ids} if model.shape == "encoder-decoder" else {}
        model(ids, **more)
        if model.tokenizer is not None:
            model.tokenizer.batch(["the cat"])
        return True
    except ZooError as error:
        said = error.message
    except Exception as error:
        raise AssertionError(f"{what}: {type(error).__name__}: {error}") from error
    assert time.monotonic() - started < 20, what
    assert 10 < len(said) < 1500, f"{what}: {said}"
    assert "\n" not in said, f"{what}: {said}"
    return False


def test_a_broken_folder_is_a_model_or_one_sentence(models: list[Path], tmp_path: Path) -> None:
    found = [load_or_refuse(*case) for case in broken(models, 60, tmp_path)]
    assert 5 < sum(found) < 50


@pytest.mark.slow
def test_hundreds_of_broken_folders_are_models_or_one_sentence(models: list[Path], tmp_path: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = [load_or_refuse(*case) for case in broken(models, 600, tmp_path)]
    assert 50 < sum(found) < 500
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000


def test_the_limits_leave_room_for_what_there_is() -> None:
    assert hub_config.LARGEST_JSON_BYTES > 10 * 2**20
    assert reading.LARGEST_BYTES > 4 * 34 * 2**20
