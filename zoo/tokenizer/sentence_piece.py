"""Tokenizers whose file is a SentencePiece model, Unigram or BPE.

Kudo and Richardson, 2018: https://arxiv.org/abs/1808.06226
"""

import json
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers

from zoo.errors import CheckpointError
from zoo.tokenizer import backends, special_tokens

FAIRSEQ_FILE = "sentencepiece.bpe.model"
"""So called where the ids are not the model's, but those of fairseq's dictionary."""
FILES = ("tokenizer.model", "spiece.model", "spm.model", FAIRSEQ_FILE)

_UNIGRAM, _BPE = 1, 2
_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED = 1, 2, 3, 4


def read(folder: Path, config: dict[str, Any]) -> tokenizers.Tokenizer | None:
    """The tokenizer of a folder, None where it has no such file; names its special tokens in `config`.

    Raises:
        CheckpointError: It is no such model, or of a kind that is not read; or the extra `sentencepiece` is
            not installed.
    """
    path = next((folder / name for name in FILES if (folder / name).is_file()), None)
    if path is None:
        return None
    model = parse(path)
    is_fairseq, is_bpe = path.name == FAIRSEQ_FILE, model.trainer_spec.model_type == _BPE
    if is_fairseq:
        _number_as_fairseq(model, path, config)
    backend = converted(model, config)
    _add_sentinels(backend, model.trainer_spec, config)
    _frame(backend, config, is_fairseq=is_fairseq, is_bpe=is_bpe)
    return backend


def converted(model: Any, config: dict[str, Any]) -> tokenizers.Tokenizer:
    """What a model does, nothing put around texts; names its special tokens in `config`."""
    backend = _bpe(model) if model.trainer_spec.model_type == _BPE else _unigram(model)
    _keep_spaces(backend, model.normalizer_spec, config)
    _add_special(backend, model, config)
    return backend


def parse(path: Path) -> Any:
    """What a file holds, as SentencePiece's own `ModelProto`.

    Raises:
        CheckpointError: It is no such model, or of a kind that is not read; or the extra `sentencepiece` is
            not installed.
    """
    try:
        from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
        from sentencepiece import sentencepiece_model_pb2
    except ImportError as error:
        raise CheckpointError(
            f"{path} is a SentencePiece model, which the extra `sentencepiece` reads",
            hint="pip install 'lightning-zoo[sentencepiece]'",
        ) from error
    model: Any = sentencepiece_model_pb2.ModelProto()  # type: ignore[attr-defined]
    try:
        model.ParseFromString(path.read_bytes())
        is_whole = model.pieces and model.HasField("trainer_spec")
    except DecodeError:
        is_whole = False
    if not is_whole:
        raise CheckpointError(f"{path} is no SentencePiece model, or is cut off", hint=backends.CONVERT)
    trained = model.trainer_spec
    if trained.model_type not in (_UNIGRAM, _BPE) or trained.treat_whitespace_as_suffix:
        raise CheckpointError(
            f"{path} is neither Unigram nor BPE with spaces before words", hint=backends.CONVERT
        )
    return model


def _bpe(model: Any) -> tokenizers.Tokenizer:
    """The model keeps scores; what two pieces are merged from is found again, the best first."""
    vocab = {piece.piece: number for number, piece in enumerate(model.pieces)}
    normal = {piece.piece: piece.score for piece in model.pieces if piece.type in (_NORMAL, _USER_DEFINED)}
    merges = [
        (piece[:cut], piece[cut:])
        for piece in sorted(normal, key=lambda piece: -normal[piece])
        for cut in range(1, len(piece))
        if piece[:cut] in normal and piece[cut:] in normal
    ]
    trained = model.trainer_spec
    return tokenizers.Tokenizer(
        models.BPE(
            vocab, merges, unk_token=trained.unk_piece, fuse_unk=True, byte_fallback=trained.byte_fallback
        )
    )


def _unigram(model: Any) -> tokenizers.Tokenizer:
    # What float32 knows of a score: more digits do not survive JSON.
    pieces = [(piece.piece, float(f"{piece.score:.9g}")) for piece in model.pieces]
    trained = model.trainer_spec
    return tokenizers.Tokenizer(
        models.Unigram(pieces, unk_id=trained.unk_id, byte_fallback=trained.byte_fallback)
    )


