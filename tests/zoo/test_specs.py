"""Specs: JSON in, JSON out."""

import json
import subprocess
import sys
from dataclasses import FrozenInstanceError, dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import zoo.decoders
import zoo.heads
import zoo.schedules
from zoo.errors import SpecError
from zoo.heads.base import Head
from zoo.layers import RopeParameters
from zoo.specs import BackboneSpec, EncoderSpec, HeadSpec, HubModel, from_plain, make, plain


@st.composite
def llamas(draw: st.DrawFn) -> Any:
    num_groups, group, head_dim = (draw(st.integers(1, 4)) for _ in range(3))
    num_heads = num_groups * group
    has_own_width = draw(st.booleans())
    rope = draw(
        st.sampled_from(
            [
                RopeParameters(),
                RopeParameters(rope_type="linear", factor=2.0),
                RopeParameters(
                    rope_type="llama3",
                    rope_theta=5e5,
                    factor=8.0,
                    low_freq_factor=1.0,
                    high_freq_factor=4.0,
                    original_max_position_embeddings=16,
                ),
            ]
        )
    )
    return zoo.decoders.Llama(
        vocab_size=draw(st.integers(1, 10**6)),
        hidden_size=draw(st.integers(1, 99)) if has_own_width else num_heads * head_dim,
        head_dim=head_dim if has_own_width else None,
        num_attention_heads=num_heads,
        num_key_value_heads=draw(st.sampled_from([None, num_groups])),
        rms_norm_eps=draw(st.floats(1e-9, 1e-3)),
        rope_parameters=rope,
        tie_word_embeddings=draw(st.booleans()),
        eos_token_id=draw(st.none() | st.integers(0, 9) | st.lists(st.integers(0, 9), min_size=1)),
        hidden_act=draw(st.sampled_from(["silu", "gelu", "relu"])),
    )


@given(llamas())
def test_a_spec_comes_back_from_json_as_it_was(spec: Any) -> None:
    written = spec.to_plain()
    assert written["class_path"] == "zoo.decoders.Llama"
    assert from_plain(json.loads(json.dumps(written))) == spec
    assert from_plain(written).to_plain() == written


def test_what_is_not_written_keeps_its_default() -> None:
    spec = from_plain({"class_path": "zoo.decoders.Llama", "init_args": {"hidden_size": 64}})
    assert spec == zoo.decoders.Llama(hidden_size=64)
    assert from_plain({"class_path": "zoo.heads.CausalLM"}) == zoo.heads.CausalLM()


def test_a_spec_is_frozen_and_takes_keywords_alone() -> None:
    spec = zoo.decoders.Llama()
    with pytest.raises(FrozenInstanceError):
        spec.hidden_size = 3
    with pytest.raises(TypeError):
        zoo.decoders.Llama(3)


@dataclass(frozen=True, kw_only=True)
class Nest(HeadSpec):
    """A spec with specs and a path inside."""

    shapes = ("encoder",)
    inner: HeadSpec = zoo.heads.CausalLM()  # noqa: RUF009 - frozen
    folder: Path = Path("a")
    many: tuple[int, ...] = (1, 2)

    def build(self, backbone: BackboneSpec) -> Head:
        raise NotImplementedError


def test_specs_within_specs_come_back_and_paths_are_text() -> None:
    written = Nest(folder=Path("b/c")).to_plain()
    assert written["init_args"] == {
        "inner": {"class_path": "zoo.heads.CausalLM", "init_args": {}},
        "folder": "b/c",
        "many": [1, 2],
    }
    assert from_plain(written).inner == zoo.heads.CausalLM()


def test_unset_fields_of_a_group_are_left_out() -> None:
    rope = RopeParameters(rope_type="linear", factor=2.0)
    assert plain(rope) == {"rope_theta": 10000.0, "rope_type": "linear", "factor": 2.0}


# What a file names is never imported for it.


def test_a_class_of_no_plugin_is_refused_and_not_imported() -> None:
    assert "xml.sax.expatreader" not in sys.modules or sys.modules.pop("xml.sax.expatreader")
    with pytest.raises(SpecError) as caught:
        from_plain({"class_path": "xml.sax.expatreader.ExpatParser"})
    assert str(caught.value) == (
        "`xml.sax.expatreader.ExpatParser` is not registered by any plugin\n"
        "  import xml.sax.expatreader first"
    )
    assert "xml.sax.expatreader" not in sys.modules


