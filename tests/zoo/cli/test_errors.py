"""A user's mistakes: the whole screen of each, and that nothing is left behind."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from zoo.heads.base import Head
from zoo.specs import BackboneSpec, HeadSpec

Command = Callable[..., Any]


@dataclass(frozen=True, kw_only=True)
class ReadersHead(HeadSpec):
    """A head for encoders alone."""

    shapes = ("encoder",)

    def build(self, backbone: BackboneSpec) -> Head:
        raise NotImplementedError


def screen(text: str) -> str:
    """An expected screen, written with the indentation of its test."""
    first, *rest = text.strip("\n").split("\n")
    margin = len(first) - len(first.lstrip())
    return "\n".join(line[margin:] for line in (first, *rest)).rstrip() + "\n"


def refused(command: Command, workplace: Path, *arguments: str, code: int = 2) -> str:
    """Standard error of a command that must fail, leaving nothing behind."""
    before = sorted(workplace.rglob("*"))
    outcome = command(*arguments)
    assert outcome.code == code, outcome.err
    assert outcome.out == ""
    assert sorted(workplace.rglob("*")) == before
    assert len(outcome.err.splitlines()) < 12
    return outcome.err


# Old text in the recipe, new text, the screen.
MISTAKES = {
    "a misspelt key of the backbone": (
        "hidden_size:", "hiden_size:",
        """
        zoo: unknown key `hiden_size` for zoo.decoders.Llama
          at    model.backbone.hiden_size
          in    recipe.yaml:9
          did you mean `hidden_size`?
        """,
    ),
    "a misspelt key of the model": (
        "    backbone:", "    bakbone:",
        """
        zoo: unknown key `bakbone` for zoo.modules.DecoderModule
          at    model.bakbone
          in    recipe.yaml:5
          did you mean `backbone`?
        """,
    ),
    "a misspelt key of the data": (
        "sequence_length:", "sequence_lenght:",
        """
        zoo: unknown key `sequence_lenght` for zoo.data.Text
          at    data.sequence_lenght
          in    recipe.yaml:21
          did you mean `sequence_length`?
        """,
    ),
    "a misspelt key of the trainer": (
        "max_steps:", "max_step:",
        """
        zoo: unknown key `max_step` for the Trainer
          at    trainer.max_step
          in    recipe.yaml:25
          did you mean `max_steps`?
        """,
    ),
    "a misspelt key at the top": (
        "trainer:", "trainr:",
        """
        zoo: unknown key `trainr` in a recipe
          at    trainr
          in    recipe.yaml:23
          did you mean `trainer`?
        """,
    ),
    "a misspelt key of an optimizer": (
        "{lr: 1.0e-3}", "{lr: 1.0e-3, weight_decy: 0.1}",
        """
        zoo: unknown key `weight_decy` for torch.optim.AdamW
          at    model.optimizer.weight_decy
          in    recipe.yaml:15
          did you mean `weight_decay`?
        """,
    ),
    "a misspelt key of a group": (
        "hidden_size: 16", "hidden_size: 16\n        rope_parameters: {rope_typ: llama3}",
        """
        zoo: unknown key `rope_typ` for zoo.layers.positions.RopeParameters
          at    model.backbone.rope_parameters.rope_typ
          in    recipe.yaml:10
          did you mean `rope_type`?
        """,
    ),
    "a misspelt key of a callback": (
        "max_steps: 2", "max_steps: 2\n  callbacks:\n  - class_path: zoo.callbacks.Samples\n"
        "    init_args: {prompt: [x]}",
        """
        zoo: unknown key `prompt` for zoo.callbacks.Samples
          at    trainer.callbacks.0.prompt
          in    recipe.yaml:28
          did you mean `prompts`?
        """,
    ),
    "a misspelt init_args": (
        "      init_args:\n        vocab", "      initargs:\n        vocab",
        """
        zoo: the key `initargs` stands beside `class_path`
          at    model.backbone.initargs
          in    recipe.yaml:7
          put it under init_args
        """,
    ),
    "a number that is none": (
        "hidden_size: 16", "hidden_size: wide",
        """
        zoo: `hidden_size` of zoo.decoders.Llama must be int, got 'wide'
          at    model.backbone.hidden_size
          in    recipe.yaml:9
        """,
    ),
    "a fraction where there must be none": (
        "batch_size: 4", "batch_size: 4.5",
        """
        zoo: `batch_size` of zoo.data.Text must be int, got 4.5
          at    data.batch_size
          in    recipe.yaml:22
        """,
    ),
    "a rate that is no number": (
        "lr: 1.0e-3", "lr: fast",
        """
        zoo: `lr` of torch.optim.AdamW must be float, got 'fast'
          at    model.optimizer.lr
          in    recipe.yaml:15
        """,
    ),
    "steps that are no number": (
        "max_steps: 2", "max_steps: two",
        """
        zoo: `max_steps` of the Trainer must be int, got 'two'
          at    trainer.max_steps
          in    recipe.yaml:25
        """,
    ),
    "a list where a class belongs": (
        "{class_path: zoo.heads.CausalLM}", "[3]",
        """
        zoo: `head` of zoo.modules.DecoderModule must be HeadSpec or null, got [3]
          at    model.head
          in    recipe.yaml:14
        """,
    ),
    "a mapping without its class": (
        "{class_path: zoo.heads.CausalLM}", "{labels: 3}",
        """
        zoo: `head` of zoo.modules.DecoderModule needs a `class_path`
          at    model.head
          in    recipe.yaml:14
          it takes HeadSpec or null
        """,
    ),
    "an unknown family": (
        "zoo.decoders.Llama", "zoo.decoders.Lama",
        """
        zoo: unknown name `Lama` in zoo.decoders
          at    model.backbone
          in    recipe.yaml:6
          did you mean `Llama`?
        """,
    ),
    "an unknown group": (
        "zoo.decoders.Llama", "zoo.decoder.Llama",
        """
        zoo: no module `zoo.decoder` for `zoo.decoder.Llama`
          at    model.backbone
          in    recipe.yaml:6
          did you mean `zoo.decoders`?
        """,
    ),
    "an unknown module": (
        "zoo.data.Text", "nowhere.Text",
        """
        zoo: no module `nowhere` for `nowhere.Text`
          at    data
          in    recipe.yaml:17
          correct it, or install what has it
        """,
    ),
    "an unknown class": (
        "torch.optim.AdamW", "torch.optim.AdamX",
        """
        zoo: no `AdamX` in `torch.optim`
          at    model.optimizer
          in    recipe.yaml:15
          did you mean `Adamax`?
        """,
    ),
    "a class of another kind": (
        "zoo.heads.CausalLM", "zoo.decoders.Llama",
        """
        zoo: `zoo.decoders.Llama` is no HeadSpec
          at    model.head
          in    recipe.yaml:14
        """,
    ),
    "no optimizer": (
        "torch.optim.AdamW", "zoo.heads.CausalLM",
        """
        zoo: `zoo.heads.CausalLM` is no Optimizer
          at    model.optimizer
          in    recipe.yaml:15
        """,
    ),
    "a missing argument": (
        "    source: text.txt\n", "",
        """
        zoo: `source` of zoo.data.Text is missing
          at    data
          in    recipe.yaml:16
        """,
    ),
    "neither a Hub id nor a folder": (
        "    backbone:\n      class_path: zoo.decoders.Llama\n      init_args:\n",
        "    backbone: bert base\n    ignored:\n      init_args:\n",
        """
        zoo: `bert base` is neither a folder nor a Hub id `owner/name[@revision]`
          at    model.backbone
          in    recipe.yaml:5
        """,
    ),
    "sizes that do not fit together": (
        "num_attention_heads: 2", "num_attention_heads: 3",
        """
        zoo: `num_attention_heads` must divide `hidden_size` in zoo.decoders.Llama, got 3 and 16
          at    model.backbone.num_attention_heads
          in    recipe.yaml:12
        """,
    ),
    "an unknown choice": (
        "hidden_size: 16", "hidden_size: 16\n        hidden_act: silo",
        """
        zoo: unknown `hidden_act` for zoo.decoders.Llama, got 'silo'
          at    model.backbone.hidden_act
          in    recipe.yaml:10
          did you mean `silu`?
        """,
    ),
    "a group whose values do not fit": (
        "hidden_size: 16", "hidden_size: 16\n        rope_parameters: {rope_type: linear}",
        """
        zoo: rope_parameters of type linear need `factor`
          at    model.backbone.rope_parameters.factor
          in    recipe.yaml:10
        """,
    ),
    "a schedule out of its range": (
        "    optimizer:", "    lr_schedule: {class_path: zoo.schedules.WarmupCosine, "
        "init_args: {warmup_fraction: 7}}\n    optimizer:",
        """
        zoo: `warmup_fraction` must lie in [0, 1], got 7.0
          at    model.lr_schedule.warmup_fraction
          in    recipe.yaml:15
        """,
    ),
    "data out of its range": (
        "sequence_length: 16", "sequence_length: 1",
        """
        zoo: `sequence_length` must be at least 2, got 1
          at    data.sequence_length
          in    recipe.yaml:21
        """,
    ),
    "a callback out of its range": (
        "max_steps: 2", "max_steps: 2\n  callbacks:\n"
        "  - class_path: lightning.pytorch.callbacks.ModelCheckpoint\n    init_args: {save_top_k: -7}",
        """
        zoo: lightning.pytorch.callbacks.ModelCheckpoint refuses its arguments: \
