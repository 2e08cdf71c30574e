"""What fields mean: their own docstrings, or the Hub's words, which need none in every family."""

import ast
import dataclasses
import functools
import inspect
import itertools
import textwrap
from collections.abc import Mapping

HUB: Mapping[str, str] = {
    "attention_bias": "Whether the projections of attention have biases.",
    "attention_dropout": "Probability of dropping a weight of attention.",
    "attention_probs_dropout_prob": "Probability of dropping a weight of attention.",
    "bos_token_id": "What stands before a text.",
    "classifier_dropout": "Probability of dropping a channel before a classifier.",
    "cls_token_id": "What stands before a text that is classified.",
    "decoder_intermediate_size": "Width of the decoder's feed-forward.",
    "embedding_dropout": "Probability of dropping a channel of the embedding.",
    "eos_token_id": "What ends a text; of several, any.",
    "hidden_act": "What bends the feed-forward.",
    "hidden_activation": "What bends the feed-forward.",
    "hidden_dropout_prob": "Probability of dropping a channel before each sum.",
    "hidden_size": "Width of the residual stream.",
    "intermediate_size": "Width of the feed-forward.",
    "layer_norm_eps": "What keeps a norm from dividing by zero.",
    "layer_norm_epsilon": "What keeps a norm from dividing by zero.",
    "mlp_bias": "Whether the projections of the feed-forward have biases.",
    "norm_eps": "What keeps a norm from dividing by zero.",
    "num_attention_heads": "Heads of queries.",
    "num_decoder_attention_heads": "Heads of the decoder's queries.",
    "num_decoder_layers": "Blocks of the decoder.",
    "num_hidden_layers": "Blocks.",
    "num_key_value_heads": "Heads of keys and values.",
    "pad_token_id": "What fills shorter rows.",
    "rms_norm_eps": "What keeps a norm from dividing by zero.",
    "rope_parameters": "How positions turn queries and keys.",
    "sep_token_id": "What stands between texts and after the last.",
}
"""Keys of config.json that mean the same in every family."""


@functools.cache
def meanings(kind: type) -> Mapping[str, str]:
    """What each field of a dataclass means, where it is said."""
    found: dict[str, str] = {}
    for base in (base for base in reversed(kind.__mro__) if dataclasses.is_dataclass(base)):
        found |= _docstrings(base)
    names = [item.name for item in dataclasses.fields(kind)]
    return {name: told for name in names if (told := found.get(name) or HUB.get(name))}


def _docstrings(kind: type) -> dict[str, str]:
    """The text below each field; Python keeps it in the source alone."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(kind)))
    except (OSError, TypeError, SyntaxError):  # made without a file
        return {}
    body = tree.body[0].body  # type: ignore[attr-defined]
    found = {}
    for field, below in itertools.pairwise(body):
        is_field = isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if is_field and isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
            found[field.target.id] = inspect.cleandoc(str(below.value.value))
    return found
