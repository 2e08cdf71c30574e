"""`zoo export`: a run's checkpoint in the Hub's format."""

from zoo.cli.options import Options


def run(verb: str, arguments: list[str]) -> None:
    """Writes the folder and says how to use it."""
    parser = Options(prog="zoo export", description="Write a checkpoint in the Hub's format.")
    parser.add_argument("checkpoint", metavar="CKPT", help="a run's .ckpt")
    parser.add_argument("folder", metavar="DIR", help="where config.json and model.safetensors go")
    choices = parser.parse_args(arguments)

    import zoo

    folder = zoo.save(zoo.load(choices.checkpoint), choices.folder)
    print(f"{folder} holds: {', '.join(sorted(path.name for path in folder.iterdir()))}")