Invalid value for save_top_k=-7. Must be >= -1
          at    trainer.callbacks.0
          in    recipe.yaml:27
        """,
    ),
    "a text too long for the model": (
        "sequence_length: 16", "sequence_length: 64",
        """
        zoo: rows of 64 tokens are too long for a model that sees 48
          at    data.sequence_length
          in    recipe.yaml:21
          set it to at most 48, or the backbone's max_position_embeddings
        """,
    ),
    "a tokenizer too large for the model": (
        "    vocab_size: 300\n    seq", "    vocab_size: 400\n    seq",
        """
        zoo: a tokenizer of 400 ids is too large for a backbone of 300
          at    data.vocab_size
          in    recipe.yaml:20
          set it to at most 300, or the backbone's vocab_size
        """,
    ),
    "no trainer mapping": (
        "trainer:\n  accelerator: cpu\n  max_steps: 2\n  num_sanity_val_steps: 0\n"
        "  enable_progress_bar: false\n  enable_model_summary: false\n", "trainer: fast\n",
        """
        zoo: `trainer` must be a mapping, got 'fast'
          at    trainer
          in    recipe.yaml:23
        """,
    ),
}  # fmt: skip


@pytest.mark.parametrize("verb", ["fit", "check"])
@pytest.mark.parametrize(("old", "new", "expected"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_in_a_recipe_is_one_screen(
    command: Command, workplace: Path, verb: str, old: str, new: str, expected: str
) -> None:
    recipe = workplace / "recipe.yaml"
    text = recipe.read_text()
    assert text.count(old) >= 1
    recipe.write_text(text.replace(old, new, 1))
    arguments = ["recipe.yaml"] if verb == "check" else ["--config", "recipe.yaml"]
    assert refused(command, workplace, verb, *arguments) == screen(expected)


FLAGS = {
    "--model.backbone.hiden_size=32": """
        zoo: unknown key `hiden_size` for zoo.decoders.Llama
          at    model.backbone.hiden_size
          in    the command line: --model.backbone.hiden_size
          did you mean `hidden_size`?
        """,
    "--data.init_args.sequence_lenght 32": """
        zoo: unknown key `sequence_lenght` for zoo.data.Text
          at    data.sequence_lenght
          in    the command line: --data.init_args.sequence_lenght
          did you mean `sequence_length`?
        """,
    "--trainer.max_step 3": """
        zoo: unknown key `max_step` for the Trainer
          at    trainer.max_step
          in    the command line: --trainer.max_step
          did you mean `max_steps`?
        """,
    "--trainr.max_steps 3": """
        zoo: unknown key `trainr` in a recipe
          at    trainr
          in    the command line: --trainr.max_steps
          did you mean `trainer`?
        """,
    "--trainer.max_steps many": """
        zoo: `max_steps` of the Trainer must be int, got 'many'
          at    trainer.max_steps
          in    the command line: --trainer.max_steps
        """,
    "--seed_everything never": """
        zoo: `seed_everything` must be bool or int, got 'never'
          at    seed_everything
          in    the command line: --seed_everything
        """,
    "--model.backbone zoo.decoders.Lama": """
        zoo: unknown name `Lama` in zoo.decoders
          at    model.backbone
          in    the command line: --model.backbone
          did you mean `Llama`?
        """,
    "--model.head zoo.heads.CausalML": """
        zoo: unknown name `CausalML` in zoo.heads
          at    model.head
          in    the command line: --model.head
          did you mean `CausalLM`?
        """,
    "--model.backbone.num_attention_heads 3": """
        zoo: `num_attention_heads` must divide `hidden_size` in zoo.decoders.Llama, got 3 and 16
          at    model.backbone.num_attention_heads
          in    the command line: --model.backbone.num_attention_heads
        """,
    "--data.batch_size 0": """
        zoo: `batch_size` must be at least 1, got 0
          at    data.batch_size
          in    the command line: --data.batch_size
        """,
    "--trainer.precision bf17": """
        zoo: `precision` of the Trainer must be 64, 32, 16, transformer-engine, transformer-engine-float16, \
