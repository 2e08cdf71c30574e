"""The kinds of `tokenizers.Tokenizer` that are made here, each around its vocabulary."""

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

CONVERT = (
    "let transformers write a tokenizer.json: AutoTokenizer.from_pretrained(name).save_pretrained(folder)"
)
"""What helps where files are of a kind that is not read."""


def byte_level(model: models.Model, *, add_prefix_space: bool = False) -> tokenizers.Tokenizer:
    """Over bytes, each written as one character: nothing is unknown, every text comes back."""
    backend = tokenizers.Tokenizer(model)
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
    backend.decoder = decoders.ByteLevel()
    return backend


def wordpiece(
    vocab: dict[str, int],
    unknown: str = "[UNK]",
    *,
    lowercase: bool,
    strip_accents: bool | None = None,
    handle_chinese_chars: bool = True,
) -> tokenizers.Tokenizer:
    """BERT's: words at white space and punctuation, each in the longest pieces that are known."""
    backend = tokenizers.Tokenizer(models.WordPiece(vocab, unk_token=unknown))
    backend.normalizer = normalizers.BertNormalizer(
        handle_chinese_chars=handle_chinese_chars, strip_accents=strip_accents, lowercase=lowercase
    )
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    return backend


def frame(backend: tokenizers.Tokenizer, single: str, pair: str) -> None:
    """Puts special tokens around a text and around a pair, as templates say: `[CLS] $A [SEP]`."""
    tokens = {part.partition(":")[0] for part in f"{single} {pair}".split()} - {"$A", "$B"}
    ids = [(token, backend.token_to_id(token)) for token in sorted(tokens)]
    backend.post_processor = processors.TemplateProcessing(
        single=single.split(), pair=pair.split(), special_tokens=ids
    )


def frame_as_bert(backend: tokenizers.Tokenizer, start: str, end: str) -> None:
    """One start, and an end after each text; the second text of a pair is another segment."""
    frame(backend, f"{start} $A {end}", f"{start} $A {end} $B:1 {end}:1")


def frame_as_fairseq(backend: tokenizers.Tokenizer, start: str, end: str) -> None:
    """As BERT, but two ends between the texts of a pair, and no segments."""
    frame(backend, f"{start} $A {end}", f"{start} $A {end} {end} $B {end}")


def frame_each(backend: tokenizers.Tokenizer, start: str | None, end: str | None) -> None:
    """A start before each text and an end after it, where there are such."""
    one, two = (f"{start or ''} {text} {end or ''}" for text in ("$A", "$B"))
    frame(backend, one, f"{one} {two}")