def _number_as_fairseq(model: Any, path: Path, names: dict[str, Any]) -> None:
    """Its dictionary begins with four special tokens of its own and ends with the mask.

    Raises:
        CheckpointError: config.json has another size: some families append languages, or begin otherwise.
    """
    tokens = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
    *first, mask = (model.SentencePiece(piece=token, type=_CONTROL) for token in tokens)
    pieces = [*first, *model.pieces[3:], mask]
    del model.pieces[:]
    model.pieces.extend(pieces)
    trained = model.trainer_spec
    trained.bos_id, trained.pad_id, trained.eos_id, trained.unk_id = range(4)
    usual = {"cls_token": tokens[0], "sep_token": tokens[2], "mask_token": tokens[4]}
    special_tokens.name_by_default(names, tokens, **usual)
    config = path.with_name("config.json")
    size = json.loads(config.read_text("utf-8")).get("vocab_size") if config.is_file() else None
    if size not in (None, len(pieces)):
        raise CheckpointError(
            f"{path} makes {len(pieces)} ids, but config.json says {size}, so other tokens are among them",
            hint=backends.CONVERT,
        )


def _keep_spaces(backend: tokenizers.Tokenizer, spec: Any, config: dict[str, Any]) -> None:
    """Spaces become ▁, and one is put before a text, as the model's normalizer says."""
    steps: list[normalizers.Normalizer] = []
    if spec.precompiled_charsmap:
        steps.append(normalizers.Precompiled(spec.precompiled_charsmap))
    if spec.remove_extra_whitespaces:
        steps.append(normalizers.Replace(Regex(r"\A +| +\z|(?<= ) +"), ""))
    # Before `legacy: false`, the space was also put after each special token.
    if spec.add_dummy_prefix and config.get("legacy", True):
        steps.append(normalizers.Prepend("▁"))
    elif spec.add_dummy_prefix:
        backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    backend.normalizer = normalizers.Sequence([*steps, normalizers.Replace(" ", "▁")])
    parts = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    backend.decoder = decoders.Sequence(parts + [decoders.Strip(" ", 1, 0)] * spec.add_dummy_prefix)


def _add_special(backend: tokenizers.Tokenizer, model: Any, config: dict[str, Any]) -> None:
    trained, vocab = model.trainer_spec, backend.get_vocab()
    ids = {name: getattr(trained, f"{name}_id") for name in ("bos", "eos", "unk", "pad")}
    usual = {
        f"{name}_token": getattr(trained, f"{name}_piece") for name, number in ids.items() if number >= 0
    }
    special_tokens.name_by_default(config, vocab, **usual)
    brackets = {f"{name}_token": f"[{name.upper()}]" for name in ("cls", "sep", "mask")}
    special_tokens.name_by_default(config, vocab, **brackets)
    for piece in model.pieces:
        if piece.type in (_UNKNOWN, _CONTROL, _USER_DEFINED) and piece.piece in vocab:
            special = piece.type != _USER_DEFINED
            backend.add_tokens([tokenizers.AddedToken(piece.piece, normalized=False, special=special)])


def _add_sentinels(backend: tokenizers.Tokenizer, trained: Any, config: dict[str, Any]) -> None:
    """T5's stand after the pieces, the first of them last; of its layout are there a hundred by default."""
    listed = sum(token.startswith("<extra_id_") for token in special_tokens.tokens(config))
    layout = (trained.pad_id, trained.eos_id, trained.unk_id, trained.bos_id) == (0, 1, 2, -1)
    number = config.get("extra_ids", listed or (100 if layout else 0))
    if number:
        config["extra_ids"] = number
        backend.add_special_tokens([f"<extra_id_{index}>" for index in reversed(range(number))])


def _frame(backend: tokenizers.Tokenizer, config: dict[str, Any], *, is_fairseq: bool, is_bpe: bool) -> None:
    """BERT's tokens around a text where there are such; else BPE begins it, Unigram ends it, as is usual."""
    named = special_tokens.named(config)
    if is_fairseq:
        backends.frame_as_fairseq(backend, "<s>", "</s>")
    elif "cls_token" in named and "sep_token" in named:
        backends.frame_as_bert(backend, named["cls_token"], named["sep_token"])
    else:
        start = named.get("bos_token") if config.get("add_bos_token", is_bpe) else None
        end = named.get("eos_token") if config.get("add_eos_token", not is_bpe) else None
        backends.frame_each(backend, start, end)
