"""Texts to ids and back: tokenizers that a model's files bring, and ones that are trained here."""

from zoo.tokenizer.base import Tokenizer
from zoo.tokenizer.chat import PLAIN as PLAIN_TEMPLATE
from zoo.tokenizer.chat import Message
from zoo.tokenizer.training import END, train, train_byte_level_bpe

__all__ = ["END", "PLAIN_TEMPLATE", "Message", "Tokenizer", "train", "train_byte_level_bpe"]