16-true, 16-mixed, bf16-true, bf16-mixed, 32-true, 64-true, bf16 or null, got 'bf17'
          at    trainer.precision
          in    the command line: --trainer.precision
          did you mean `bf16`?
        """,
    "--trainer.precision 16-mixed": """
        zoo: precision `16-mixed` needs a GPU, this run is on cpu
          at    trainer.precision
          in    the command line: --trainer.precision
          use bf16-mixed or 32-true
        """,
    "--trainer.precision transformer-engine": """
        zoo: the Trainer refuses: Requirement 'transformer_engine>=0.11.0' not met. HINT: Try running \
`pip install -U 'transformer_engine>=0.11.0'`
          at    trainer
          in    recipe.yaml:23
        """,
    "--trainer.accelerator gpu": """
        zoo: the Trainer refuses: No supported gpu backend found!
          at    trainer.accelerator
          in    the command line: --trainer.accelerator
        """,
    "--trainer.val_check_interval 7.5": """
        zoo: the Trainer refuses: You have passed invalid value 7.5 for val_check_interval, \
it has to be in [0.0, 1.0] or an int.
          at    trainer.val_check_interval
          in    the command line: --trainer.val_check_interval
        """,
    "--data.source nothing.txt": """
        zoo: no file or folder `nothing.txt`
          at    data.source
          in    the command line: --data.source
          give a path, or a data set's `owner/name`
        """,
    "--ckpt_path nothing.ckpt": """
        zoo: no checkpoint nothing.ckpt
          at    ckpt_path
          in    the command line: --ckpt_path
        """,
    "--ckpt_path http://localhost:9/x.ckpt": """
        zoo: no checkpoint http:/localhost:9/x.ckpt
          at    ckpt_path
          in    the command line: --ckpt_path
        """,
    "--config nothing.yaml": """
        zoo: no recipe `nothing.yaml`, neither a file nor a packaged name
          KNOWN
        """,
    "--config quickstart/decodr": """
        zoo: no recipe `quickstart/decodr`, neither a file nor a packaged name
          did you mean `quickstart/decoder`?
        """,
    "--config": """
        zoo: `--config` needs a recipe
          zoo list recipes shows the packaged ones
        """,
    "stray": """
        zoo: unrecognized arguments: stray
        """,
}


@pytest.mark.parametrize("flags", FLAGS)
def test_a_mistake_in_a_flag_is_one_screen(command: Command, workplace: Path, flags: str) -> None:
    from zoo import registry

    expected = screen(FLAGS[flags]).replace("KNOWN", f"known: {', '.join(sorted(registry.recipes()))}")
    assert refused(command, workplace, "fit", "--config", "recipe.yaml", *flags.split(" ")) == expected


DATA = {
    "empty.txt": (
        b" \n",
        """
        zoo: empty.txt is empty
          at    data.source
          in    recipe.yaml:19
        """,
    ),
    "half.jsonl": (
        b'{"text": "a"}\n{"text": }\n',
        """
        zoo: a line is no JSON: Expecting value: line 1 column 10 (char 9)
          at    data.source
          in    half.jsonl:2
        """,
    ),
    "other.jsonl": (
        b'{"text": "a"}\n\n{"txt": "b"}\n',
        """
        zoo: a row has no `text`
          at    data.source
          in    other.jsonl:3
          did you mean `txt`?
        """,
    ),
    "number.jsonl": (
        b'{"text": 3}\n',
        """
        zoo: `text` must be a text, got int
          at    data.source
          in    number.jsonl:1
        """,
    ),
    "short.csv": (
        b"text,label\nx,y\nz\n",
        """
        zoo: a row has 1 fields, the header 2
          at    data.source
          in    short.csv:3
          a field that holds a comma must stand in quotes
        """,
    ),
    "latin.txt": (
        b"one\ncaf\xe9\n",
        """
        zoo: latin.txt is not UTF-8: byte 7
          at    data.source
          in    latin.txt:2
          save it as UTF-8
        """,
    ),
    "cut.jsonl.gz": (
        b"no gzip",
        """
        zoo: cut.jsonl.gz cannot be read: Not a gzipped file (b'no')
          at    data.source
          in    recipe.yaml:19
        """,
    ),
}


@pytest.mark.parametrize("name", DATA)
def test_data_that_cannot_be_read_is_one_screen_with_its_line(
    command: Command, workplace: Path, name: str
) -> None:
    content, expected = DATA[name]
    (workplace / name).write_bytes(content)
    recipe = workplace / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("text.txt", name))
    assert refused(command, workplace, "fit", "--config", "recipe.yaml") == screen(expected)


@pytest.mark.parametrize("verb", ["fit", "check"])
def test_a_head_that_does_not_fit_is_refused_before_any_work(
    command: Command, workplace: Path, verb: str
) -> None:
    recipe = workplace / "recipe.yaml"
    path = f"{__name__}.ReadersHead"
    recipe.write_text(recipe.read_text().replace("zoo.heads.CausalLM", path))
    arguments = ["recipe.yaml"] if verb == "check" else ["--config", "recipe.yaml"]
    message, *rest = refused(command, workplace, verb, *arguments).splitlines()
    assert message == f"zoo: the head {path} does not fit zoo.decoders.Llama, which is a decoder"
    assert rest[:2] == ["  at    model.head", "  in    recipe.yaml:14"]
    assert rest[2].startswith("  heads that fit: ")


@pytest.mark.parametrize("verb", ["fit", "validate", "test", "predict"])
def test_a_file_that_is_no_checkpoint_is_refused_before_any_work(
    command: Command, workplace: Path, verb: str
) -> None:
    (workplace / "cut.ckpt").write_bytes(b"PK\x03\x04 and no more")
    error = refused(command, workplace, verb, "--config", "recipe.yaml", "--ckpt_path", "cut.ckpt")
    message, at, source = error.splitlines()
    assert message.startswith("zoo: cut.ckpt is no checkpoint, or is cut off: ")
    assert (at, source) == ("  at    ckpt_path", "  in    the command line: --ckpt_path")


def test_a_model_that_is_not_to_be_had_is_refused_before_any_work(command: Command, workplace: Path) -> None:
    flags = ("--model.backbone", "nobody/nothing")
    error = refused(command, workplace, "fit", "--config", "recipe.yaml", *flags).splitlines()
    assert error[0] == (
        "zoo: `nobody/nothing` is not in the cache, and HF_HUB_OFFLINE forbids to ask the Hub"
    )
    assert error[1:3] == ["  at    model.backbone", "  in    the command line: --model.backbone"]


COMMANDS = {
    "fti --config recipe.yaml": "unknown command `fti`\n  did you mean `fit`?",
    "fit": "no recipe is given\n  --config takes a file or a packaged name; zoo list recipes shows those",
    "fit recipe.yaml": "`zoo fit` takes no `recipe.yaml`\n  a recipe is given as --config recipe.yaml",
    "check": "zoo check needs a recipe\n  zoo list recipes shows the packaged ones",
    "check --model x": "zoo check needs a recipe\n  zoo list recipes shows the packaged ones",
    "list cats": "zoo list: unknown kind `cats`; known: families, heads, modules, data, callbacks, "
    "schedules, recipes, plugins\n  `zoo list --help` lists what it takes",
    "generate": "zoo generate: the following arguments are required: MODEL\n"
    "  `zoo generate --help` lists what it takes",
    "generate nothing.ckpt a": "no checkpoint nothing.ckpt",
    "generate nothing a": "`nothing` is neither a folder nor a Hub id `owner/name[@revision]`",
    "generate . a --max-new-tokens x": "zoo generate: argument --max-new-tokens: invalid int value: 'x'\n"
    "  `zoo generate --help` lists what it takes",
    "generate .": "zoo generate: it takes either PROMPT or --file\n"
    "  `zoo generate --help` lists what it takes",
    "generate . a --top-k": "zoo generate: argument --top-k: expected one argument\n"
    "  `zoo generate --help` lists what it takes",
    "generate . a --temprature=1": "zoo generate: unknown option `--temprature`\n"
    "  did you mean `--temperature`?",
    "generate . a --tempera 1": "zoo generate: unknown option `--tempera`\n  did you mean `--temperature`?",
    "chat . --sytem x": "zoo chat: unknown option `--sytem`\n  did you mean `--system`?",
    "generate text.txt a": "text.txt is no checkpoint, or is cut off: it does not end as one does",
    "generate . a": ". holds no config.json, so it is no model in the Hub's format",
    "export": "zoo export: the following arguments are required: MODEL, DIR\n"
    "  `zoo export --help` lists what it takes",
    "export a b c": "zoo export: unrecognized arguments: c\n  `zoo export --help` lists what it takes",
    "export nothing.ckpt out": "no checkpoint nothing.ckpt",
    "export recipe.yaml out": "recipe.yaml is no checkpoint, or is cut off: it does not end as one does",
    "list --jsn": "zoo list: unknown option `--jsn`\n  did you mean `--json`?",
    "list heads,cats": "zoo list: unknown kind `cats`; known: families, heads, modules, data, callbacks, "
    "schedules, recipes, plugins\n  `zoo list --help` lists what it takes",
    "check recipe.yaml stray": "unrecognized arguments: stray",
    "check recipe.yaml --config": "`--config` needs a recipe\n  zoo list recipes shows the packaged ones",
}


@pytest.mark.parametrize("line", COMMANDS)
def test_a_mistake_in_a_command_is_one_screen(command: Command, workplace: Path, line: str) -> None:
    assert refused(command, workplace, *line.split(" ")) == f"zoo: {COMMANDS[line]}\n"


def test_a_layer_that_changes_a_class_is_told(command: Command, workplace: Path) -> None:
    (workplace / "sgd.yaml").write_text("model: {init_args: {optimizer: {class_path: torch.optim.SGD}}}")
    (workplace / "bad.yaml").write_text("model: {init_args: {optimizer: {init_args: {momntum: 1}}}}")
    layers = [word for name in ("recipe", "sgd", "bad") for word in ("--config", f"{name}.yaml")]
    assert refused(command, workplace, "fit", *layers) == screen("""
        zoo: sgd.yaml changes `model.optimizer` from torch.optim.AdamW to torch.optim.SGD; \
