"""Specs: frozen, keyword-only dataclasses that name sizes or choices; JSON in, JSON out.

A recipe names specs, and `build()` makes the module, late. A family is a `BackboneSpec` with its fields in
the words of the Hub's `config.json`; a head is a `HeadSpec`.
"""

import dataclasses
import importlib
import os
import re
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, TypeVar, get_args, get_type_hints

from jsonargparse import set_parsing_settings
from jsonargparse.typing import register_type

from zoo import registry
from zoo.errors import SpecError, did_you_mean, with_article

if TYPE_CHECKING:
    from torch import nn

    from zoo.heads.base import Batch, Head
    from zoo.modules.base import ZooModule
    from zoo.testing import Reference

Shape = Literal["encoder", "decoder", "encoder-decoder"]
Pooling = Literal["first", "last", "eos", "mean"]
S = TypeVar("S")


@dataclass(frozen=True, kw_only=True)
class Spec:
    """What a recipe names and a module is built from."""

    expected_failures: ClassVar[Mapping[str, str]] = {}
    """Checks of `zoo.testing` that it is known to fail, by name, and why; one that passes is then a fault."""

    def to_plain(self) -> dict[str, Any]:
        """As class path and plain values: what recipes write and checkpoints keep."""
        values = {item.name: plain(getattr(self, item.name)) for item in fields(self)}
        return {"class_path": registry.path_of(type(self)), "init_args": values}


# Every spec is a class that recipes choose by `class_path`, wherever one is asked for.
set_parsing_settings(subclasses_enabled=[Spec])


def plain(value: Any) -> Any:
    """A value as str, int, float, bool, None, list and dict, specs by class path."""
    if isinstance(value, Spec):
        return value.to_plain()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        kept = {item.name: plain(getattr(value, item.name)) for item in fields(value)}
        return {name: item for name, item in kept.items() if item is not None}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def from_plain(value: Mapping[str, Any]) -> Any:
    """The spec that `to_plain` described.

    Only registered classes, and classes of modules that are imported already, are used: what a file names
    never causes another import.

    Raises:
        SpecError: The class is not to be had, is no spec, or does not take these values.
    """
    path = value["class_path"]
    module, _, name = path.rpartition(".")
    registered = module in registry.GROUPS or any(path == entry.import_path for entry in registry.entries())
    if not registered and module not in sys.modules:
        raise SpecError(f"`{path}` is not registered by any plugin", hint=f"import {module} first")
    found = getattr(importlib.import_module(module), name, None)
    if not (isinstance(found, type) and issubclass(found, Spec)):
        raise SpecError(f"`{path}` is no spec")
    return make(found, {key: _from_plain_field(item) for key, item in value.get("init_args", {}).items()})


def _from_plain_field(value: Any) -> Any:
    return from_plain(value) if isinstance(value, Mapping) and "class_path" in value else value


def make(spec: type[S], values: Mapping[str, Any]) -> S:
    """Calls a dataclass with values from JSON, nested dataclasses included.

    Raises:
        SpecError: A key that it does not have, by name, with the nearest that it has.
    """
    known = {item.name for item in fields(spec) if item.init}  # type: ignore[arg-type]
    for key in values:
        if key not in known:
            raise SpecError(
                f"unknown key `{key}` for {registry.path_of(spec)}", at=key, hint=did_you_mean(key, known)
            )
    hints = get_type_hints(spec)
    return spec(**{key: _nested(hints[key], value) for key, value in values.items()})


def _nested(hint: Any, value: Any) -> Any:
    if isinstance(value, Mapping):
        for kind in (hint, *get_args(hint)):
            if isinstance(kind, type) and dataclasses.is_dataclass(kind):
                return make(kind, value)
    return value


