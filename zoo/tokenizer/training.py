"""Tokenizers that are trained on the texts at hand."""

import json
from collections.abc import Sequence

import tokenizers
from tokenizers import models, pre_tokenizers, trainers

from zoo.tokenizer import backends
from zoo.tokenizer.base import Tokenizer

END = "<|endoftext|>"
"""The token between documents of a byte-level BPE that is trained here."""


def train(kind: str, texts: Sequence[str], vocab_size: int) -> Tokenizer:
    """A tokenizer over these texts.

    Args:
        kind: `bpe`, `wordpiece` or `unigram`.
        texts: What it is trained on.
        vocab_size: At most so many ids; a few texts make fewer.
    """
    kinds = {"bpe": train_byte_level_bpe, "wordpiece": train_wordpiece, "unigram": train_byte_level_unigram}
    return kinds[kind](texts, vocab_size)


def train_byte_level_bpe(texts: Sequence[str], vocab_size: int) -> Tokenizer:
    """A byte-level BPE over these texts, with one special token between documents.

    Every text comes back as it was. Radford et al., 2019:
    https://cdn.openai.com/better-language-models/language_models_are_unsupervised_multitask_learners.pdf
    """
    backend = backends.byte_level(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer, length=len(texts))
    return _named(backend, bos_token=END, eos_token=END)


def train_wordpiece(texts: Sequence[str], vocab_size: int) -> Tokenizer:
    """A WordPiece over these texts, with BERT's special tokens around each; case is kept.

    White space comes back as single spaces, punctuation with spaces around, control characters not at all;
    words of unseen characters, or of more than 100, as [UNK]. Devlin et al., 2018:
    https://arxiv.org/abs/1810.04805
    """
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    learner = backends.wordpiece({}, lowercase=False)

    def learn(first: list[str], alphabet: list[str], vocab_size: int) -> dict[str, int]:
        trainer = trainers.WordPieceTrainer(
            vocab_size=vocab_size,
            special_tokens=first,
            initial_alphabet=alphabet,
            limit_alphabet=limit_alphabet,
            show_progress=False,
        )
        learner.train_from_iterator(texts, trainer, length=len(texts))
        return learner.get_vocab(with_added_tokens=False)

    # Each character may stand inside words, too. By itself the trainer numbers those anew each time.
    limit_alphabet = min(1000, (vocab_size - len(specials)) // 2)
    characters = sorted(learn(specials, [], 0).keys() - {*specials})
    inside = [piece for piece in characters if len(piece) > 1]
    outside = [piece for piece in characters if len(piece) == 1]
    vocab = learn([*specials, *inside], outside, vocab_size)
    backend = backends.wordpiece(vocab, lowercase=False)
    backend.add_special_tokens(specials)
    backends.frame_as_bert(backend, "[CLS]", "[SEP]")
    names = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    inputs = ["input_ids", "token_type_ids", "attention_mask"]
    return _named(backend, **dict(zip(names, specials, strict=True)), model_input_names=inputs)


def train_byte_level_unigram(texts: Sequence[str], vocab_size: int) -> Tokenizer:
    """A Unigram over the bytes of these texts, with T5's special tokens; `</s>` ends each.

    T5's own stands on characters and loses new lines, indents and unseen characters; this one gives every
    text back as it was. Kudo, 2018: https://arxiv.org/abs/1804.10959
    """
    specials = ["<pad>", "</s>", "<unk>"]
    learner = backends.byte_level(models.Unigram())
    trainer = trainers.UnigramTrainer(
        vocab_size=vocab_size, special_tokens=specials, unk_token=specials[2], show_progress=False
    )
    learner.train_from_iterator(texts, trainer, length=len(texts))
    learned = json.loads(learner.to_str())["model"]["vocab"][len(specials) :]
    vocab = _with_all_bytes(dict(learned), vocab_size - len(specials))
    backend = backends.byte_level(models.Unigram([*((token, 0.0) for token in specials), *vocab], unk_id=2))
    backend.add_special_tokens(specials)
    backends.frame_each(backend, None, "</s>")
    return _named(backend, **dict(zip(("pad_token", "eos_token", "unk_token"), specials, strict=True)))


def _with_all_bytes(scores: dict[str, float], size: int) -> list[tuple[str, float]]:
    """Each byte, and of longer pieces the best, in order.

    The trainer's scores differ in the last digits each time, and it numbers the bytes that it had no use for
    by steps of 0.0001 from the lowest score up; what this returns is the same each time.
    """
    scores = {piece: round(score, 6) for piece, score in scores.items()}
    lowest = min(scores.values(), default=0.0)
    used = {piece for piece, score in scores.items() if score > lowest + 256 * 0.0001}
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    single = {piece: scores[piece] if piece in used else lowest for piece in alphabet}

    def best_first(piece: tuple[str, float]) -> tuple[float, str]:
        return -piece[1], piece[0]

    longer = sorted((piece for piece in scores.items() if piece[0] not in single), key=best_first)
    return sorted([*single.items(), *longer[: size - len(single)]], key=best_first)


def _named(backend: tokenizers.Tokenizer, **config: object) -> Tokenizer:
    own = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
    return Tokenizer(backend, {**own, **config})