arguments of the same name stay as the layers before say
        zoo: unknown key `momntum` for torch.optim.SGD
          at    model.optimizer.momntum
          in    bad.yaml:1
          did you mean `momentum`?
        """)


@dataclass(frozen=True)
class Shaped:
    """A module with its family, one of its heads, and data for them."""

    module: str
    family: str
    head: str
    data: str
    row: str
    length: str
    vocab_size: int = 300

    @property
    def text(self) -> str:
        """A recipe with one key a line where the tests look."""
        return f"""\
model:
  class_path: zoo.modules.{self.module}
  init_args:
    backbone:
      class_path: zoo.{self.family}
      init_args:
        vocab_size: {self.vocab_size}
        hidden_size: 16
        intermediate_size: 32
        num_hidden_layers: 1
        num_attention_heads: 2
        max_position_embeddings: 48
    head:
      class_path: zoo.heads.{self.head}
data:
  class_path: zoo.data.{self.data}
  init_args:
    source: rows.jsonl
    {self.length}: 16
    vocab_size: {self.vocab_size}
    batch_size: 4
trainer: {{accelerator: cpu, max_steps: 1, enable_progress_bar: false}}
"""


_TEXT, _LABELLED = '{"text": "a b"}', '{"text": "a b", "label": "x"}\n{"text": "c d", "label": "y"}'
_PAIR = '{"input": "a b", "target": "c"}'
SHAPED = [
    Shaped("DecoderModule", "decoders.Llama", "CausalLM", "Text", _TEXT, "sequence_length"),
    Shaped("DecoderModule", "decoders.GPT2", "SequenceClassification", "TextClassification", _LABELLED,
           "max_length"),
    Shaped("EncoderModule", "encoders.Bert", "MaskedLM", "Text", _TEXT, "sequence_length"),
    Shaped("EncoderModule", "encoders.Bert", "SequenceClassification", "TextClassification", _LABELLED,
           "max_length"),
    Shaped("EncoderDecoderModule", "encoder_decoders.Transformer", "Seq2SeqLM", "TextPairs", _PAIR,
           "max_length"),
    Shaped("EncoderDecoderModule", "encoder_decoders.Transformer", "SequenceClassification",
           "TextClassification", _LABELLED, "max_length"),
]  # fmt: skip
MISFITS = {"DecoderModule": "MaskedLM", "EncoderModule": "Seq2SeqLM", "EncoderDecoderModule": "CausalLM"}


@pytest.fixture(params=SHAPED, ids=lambda shaped: f"{shaped.family}-{shaped.head}")
def shaped(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shaped:
    found: Shaped = request.param
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.jsonl").write_text(f"{found.row}\n" * 40)
    return found


def test_every_shape_and_head_has_the_errors_of_keys_types_classes_and_lengths(
    command: Command, shaped: Shaped, tmp_path: Path
) -> None:
    family, data = f"zoo.{shaped.family}", f"zoo.data.{shaped.data}"
    group, name = family.rsplit(".", 1)
    mistakes = {
        ("hidden_size:", "hiden_size:"): f"""
            zoo: unknown key `hiden_size` for {family}
              at    model.backbone.hiden_size
              in    recipe.yaml:8
              did you mean `hidden_size`?
            """,
        ("hidden_size: 16", "hidden_size: wide"): f"""
            zoo: `hidden_size` of {family} must be int, got 'wide'
              at    model.backbone.hidden_size
              in    recipe.yaml:8
            """,
        (family, f"{family}x"): f"""
            zoo: unknown name `{name}x` in {group}
              at    model.backbone
              in    recipe.yaml:5
              did you mean `{name}`?
            """,
        (f"{shaped.head}\n", f"{shaped.head}s\n"): f"""
            zoo: unknown name `{shaped.head}s` in zoo.heads
              at    model.head
              in    recipe.yaml:14
              did you mean `{shaped.head}`?
            """,
        ("class_path: zoo.heads", "clas_path: zoo.heads"): f"""
            zoo: unknown key `clas_path` for `head` of zoo.modules.{shaped.module}
              at    model.head.clas_path
              in    recipe.yaml:14
              did you mean `class_path`?
            """,
        ("batch_size: 4", "batch_size: four"): f"""
            zoo: `batch_size` of {data} must be int, got 'four'
              at    data.batch_size
              in    recipe.yaml:21
            """,
        ("num_attention_heads: 2", "num_attention_heads: 3"): f"""
            zoo: `num_attention_heads` must divide `hidden_size` in {family}, got 3 and 16
              at    model.backbone.num_attention_heads
              in    recipe.yaml:11
            """,
        (f"{shaped.length}: 16", f"{shaped.length}: 64"): f"""
            zoo: rows of 64 tokens are too long for a model that sees 48
              at    data.{shaped.length}
              in    recipe.yaml:19
              set it to at most 48, or the backbone's max_position_embeddings
            """,
    }
    for (old, new), expected in mistakes.items():
        (tmp_path / "recipe.yaml").write_text(shaped.text.replace(old, new, 1))
        for verb in (["fit", "--config", "recipe.yaml"], ["check", "recipe.yaml"]):
            assert refused(command, tmp_path, *verb) == screen(expected), (old, new)


def test_every_shape_and_head_has_the_errors_of_data(
    command: Command, shaped: Shaped, tmp_path: Path
) -> None:
    (tmp_path / "recipe.yaml").write_text(shaped.text)
    field = next(iter(json.loads(shaped.row.splitlines()[0])))
    first, at = shaped.row.splitlines()[0], "\n  at    data.source\n"
    files = {
        "": "zoo: rows.jsonl is empty" + at + "  in    recipe.yaml:18\n",
        f"{first}\n{{": "zoo: a line is no JSON: Expecting property name enclosed in double quotes: "
        "line 1 column 2 (char 1)" + at + "  in    rows.jsonl:2\n",
        f"{first}\n{{}}": f"zoo: a row has no `{field}`" + at + "  in    rows.jsonl:2\n",
    }
    for content, expected in files.items():
        (tmp_path / "rows.jsonl").write_text(content)
        assert refused(command, tmp_path, "fit", "--config", "recipe.yaml") == expected
    (tmp_path / "rows.jsonl").unlink()
    assert refused(command, tmp_path, "fit", "--config", "recipe.yaml") == screen("""
        zoo: no file or folder `rows.jsonl`
          at    data.source
          in    recipe.yaml:18
          give a path, or a data set's `owner/name`
        """)


@pytest.mark.parametrize("verb", ["fit", "check"])
def test_a_head_of_another_shape_is_refused_with_those_that_fit(
    command: Command, shaped: Shaped, tmp_path: Path, verb: str
) -> None:
    misfit = MISFITS[shaped.module]
    (tmp_path / "recipe.yaml").write_text(shaped.text.replace(f"heads.{shaped.head}\n", f"heads.{misfit}\n"))
    arguments = ["recipe.yaml"] if verb == "check" else ["--config", "recipe.yaml"]
    message, at, source, hint = refused(command, tmp_path, verb, *arguments).splitlines()
    assert message.startswith(
        f"zoo: the head zoo.heads.{misfit} does not fit zoo.{shaped.family}, which is a"
    )
    assert (at, source) == ("  at    model.head", "  in    recipe.yaml:13")
    assert hint.startswith("  heads that fit: ")
    assert shaped.head in hint
    assert misfit not in hint
