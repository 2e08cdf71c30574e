"""`zoo pull`: a model's files from the Hub."""

from zoo.cli.options import Options


def run(verb: str, arguments: list[str]) -> None:
    """Fetches them and says where they are."""
    parser = Options(prog="zoo pull", description="Fetch a model from the Hub; nothing of it is run.")
    parser.add_argument("model", metavar="MODEL", help="owner/name[@revision] on the Hub")
    parser.add_argument("--revision", help="a branch, tag or commit; by default the newest")
    parser.add_argument("--to", metavar="DIR", help="copies the files there; else they stay in the cache")
    parser.add_argument(
        "--allow-pickle",
        action="store_true",
        help="where there are pickled weights alone, read their tensors and write safetensors to DIR",
    )
    choices = parser.parse_args(arguments)

    import zoo

    folder = zoo.pull(choices.model, choices.revision, choices.to, allow_pickle=choices.allow_pickle)
    print(folder)
