"""Options of the verbs that write texts, and the model that they name."""

from argparse import ArgumentParser
from typing import TYPE_CHECKING, Any

from zoo.errors import GenerationError, RecipeError, with_article

if TYPE_CHECKING:
    import torch

    from zoo.modules.base import ZooModule
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
    add("--draft", metavar="MODEL", help="a smaller model that guesses tokens: the same text, sooner")
    add("--prompt-lookup", action="store_true", help="guess tokens from what the text repeats")
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
    import zoo
    from zoo.generation import PromptLookup

    name, revision, draft = (options.pop(key) for key in ("model", "revision", "draft"))
    dtype, device = _named_dtype(options.pop("dtype")), _named_device(options.pop("device"))
    if (early := options.get("early_stopping")) is not None:
        options["early_stopping"] = _EARLY[early]
    model = _writer(zoo.load(name, revision=revision, dtype=dtype, device=device))
    model.writer(options.get("head"))
    if talks and not model.require_tokenizer().chat_templates:
        raise GenerationError(
            "the model has no chat template", hint="`zoo generate` without --chat continues a text"
        )
    if options.pop("prompt_lookup"):
        if draft is not None:
            raise RecipeError("tokens are guessed by --draft or by --prompt-lookup, not by both")
        options["speculation"] = PromptLookup()
    elif draft is not None:
        options["speculation"] = _writer(zoo.load(draft, dtype=dtype, device=device))
    return model


def _writer(model: "ZooModule") -> "GeneratingModule":
    from zoo.modules.generating import GeneratingModule

    if not isinstance(model, GeneratingModule):
        raise GenerationError(
            f"{with_article(model.shape)} writes no text", hint="`zoo predict` asks its head"
        )
    return model


def _named_dtype(name: str | None) -> "torch.dtype | None":
    import torch

    return None if name is None else getattr(torch, name)


def _named_device(name: str | None) -> str:
    import torch

    name = name or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise RecipeError(f"there is no device `{name}`: {reason}") from error
    return name
