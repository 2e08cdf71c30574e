"""Options of the verbs that write texts, and the model that they name."""

from argparse import ArgumentParser
from typing import TYPE_CHECKING, Any

from zoo.errors import GenerationError, RecipeError, with_article

if TYPE_CHECKING:
    from zoo.modules.generating import GeneratingModule

_EARLY = {"true": True, "false": False, "never": "never"}


def add_options(parser: ArgumentParser) -> None:
    """Adds MODEL and what `generate` takes; what is not given is as generation_config.json says."""
    parser.add_argument("model", metavar="MODEL", help="Hub id, folder or .ckpt")
    add = parser.add_argument_group("what is written").add_argument
    add("--max-new-tokens", type=int, metavar="N", help="at most so many")
    add("--stop", action="append", metavar="TEXT", help="a text that ends it; may be repeated")
    add("--choices", action="append", metavar="TEXT", help="one of these and nothing else; is repeated")
    add("--head", metavar="NAME", help="which one writes, where several do")
    add = parser.add_argument_group("drawing").add_argument
    add("--temperature", type=float, metavar="T", help="0 is greedy; above, tokens are drawn")
    add("--top-k", type=int, metavar="K", help="draw among so many of the likeliest")
    add("--top-p", type=float, metavar="P", help="draw among the likeliest that hold this much probability")
    add("--min-p", type=float, metavar="P", help="draw among those with this share of the likeliest's")
    add("--seed", type=int, metavar="N", help="makes draws repeatable")
    add = parser.add_argument_group("repetitions").add_argument
    add("--repetition-penalty", type=float, metavar="X", help="above 1, tokens come again less often")
    add("--no-repeat-ngram-size", type=int, metavar="N", help="so many tokens never come twice")
    add = parser.add_argument_group("the model").add_argument
    add("--revision", metavar="REV", help="a branch, tag or commit on the Hub")
    add("--device", metavar="DEVICE", help="cpu, cuda, cuda:1 …; by default a GPU where there is one")
    add("--dtype", choices=["float32", "bfloat16", "float16"], help="by default the files' own")


def add_beam_options(parser: ArgumentParser) -> None:
    """Adds what asks for several texts, or for the likeliest of several."""
    add = parser.add_argument_group("several texts").add_argument
    add("--num-beams", type=int, metavar="N", help="keep so many texts in search of the likeliest")
    add("--length-penalty", type=float, metavar="X", help="above 0, beams favour long texts")
    add("--early-stopping", choices=sorted(_EARLY), help="whether beams end with the first N texts")
    add("--num-return-sequences", type=int, metavar="N", help="texts of each prompt")


def loaded(options: dict[str, Any], *, talks: bool = False) -> "GeneratingModule":
    """The model that is named; leaves in the options what `generate` takes.

    Args:
        options: What was given.
        talks: Whether it needs a chat template.

    Raises:
        GenerationError: It writes no text, or has no chat template.
        RecipeError: There is no such device.
    """
    import torch

    import zoo
    from zoo.modules.generating import GeneratingModule

    name, revision, dtype = (options.pop(key) for key in ("model", "revision", "dtype"))
    device = options.pop("device") or ("cuda" if torch.cuda.is_available() else "cpu")
    if (early := options.get("early_stopping")) is not None:
        options["early_stopping"] = _EARLY[early]
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise RecipeError(f"there is no device `{device}`: {reason}") from error
    model = zoo.load(name, revision=revision, dtype=dtype and getattr(torch, dtype), device=device)
    if not isinstance(model, GeneratingModule):
        raise GenerationError(
            f"{with_article(model.shape)} writes no text", hint="`zoo predict` asks its head"
        )
    model.writer(options.get("head"))
    if talks and not model.require_tokenizer().chat_templates:
        raise GenerationError(
            "the model has no chat template", hint="`zoo generate` without --chat continues a text"
        )
    return model