@dataclass(frozen=True)
class HubHead:
    """How a head stands in a family's files on the Hub."""

    architecture: str
    """The entry of config.json's `architectures`: LlamaForCausalLM."""
    weights: Mapping[str, str]
    """Hub name to name in the head, with `{}` for what both share; read in both directions."""
    bias: bool = False
    """Whether the head's projection has a bias."""
    shifts: bool = False
    """Whether logits of the vocabulary are shifted by numbers that are not trained."""
    transform: "Callable[[Any], nn.Module] | None" = None
    """Makes, from the backbone's spec, what stands between the hidden states and the projection."""
    pooling: Pooling | None = None
    """Whose hidden state stands for a text: its first token's, its last one's, its last end-of-text's, or the
    mean of all.

    None: the first in an encoder, else the last.
    """
    prefix: str = ""
    """What stands before the backbone's names in files with this head."""
    is_bare: bool = False
    """Whether files with this head name the backbone's tensors as those without any head do."""
    width: int | None = None
    """Channels from which a language model's projection makes logits; None: hidden_size."""
    num_words: int | None = None
    """How many logits these are; None: vocab_size."""
    softcap: float | None = None
    """What they are bent to lie within; None: they are as they are."""
    tied: str = "embedding.weight"
    """The backbone's weight that is the projection's, too, where the spec says `tie_word_embeddings`."""
    adds_backbone_loss: bool = True
    """Whether the backbone's own loss, where it has one, is added to this head's."""


