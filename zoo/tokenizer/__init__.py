"""Texts to ids and back: tokenizers that a model's files bring, and ones that are trained here."""

from zoo.tokenizer.base import Tokenizer
from zoo.tokenizer.training import END, train, train_byte_level_bpe

__all__ = ["END", "Tokenizer", "train", "train_byte_level_bpe"]