@pytest.mark.parametrize(
    "path", ["os.system", "zoo.decoders.Llama.build", "zoo.modules.DecoderModule", "os", ""]
)
def test_what_is_no_spec_is_refused(path: str) -> None:
    with pytest.raises(SpecError, match=rf"^`{path}` is (no spec|not registered by any plugin)"):
        from_plain({"class_path": path, "init_args": {"command": "true"}})


def test_a_class_of_an_imported_module_is_built() -> None:
    written = Nest().to_plain()
    assert written["class_path"] == f"{Nest.__module__}.Nest"
    assert from_plain(written) == replace(Nest(), folder="a", many=[1, 2])  # type: ignore[arg-type]


def test_an_unknown_key_names_the_nearest() -> None:
    with pytest.raises(SpecError) as caught:
        from_plain({"class_path": "zoo.decoders.Llama", "init_args": {"hiden_size": 3}})
    assert str(caught.value) == (
        "unknown key `hiden_size` for zoo.decoders.Llama\n  at    hiden_size\n  did you mean `hidden_size`?"
    )


def test_an_unknown_key_of_a_group_names_all_where_none_is_near() -> None:
    with pytest.raises(SpecError) as caught:
        make(zoo.decoders.Llama, {"rope_parameters": {"qqq": 3}})
    assert caught.value.message == "unknown key `qqq` for zoo.layers.positions.RopeParameters"
    assert caught.value.hint == (
        "known: factor, high_freq_factor, low_freq_factor, original_max_position_embeddings, "
        "partial_rotary_factor, rope_theta, rope_type"
    )


# Hub ids and folders


@pytest.mark.parametrize(
    ("text", "repo_id", "revision"),
    [
        ("google-bert/bert-base-uncased", "google-bert/bert-base-uncased", None),
        ("a/b@main", "a/b", "main"),
        ("a/b.c-d_e@refs/pr/1", "a/b.c-d_e", "refs/pr/1"),
    ],
)
def test_a_hub_id_is_an_owner_a_name_and_perhaps_a_revision(
    text: str, repo_id: str, revision: str | None
) -> None:
    model = HubModel.parse(text)
    assert (model.repo_id, model.revision, model.is_folder) == (repo_id, revision, False)
    assert HubModel.parse(model) is model


def test_a_folder_that_is_there_is_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine").mkdir()
    assert HubModel("mine").is_folder
    assert HubModel(str(tmp_path)).is_folder


@pytest.mark.parametrize(
    "text", ["", "bert", "zoo.decoders.Llama", "a/b/c", "a/b@", "@main", "a b/c", "/nowhere/x", "a/b@x y"]
)
def test_what_is_neither_folder_nor_hub_id_is_refused(text: str) -> None:
    with pytest.raises(SpecError) as caught:
        HubModel.parse(text)
    assert caught.value.message == f"`{text}` is neither a folder nor a Hub id `owner/name[@revision]`"


@pytest.mark.parametrize("value", [3, None, {"class_path": "x"}, ["a/b"]])
def test_a_hub_model_is_a_text(value: object) -> None:
    with pytest.raises(SpecError, match=r"^a Hub id or folder is a text$"):
        HubModel.parse(value)


# Heads and backbones


@dataclass(frozen=True, kw_only=True)
class Reader(EncoderSpec):
    """An encoder."""

    vocab_size: int = 8
    hidden_size: int = 4
    max_position_embeddings: int = 4

    def build(self) -> Any:
        raise NotImplementedError


def test_a_head_fits_the_shapes_that_it_names() -> None:
    zoo.heads.CausalLM().require_fit(zoo.decoders.Llama())
    Nest().require_fit(Reader())


def test_a_head_that_does_not_fit_names_those_that_do() -> None:
    with pytest.raises(SpecError) as caught:
        Nest().require_fit(zoo.decoders.Llama())
    name = f"{Nest.__module__}.Nest"
    message, at, hint = str(caught.value).splitlines()
    assert message == f"the head {name} does not fit zoo.decoders.Llama, which is a decoder"
    assert at == "  at    model.head"
    assert hint.startswith("  heads that fit: ")
    assert "CausalLM" in hint


def test_the_specs_import_no_torch() -> None:
    code = "import sys, zoo.specs; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