@dataclass(frozen=True)
class Gguf:
    """How a family stands in gguf files, from which ggml's runtimes read decoders."""

    architecture: str
    """What the runtimes call it."""
    weights: Mapping[str, str]
    """gguf's name to name in the backbone, with `{}` for what both share."""
    has_neighbouring_pairs: bool = False
    """Whether channels that turn as a pair stand side by side there, and not half a head apart."""
    needs: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the spec to the only values that the runtimes compute with."""


@dataclass(frozen=True, kw_only=True)
class BackboneSpec(Spec, ABC):
    """Sizes of a family. Its fields are those of config.json; the class says the rest of the contract."""

    vocab_size: int
    """Tokens in the vocabulary."""
    hidden_size: int
    """Width of the residual stream."""
    max_position_embeddings: int
    """The longest text that the model was made for, in tokens."""
    initializer_range: float = 0.02
    """Standard deviation of fresh weights; norms start at one, biases at zero."""
    tie_word_embeddings: bool = False
    """Whether a language-model head shares the embedding's weight."""
    pad_token_id: int | None = None
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None

    shape: ClassVar[Shape]
    weights: ClassVar[Mapping[str, str]] = {}
    """Hub name to name in the backbone, with `{}` for what both share; read in both directions.

    Where the Hub's name has one more `{}`, its last one, ours stacks the tensors that are numbered there.
    """
    fused: ClassVar[Mapping[str, Sequence[str]]] = {}
    """Hub names that some files have in place of several of `weights`, to those; in this direction alone.

    Such a tensor holds several of one size, one after the other along the last dimension but one, and stacked
    where their names have one more `{}`; or one, under another name.
    """
    heads: ClassVar[Mapping[str, HubHead]] = {}
    """How the family's heads stand on the Hub, by the head's class name."""
    gguf: ClassVar[Gguf | None] = None
    """How the family stands in gguf files; None: in none."""
    renamed: ClassVar[Mapping[str, str]] = {}
    """Keys of config.json to fields, where they differ; read in both directions, of several the first."""
    aliases: ClassVar[Mapping[str, str]] = {}
    """Tensors that files may repeat or leave out to those that hold the same; both by their Hub names."""
    inputs: ClassVar[frozenset[str]] = frozenset()
    """What of a batch the backbone takes besides ids and mask, where it is there: `token_type_ids`."""
    ignored: ClassVar[frozenset[str]] = frozenset()
    """Keys of config.json that say nothing about the numbers."""
    prefix: ClassVar[str] = ""
    """What may stand before the backbone's names in a file, or be missing there: `bert.`"""
    unread: ClassVar[frozenset[str]] = frozenset()
    """Tensors that files may hold and the model does not read, by their Hub names, with `{}` for any part."""
    absent: ClassVar[frozenset[str]] = frozenset()
    """Sizes that may be 0, there being no such part then."""
    is_bounded: ClassVar[bool] = True
    """Whether texts longer than `max_tokens` cannot be read at all."""
    without: ClassVar[Mapping[str, str]] = {}
    """Keys of config.json that may ask for what the family does not do, and what asks for nothing."""
    undivided: ClassVar[str] = ""
    """Why tensor parallelism leaves its attention whole; nothing where it divides it."""
    tiny: ClassVar[Mapping[str, Any]] = {}
    """The sizes that checks build."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            is_size = name.startswith("num_") or name.endswith(("_size", "_dim", "max_position_embeddings"))
            least = 0 if name in self.absent else 1
            if is_size and value is not None and value < least:
                raise SpecError(f"`{name}` must be at least {least}, got {value}", at=name)
            if "dropout" in name and value is not None and not 0 <= value <= 1:
                raise SpecError(f"`{name}` must lie in [0, 1], got {value}", at=name)

    @abstractmethod
    def build(self) -> "nn.Module":
        """The backbone: token ids in, hidden states out.

        One that has a loss of its own, such as that of experts that are used unevenly, gives `WithLoss`,
        hidden states and loss, where no cache is given. The module adds it to its head's.
        """

    def reference(self, module: "ZooModule") -> "Reference | None":
        """Another implementation with a module's weights, which `zoo.testing` compares; None: none."""
        return None

    @classmethod
    def of_config(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        """The fields that config.json's keys speak of.

        Raises:
            SpecError: One asks for what the family does not do.
        """
        for key, absent in cls.without.items():
            if given := config.get(key):
                raise SpecError(f"`{key}` must be {absent} for {registry.path_of(cls)}, got {given}", at=key)
        return {cls.renamed.get(key, key): value for key, value in config.items() if key not in cls.without}

    def to_hub(self) -> dict[str, Any]:
        """The spec as keys of config.json."""
        keys = {field: key for key, field in reversed(list(self.renamed.items()))}
        return {keys.get(item.name, item.name): plain(getattr(self, item.name)) for item in fields(self)}

    @property
    def max_tokens(self) -> int:
        """The longest text that can be read, in tokens, where `is_bounded`."""
        return self.max_position_embeddings

    @property
    def architecture(self) -> str:
        """What config.json's `architectures` says of the backbone alone: LlamaModel."""
        return f"{type(self).__name__}Model"

    def hub_head(self, name: str) -> HubHead:
        """How the head of this class name stands on the Hub; a head unknown there keeps its own names."""
        return self.heads.get(name) or HubHead(f"{type(self).__name__}For{name}", {"head.{}": "{}"})


@dataclass(frozen=True, kw_only=True)
class EncoderSpec(BackboneSpec):
    """A family that reads a whole text at once."""

    shape: ClassVar[Shape] = "encoder"


@dataclass(frozen=True, kw_only=True)
class DecoderSpec(BackboneSpec):
    """A family that continues a text from left to right."""

    num_hidden_layers: int
    """Blocks."""

    shape: ClassVar[Shape] = "decoder"


@dataclass(frozen=True, kw_only=True)
class EncoderDecoderSpec(BackboneSpec):
    """A family that reads one text and writes another.

    Its backbone has `encode(input_ids, mask)`, which gives the hidden states that
    `decode(decoder_input_ids, mask, memory, memory_mask, cache)` looks at.
    """

    decoder_start_token_id: int | None = None
    """What stands before the first token that is written; None: as `start_id` says."""

    shape: ClassVar[Shape] = "encoder-decoder"
    begins_with: ClassVar[Literal["start", "last"]] = "start"
    """What the decoder is taught to read before a text: `start_id`, or the text's last token, mBART's
    language."""

    @property
    def start_id(self) -> int | None:
        """What the first token is written after; where `decoder_start_token_id` says nothing, padding."""
        return self.pad_token_id if self.decoder_start_token_id is None else self.decoder_start_token_id


@dataclass(frozen=True, kw_only=True)
class HeadSpec(Spec, ABC):
    """What stands on a backbone: hidden states to logits, loss, metrics, predictions."""

    shapes: ClassVar[tuple[Shape, ...]] = ()
    """The shapes of backbone that the head fits."""
    task: ClassVar[str] = ""
    """The Hub's word for what it does, by which data knows whether its batches serve: `fill-mask`."""
    pipeline_tag: ClassVar[str | None] = None
    """What a model card calls it, where that is not `task`."""
    reads: ClassVar[frozenset[str]] = frozenset()
    """What of a batch the head takes besides labels and what the backbone takes."""

    @abstractmethod
    def build(self, backbone: BackboneSpec) -> "Head":
        """The head for a backbone of these sizes."""

    @classmethod
    def of_config(cls, config: Mapping[str, Any]) -> Self:
        """The head that a config.json describes."""
        return cls()

    def to_hub(self) -> dict[str, Any]:
        """What config.json says of the head."""
        return {}

    @classmethod
    def example(cls, backbone: BackboneSpec) -> "Batch | None":
        """Three padded texts with labels, for `zoo.testing`.

        None: each row of the logits carries a number as its label, or where they are of tokens, each token.
        """
        return None

    def hub_head(self, backbone: BackboneSpec) -> HubHead:
        """How the head stands in the files of a backbone's family."""
        return backbone.hub_head(type(self).__name__)

    @classmethod
    def of_folder(cls, folder: Path) -> Self | None:
        """The head that files of its own describe, beside a backbone that was saved without any."""
        return None

    def files(self, backbone: BackboneSpec) -> Mapping[str, Any]:
        """JSON files of its own, by their places in a model's folder."""
        return {}

    def with_labels(self, labels: Sequence[str]) -> Self:
        """The same head with the data's labels, where it tells labels and names none."""
        return self

    def require_fit(self, backbone: BackboneSpec, at: str = "model.head") -> None:
        """Refuses a backbone of another shape.

        Args:
            backbone: It must have a shape that the head fits.
            at: Where the recipe names the head.

        Raises:
            SpecError: It names the heads that fit.
        """
        if backbone.shape in self.shapes:
            return
        heads = registry.usable("zoo.heads").items()
        fitting = [name for name, head in heads if backbone.shape in head.shapes]
        raise SpecError(
            f"the head {registry.path_of(type(self))} does not fit {registry.path_of(type(backbone))}, "
            f"which is {with_article(backbone.shape)}",
            at=at,
            hint=f"heads that fit: {', '.join(fitting) or 'none'}",
        )


@dataclass(frozen=True, kw_only=True)
class ScheduleSpec(Spec, ABC):
    """How the learning rate moves over a run."""

    @abstractmethod
    def factor(self, progress: float) -> float:
        """The share of the optimizer's learning rate at this share of the run, both from 0 to 1."""


_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")


@dataclass(frozen=True)
class HubModel:
    """A pre-trained model: `owner/name`, `owner/name@revision`, or a folder in the Hub's format."""

    name: str

    def __post_init__(self) -> None:
        if not self.is_folder and not _HUB_ID.fullmatch(self.name):
            raise SpecError(f"`{self.name}` is neither a folder nor a Hub id `owner/name[@revision]`")

    @property
    def is_folder(self) -> bool:
        """Whether it names a folder on this machine."""
        return bool(self.name) and Path(self.name).is_dir()

    @property
    def repo_id(self) -> str:
        """The Hub id without the revision."""
        return self.name.partition("@")[0]

    @property
    def revision(self) -> str | None:
        """The branch, tag or commit after `@`."""
        return self.name.partition("@")[2] or None

    @classmethod
    def parse(cls, value: Any) -> Self:
        """From what a recipe says; refuses what is no text."""
        if isinstance(value, cls):
            return value
        if not isinstance(value, str):
            raise SpecError("a Hub id or folder is a text")
        return cls(value)


def _hub_model_text(value: Any) -> str:
    # It must raise for anything else, or jsonargparse writes a spec beside it as text.
    if not isinstance(value, HubModel):
        raise ValueError("not a HubModel")
    return value.name


register_type(
    HubModel, _hub_model_text, HubModel.parse, type_check=lambda value, kind: isinstance(value, kind)
)


def require_divides(spec: Spec, divisor: str, number: str) -> None:
    """Refuses a spec whose field `number` is not a multiple of its field `divisor`.

    Raises:
        SpecError: With both names and values.
    """
    small, large = getattr(spec, divisor), getattr(spec, number)
    if small < 1 or large % small:
        raise SpecError(
            f"`{divisor}` must divide `{number}` in {registry.path_of(type(spec))}, got {small} and {large}",
            at=divisor,
        )


def require_known(spec: Spec, name: str, known: Iterable[str]) -> None:
    """Refuses a spec whose field `name` is none of the known choices.

    Raises:
        SpecError: With the value and the nearest choice.
    """
    value = getattr(spec, name)
    if value not in known:
        raise SpecError(
            f"unknown `{name}` for {registry.path_of(type(spec))}, got {value!r}",
            at=name,
            hint=did_you_mean(str(value), known),
        )


def require_positive(spec: Spec, name: str) -> None:
    """Refuses a spec whose field `name` is below one.

    Raises:
        SpecError: With the value.
    """
    value = getattr(spec, name)
    if value < 1:
        raise SpecError(f"`{name}` must be at least 1, got {value}", at=name)


def require_at_most(spec: Spec, name: str, largest: str) -> None:
    """Refuses a spec whose field `name` is above its field `largest`.

    Raises:
        SpecError: With both names and values.
    """
    value, most = getattr(spec, name), getattr(spec, largest)
    if value > most:
        raise SpecError(
            f"`{name}` must be at most `{largest}` in {registry.path_of(type(spec))}, got {value} and {most}",
            at=name,
        )


def require_tied(spec: Spec) -> None:
    """Refuses a spec of a family whose files have no place for the bias of a projection of its own.

    Raises:
        SpecError: The projection is not the embedding.
    """
    if not spec.tie_word_embeddings:  # type: ignore[attr-defined]
        raise SpecError(
            f"`tie_word_embeddings` must be true in {registry.path_of(type(spec))}, "
            "whose projection is its embedding",
            at="tie_word_embeddings",
        )


LAYER_TYPES = ("full_attention", "sliding_attention")
"""config.json's `layer_types`: a layer sees all, or what is within a window."""


def require_layer_types(spec: BackboneSpec) -> None:
    """Refuses a spec whose `layer_types` and `sliding_window` do not say of each layer how far it looks.

    Raises:
        SpecError: The window sees nothing, or the types are too few or too many, one of them is unknown, or
            one slides and there is no window.
    """
    kinds, number, window = (
        getattr(spec, name) for name in ("layer_types", "num_hidden_layers", "sliding_window")
    )
    path = registry.path_of(type(spec))
    if window is not None:
        require_positive(spec, "sliding_window")
    if kinds is None:
        return
    if len(kinds) != number:
        raise SpecError(
            f"`layer_types` must name one for each of {number} layers in {path}, got {len(kinds)}",
            at="layer_types",
        )
    for kind in kinds:
        if kind not in LAYER_TYPES:
            raise SpecError(
                f"unknown `layer_types` for {path}, got {kind!r}",
                at="layer_types",
                hint=did_you_mean(str(kind), LAYER_TYPES),
            )
    if window is None and "sliding_attention" in kinds:
        raise SpecError(f"`sliding_window` must be given where a layer slides in {path}", at="sliding_window")
