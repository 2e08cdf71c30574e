"""Families of which each breaks one promise, named after the check that notices it."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import sound_decoder
import sound_encoder
import torch
from torch import Tensor, nn

from zoo.layers import Mask

Spec = sound_decoder.YourPlugin
Decoder = sound_decoder.YourPluginDecoder


def spec(base: type = Spec, build: Callable[[Any], nn.Module] | None = None, **members: Any) -> Any:
    """A family that differs from a sound one by some members."""
    made = {**members, **({"build": lambda self: build(self)} if build else {}), "__module__": __name__}
    name = f"Broken{sum(name.startswith('Broken') for name in globals())}"
    globals()[name] = dataclass(frozen=True, kw_only=True)(type(name, (base,), made))
    return globals()[name]


def after(change: Callable[[Tensor], Tensor], base: type = Spec, backbone: type = Decoder) -> Any:
    """A family whose hidden states are changed."""

    class Changed(backbone):  # type: ignore[misc]
        def forward(self, *arguments: Any, **keywords: Any) -> Tensor:
            return change(super().forward(*arguments, **keywords))

    return spec(base, Changed)


def with_blocks(make: Callable[[Any], type[nn.Module]]) -> Any:
    """A family whose blocks are changed."""

    class Changed(Decoder):  # type: ignore[misc]
        def __init__(self, sizes: Any) -> None:
            super().__init__(sizes)
            kind = make(sound_decoder.YourPluginBlock)
            self.blocks = nn.ModuleList(kind(sizes) for _ in range(sizes.num_hidden_layers))

    return spec(build=Changed)


def _with_tuple() -> Any:
    return spec(sizes=(1, 2), __annotations__={"sizes": tuple[int, ...]})


def _with_word_for_number() -> Any:
    return spec(window=3, tiny={"window": "auto"}, __annotations__={"window": int})


def _without_words() -> Any:
    return spec(mystery=3, __annotations__={"mystery": int})


class Heavy(Decoder):
    def __init__(self, sizes: Any) -> None:
        super().__init__(sizes)
        self.norm.weight = nn.Parameter(torch.ones(sizes.hidden_size, device="cpu"))


class Unsteady(Decoder):
    def reset_parameters(self) -> None:
        self.embedding.weight.normal_(generator=torch.Generator().manual_seed(int.from_bytes(os.urandom(4))))


class Large(Decoder):
    def reset_parameters(self) -> None:
        self.embedding.weight.normal_(std=1.0)


class Unlisted(Decoder):
    def __init__(self, sizes: Any) -> None:
        super().__init__(sizes)
        self.blocks = nn.Sequential(*self.blocks)


class Looking(Decoder):
    """Each token sees all of its row."""

    def forward(self, input_ids: Tensor, mask: Mask, cache: Any = None) -> Tensor:
        both = mask.with_prefix(torch.ones_like(input_ids, dtype=torch.bool))
        return super().forward(input_ids, both, cache)


class Mixing(Decoder):
    """Texts that share a row see each other."""

    def forward(self, input_ids: Tensor, mask: Mask, cache: Any = None) -> Tensor:
        documents = mask.documents_BS
        return super().forward(input_ids, Mask(None if documents is None else documents > 0), cache)


class Forgetful(Decoder):
    def forward(self, input_ids: Tensor, mask: Mask, cache: Any = None) -> Tensor:
        if cache is not None:
            mask = Mask(None if mask.documents_BS is None else mask.documents_BS[:, -input_ids.shape[1] :])
        return super().forward(input_ids, mask)


class Idle(Decoder):
    def __init__(self, sizes: Any) -> None:
        super().__init__(sizes)
        self.idle = nn.Linear(sizes.hidden_size, sizes.hidden_size)


def counting(base: Any) -> Any:
    class Counting(base):
        calls = 0

        def forward(self, x: Tensor, *rest: Any) -> Tensor:
            self.calls += 1
            return super().forward(x + self.calls * x.detach().roll(1, -1), *rest)

    return Counting


def compiling(base: Any) -> Any:
    class Compiling(base):
        def forward(self, x: Tensor, *rest: Any) -> Tensor:
            return super().forward(x, *rest) * (2 if torch.compiler.is_compiling() else 1)

    return Compiling


def rank_of_process(hidden: Tensor) -> Tensor:
    return hidden * (1 + int(os.environ.get("RANK", 0)) + 2 * int("WORLD_SIZE" in os.environ))


def mixed_with_padding(hidden: Tensor) -> Tensor:
    return hidden + hidden.mean(1, keepdim=True)


def mixed_with_the_batch(hidden: Tensor) -> Tensor:
    return hidden - hidden.mean(0, keepdim=True)


@dataclass(frozen=True, kw_only=True)
class FalseGPTJ(Spec):
    """Registered under a `model_type` of transformers."""


@dataclass(frozen=True, kw_only=True)
class Forgotten(Spec):
    """Its files say another epsilon than it has."""

    def to_hub(self) -> dict[str, Any]:
        return {**super().to_hub(), "rms_norm_eps": 0.5}


@dataclass(frozen=True, kw_only=True)
class Spread(Spec):
    """What it computes depends on the process."""

    def build(self) -> nn.Module:
        return _Spread(self)


class _Spread(Decoder):
    def forward(self, *arguments: Any, **keywords: Any) -> Tensor:
        return rank_of_process(super().forward(*arguments, **keywords))


BROKEN = {
    "spec_survives_json": (_with_tuple(), r".* came back from JSON in place of"),
    "spec_survives_the_command_line": (_with_word_for_number(), r"(?s).*window"),
    "every_field_is_documented": (_without_words(), r"nothing says what these are: mystery"),
    "bad_sizes_are_refused": (spec(__post_init__=lambda self: None), r"`vocab_size` may be 0; "),
    "builds_without_memory": (spec(build=Heavy), r"`norm.weight` is on cpu where all is built on meta"),
    "fresh_weights_depend_on_the_seed_alone": (spec(build=Unsteady), r"`backbone.embedding.weight` differs"),
    "fresh_weights_have_the_scale_of_the_spec": (spec(build=Large), r"`embedding.weight` starts with"),
    "hidden_states_have_their_shape_and_dtype": (after(Tensor.float), r"hidden states are torch.float32 where"),
    "what_it_repeats_stands_in_a_module_list": (spec(build=Unlisted), r"no `nn.ModuleList` holds its blocks"),
    "padding_changes_nothing": (
        after(mixed_with_padding, sound_encoder.YourPlugin, sound_encoder.YourPluginEncoder),
        r"hidden states with padding on the right differ by",
    ),
    "a_row_alone_equals_its_row_in_a_batch": (after(mixed_with_the_batch), r"hidden states of row 0 alone and"),
    "it_looks_where_its_shape_says": (spec(build=Looking), r"a token sees those after it"),
    "packed_equals_separate": (spec(build=Mixing), r"hidden states of text 1 packed and alone differ"),
    "packed_texts_never_meet": (spec(build=Mixing), r"a text of a packed row sees its neighbour"),
    "cached_equals_uncached": (spec(build=Forgetful), r"hidden states with and without a cache differ"),
    "it_writes_alone_what_it_writes_in_a_batch": (after(mixed_with_the_batch), r"together it writes \[\["),
    "gradients_reach_every_parameter": (spec(build=Idle), r"`backbone.idle.weight` gets no gradient"),
    "learns_a_batch_by_heart": (after(lambda hidden: hidden * 0), r"the loss of one batch is .* after 200 steps"),
    "computing_again_changes_nothing": (with_blocks(counting), r"under `block` the gradient of"),
    "bfloat16_agrees_with_float32": (
        after(lambda hidden: hidden + 1000 - 1000), r"hidden states of bfloat16 and float32 weights differ by"
    ),
    "compiled_agrees_with_eager": (with_blocks(compiling), r"the loss compiled and eager differ by"),
    "two_processes_learn_what_one_does": (Spread, r"weights `.*` of one process and of ddp-0 differ by"),
    "saved_and_loaded_it_is_the_same": (Forgotten, r"with what was loaded it computes other hidden states"),
    "transformers_loads_what_it_saves": (FalseGPTJ, r"AttributeError: .*FalseGPTJForCausalLM"),
    "it_equals_the_authors_reference": (Spec, r"logits: "),
}  # fmt: skip
"""By the check: a family, and what is said of it."""
