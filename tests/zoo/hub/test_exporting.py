"""Models for other programs: an ONNX graph and a gguf file give the logits that the zoo gives."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import onnxruntime
import pytest
import torch
import transformers
from torch.testing import assert_close

import zoo
from zoo import extras, registry
from zoo.errors import ZooError
from zoo.hub import to_gguf, to_onnx
from zoo.modules import DecoderModule, EncoderModule
from zoo.modules.base import ZooModule
from zoo.testing.parity import scramble
from zoo.tokenizer import Tokenizer, train

Command = Callable[..., Any]
HEADS = {"encoder": "MaskedLM", "decoder": "CausalLM", "encoder-decoder": "Seq2SeqLM"}
MODULES = {"encoder": "EncoderModule", "decoder": "DecoderModule", "encoder-decoder": "EncoderDecoderModule"}
FAMILIES = sorted(
    entry.name
    for group in registry.FAMILIES
    for entry in registry.in_group(group)
    if entry.distribution == registry.DISTRIBUTION
)
ONE_OF_EACH_SHAPE = ("bert", "llama", "t5")


def tiny(family: str, **sizes: Any) -> ZooModule:
    """A family under the head for which it was made, with random weights."""
    spec = registry.family(family)
    head = getattr(zoo.heads, HEADS[spec.shape])()
    module: ZooModule = getattr(zoo.modules, MODULES[spec.shape])(
        backbone=spec(**{**spec.tiny, **sizes}), head=head
    )
    module.build()
    scramble(module)
    return module.eval()


def ids(vocab_size: int, rows: int, length: int) -> dict[str, torch.Tensor]:
    mask = torch.ones(rows, length, dtype=torch.long)
    mask[-1, length - 2 :] = 0
    return {"input_ids": torch.randint(3, vocab_size, (rows, length)), "attention_mask": mask}


# ONNX


@pytest.mark.parametrize(
    "family",
    [
        pytest.param(name, marks=[] if name in ONE_OF_EACH_SHAPE else pytest.mark.slow, id=name)
        for name in FAMILIES
    ],
)
def test_a_graph_gives_equal_logits_whatever_the_batch_and_the_lengths(family: str, tmp_path: Path) -> None:
    model = tiny(family)
    session = onnxruntime.InferenceSession(to_onnx.export(model, tmp_path / "onnx"))
    for rows, length, written in ((3, 12, 7), (2, 5, 3), (1, 21, 9)):
        batch = ids(model.spec.vocab_size, rows, length)
        for name in model.spec.inputs:
            batch[name] = torch.randint(0, 1, (rows, length))
        if model.shape == "encoder-decoder":
            batch["decoder_input_ids"] = torch.randint(3, model.spec.vocab_size, (rows, written))
        real = slice(None) if model.shape == "encoder-decoder" else batch["attention_mask"].bool()
        (found,) = session.run(["logits"], {name: tensor.numpy() for name, tensor in batch.items()})
        assert_close(torch.from_numpy(found)[real], model(**batch).logits[real], rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_a_classifiers_graph_and_one_without_a_head_say_what_they_give(tmp_path: Path) -> None:
    spec = zoo.encoders.Bert(**zoo.encoders.Bert.tiny)
    heads = {"logits": zoo.heads.SequenceClassification(labels=["a", "b", "c"]), "last_hidden_state": None}
    for name, head in heads.items():
        model = EncoderModule(backbone=spec, head=head, heads=None if head else {})
        model.build()
        model.eval()
        session = onnxruntime.InferenceSession(to_onnx.export(model, tmp_path / name))
        batch = {**ids(spec.vocab_size, 2, 6), "token_type_ids": torch.tensor([[0, 0, 0, 1, 1, 1]] * 2)}
        (found,) = session.run([name], {key: tensor.numpy() for key, tensor in batch.items()})
        real = slice(None) if head else batch["attention_mask"].bool()
        assert_close(torch.from_numpy(found)[real], getattr(model(**batch), name)[real], rtol=1e-4, atol=1e-4)


class Asking(torch.nn.Module):
    """Its graph would be of one length alone."""

    def __init__(self, backbone: torch.nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, input_ids: torch.Tensor, mask: Any) -> Any:
        return self.backbone(input_ids, mask) * int(torch.arange(input_ids.shape[1])[-1])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_graph_of_one_length_is_refused(model: DecoderModule, tmp_path: Path) -> None:
    model.backbone = Asking(model.backbone)
    with pytest.raises(ZooError) as caught:
        to_onnx.export(model, tmp_path / "onnx")
    assert caught.value.message == (
        "the code of zoo.decoders.Llama asks for numbers that a graph leaves open, "
        "so `input_ids` would have to be of one size"
    )
    assert not (tmp_path / "onnx").exists()


class Branching(Asking):
    """What it does depends on numbers."""

    def forward(self, input_ids: torch.Tensor, mask: Any) -> Any:
        return self.backbone(input_ids, mask) if input_ids.sum() > 0 else torch.zeros(1)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_what_is_no_graph_is_one_clear_sentence(model: DecoderModule, tmp_path: Path) -> None:
    model.backbone = Branching(model.backbone)
    with pytest.raises(ZooError, match=r"^the code of zoo\.decoders\.Llama cannot be written as ONNX: "):
        to_onnx.export(model, tmp_path / "onnx")
    assert not (tmp_path / "onnx").exists()


def test_a_graph_lies_beside_what_a_reader_needs(
    model: DecoderModule, tmp_path: Path, command: Command
) -> None:
    zoo.save(model, tmp_path / "model")
    done = command("export", str(tmp_path / "model"), str(tmp_path / "onnx"), "--format", "onnx")
    assert done.code == 0, done.err
    files = "config.json, generation_config.json, model.onnx, tokenizer.json, tokenizer_config.json"
    assert done.out == f"{tmp_path}/onnx holds: {files}\n"
    before = model(torch.arange(3, 9)[None]).logits
    assert_close(zoo.load(tmp_path / "model")(torch.arange(3, 9)[None]).logits, before, rtol=0, atol=0)


@pytest.mark.slow
def test_the_command_says_what_it_wrote_and_nothing_else(
    model: DecoderModule, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    zoo.save(model, tmp_path / "model")
    run = request.getfixturevalue("zoo")
    done = run("export", str(tmp_path / "model"), str(tmp_path / "onnx"), "--format", "onnx")
    assert (done.returncode, done.stderr) == (0, "")


# gguf

ALL = {"use_sliding_window": False, "layer_types": None}
LINES = [
    "the cat sat on the mat, the dog ran",
    "  two  spaces\n\tand a tab",
    "naïve Übung 漢字 🙂",
    "x" * 40,
    "",
]


@pytest.mark.parametrize("is_tied", [False, True])
@pytest.mark.parametrize(("family", "sizes"), [("llama", {}), ("qwen3", {"head_dim": 128, **ALL})])
def test_a_gguf_file_gives_equal_logits_and_tokens(
    family: str, sizes: dict[str, Any], is_tied: bool, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    model = tiny(family, vocab_size=300, tie_word_embeddings=is_tied, **sizes)
    model.adopt_tokenizer(tokenizer)
    path = to_gguf.export(model, tmp_path)
    names = {tensor.name for tensor in gguf.GGUFReader(path).tensors}
    assert ("output.weight" in names) is not is_tied
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file=path.name)
    batch = ids(300, 2, 9)
    real = batch["attention_mask"].bool()
    assert_close(theirs.eval()(**batch).logits[real], model(**batch).logits[real], rtol=1e-5, atol=1e-5)
    read = transformers.AutoTokenizer.from_pretrained(tmp_path, gguf_file=path.name)
    for line in LINES:
        assert read.encode(line, add_special_tokens=False) == tokenizer.encode(line, special=False), line


def test_a_gguf_file_says_the_sizes_and_the_tokenizer(model: DecoderModule, tmp_path: Path) -> None:
    reader = gguf.GGUFReader(to_gguf.export(model, tmp_path))

    def said(name: str) -> Any:
        found = reader.get_field(name)
        assert found is not None, name
        return found.contents()

    assert said("general.architecture") == "llama"
    assert said("llama.attention.head_count") == 4
    assert said("llama.attention.head_count_kv") == 2
    assert said("llama.rope.freq_base") == 10000.0
    assert said("tokenizer.ggml.model") == "gpt2"
    assert said("tokenizer.ggml.pre") == "gpt-2"
    assert len(said("tokenizer.ggml.tokens")) == 300
    assert said("tokenizer.ggml.tokens")[said("tokenizer.ggml.eos_token_id")] == "<|endoftext|>"
    assert said("tokenizer.ggml.add_bos_token") is False
    assert [path.name for path in tmp_path.iterdir()] == ["model.gguf"]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_halves_stay_halves_in_a_gguf_file(model: DecoderModule, tmp_path: Path, dtype: torch.dtype) -> None:
    model.to(dtype)
    path = to_gguf.export(model, tmp_path)
    held = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    half = held["blk.0.ffn_up.weight"]
    assert half.tensor_type.name == {torch.bfloat16: "BF16", torch.float16: "F16"}[dtype]
    assert held["output_norm.weight"].tensor_type.name == "F32"
    numbers = torch.tensor(gguf.dequantize(half.data, half.tensor_type))
    assert torch.equal(numbers, model.backbone.blocks[0].feedforward.up.weight.float())  # type: ignore[index, union-attr]


def test_a_real_model_of_sentence_pieces_writes_the_same(shared: Path, tmp_path: Path) -> None:
    model = zoo.load(shared / "checkpoints" / "stories260K" / "hf")
    path = to_gguf.export(model, tmp_path)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file=path.name).eval()
    read = transformers.AutoTokenizer.from_pretrained(tmp_path, gguf_file=path.name)
    text = "Once upon a time, there was a little girl named Lily."
    encoded = model.tokenizer.encode(text)  # type: ignore[union-attr]
    assert read.encode(text) == encoded
    batch = torch.tensor([encoded])
    assert_close(theirs(batch).logits, model(batch).logits, rtol=1e-4, atol=1e-4)
    written = theirs.generate(batch, max_new_tokens=20, do_sample=False)[0, len(encoded) :].tolist()
    assert model.generate(batch, max_new_tokens=20)[0] == written  # type: ignore[operator]


def refusal(model: ZooModule, folder: Path) -> str:
    with pytest.raises(ZooError) as caught:
        to_gguf.export(model, folder)
    assert not list(folder.iterdir())
    return str(caught.value)


def test_what_does_not_fit_a_gguf_file_is_one_clear_sentence(tokenizer: Tokenizer, tmp_path: Path) -> None:
    assert refusal(tiny("gpt2"), tmp_path) == (
        "zoo.decoders.GPT2 does not say how it stands in gguf files\n"
        "  `zoo export --format onnx` writes most families"
    )
    assert refusal(tiny("llama"), tmp_path) == "a gguf file holds a tokenizer, this model has none"
    assert refusal(tiny("llama", hidden_act="gelu"), tmp_path) == (
        "`hidden_act` must be silu in a gguf file of llama, got gelu"
    )
    rope = {"rope_parameters": zoo.layers.RopeParameters(rope_type="linear", factor=2.0)}
    assert refusal(tiny("llama", **rope), tmp_path) == (
        "`rope_parameters` must be of type default in a gguf file, got linear"
    )
    spec = zoo.decoders.Llama(**zoo.decoders.Llama.tiny)
    told = DecoderModule(backbone=spec, head=zoo.heads.SequenceClassification(labels=["a", "b"]))
    told.build()
    assert refusal(told, tmp_path) == (
        "a gguf file holds a decoder under zoo.heads.CausalLM, this model has another head"
    )


def test_a_tokenizer_that_ggml_has_no_place_for_is_refused(tmp_path: Path) -> None:
    model = tiny("llama", vocab_size=300)
    model.adopt_tokenizer(train("wordpiece", ["the cat sat on the mat"], 60))
    assert refusal(model, tmp_path).startswith(
        "a gguf file holds a BPE, this model's tokenizer is a WordPiece"
    )


@pytest.mark.parametrize(("name", "export"), [("onnx", to_onnx.export), ("gguf", to_gguf.export)])
def test_a_missing_extra_is_named(
    name: str, export: Any, model: DecoderModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = importlib.util.find_spec
    monkeypatch.setattr(
        extras.importlib.util, "find_spec", lambda module: None if module == name else there(module)
    )
    with pytest.raises(ZooError) as caught:
        export(model, tmp_path / "out")
    assert str(caught.value) == (
        f"to export as {name} needs the extra `{name}`\n  pip install 'lightning-zoo[{name}]'"
    )
    assert not (tmp_path / "out").exists()
