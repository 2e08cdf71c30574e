"""`zoo export`: a run's checkpoint in the Hub's format."""

from zoo.cli.options import Options


def run(verb: str, arguments: list[str]) -> None:
    """Writes the folder and says how to use it."""
    parser = Options(prog="zoo export", description="Write a checkpoint in the Hub's format.")
    parser.add_argument("checkpoint", metavar="CKPT", help="a run's .ckpt")
    parser.add_argument("folder", metavar="DIR", help="where config.json and model.safetensors go")
    parser.add_argument("--head", help="the name of the one that is written, where there are several")
    choices = parser.parse_args(arguments)

    import zoo

    folder = zoo.save(zoo.load(choices.checkpoint), choices.folder, head=choices.head)
    print(f"{folder} holds: {', '.join(sorted(path.name for path in folder.iterdir()))}")
