"""`zoo generate`: a model continues a text."""

from zoo.cli.options import Options
from zoo.errors import GenerationError


def run(verb: str, arguments: list[str]) -> None:
    """Prints the prompt's continuation."""
    parser = Options(prog="zoo generate", description="Continue a text.")
    parser.add_argument("model", metavar="MODEL", help="Hub id, folder or .ckpt")
    parser.add_argument("prompt", metavar="PROMPT", help="the text to continue")
    parser.add_argument("--max-new-tokens", type=int, help="at most so many")
    parser.add_argument("--temperature", type=float, help="0 is greedy; above, tokens are drawn")
    parser.add_argument("--top-k", type=int, help="draw among so many of the likeliest")
    parser.add_argument(
        "--top-p", type=float, help="draw among the likeliest that hold this much probability"
    )
    parser.add_argument("--stop", action="append", default=[], help="a text that ends it; may be repeated")
    parser.add_argument("--seed", type=int, help="makes draws repeatable")
    choices = vars(parser.parse_args(arguments))

    import zoo
    from zoo.modules.generating import GeneratingModule

    model, prompt = zoo.load(choices.pop("model")), choices.pop("prompt")
    if not isinstance(model, GeneratingModule):
        raise GenerationError(f"an {model.shape} writes no text", hint="zoo predict asks its head")
    text = model.generate(prompt, **choices)
    print(prompt + text if model.shape == "decoder" else text)
