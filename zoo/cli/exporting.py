"""`zoo export`: a model in the Hub's format, as an ONNX graph or as a gguf file."""

from pathlib import Path

from zoo.cli.options import Options


def run(verb: str, arguments: list[str]) -> None:
    """Writes the folder and says how to use it."""
    parser = Options(prog="zoo export", description="Write a model for other programs.")
    parser.add_argument("model", metavar="MODEL", help="a run's .ckpt, a folder or a Hub id")
    parser.add_argument("folder", metavar="DIR", help="where the files go")
    parser.add_argument(
        "--format",
        choices=["hf", "onnx", "gguf"],
        default="hf",
        help="the Hub's (the default), a graph for onnxruntime and its like, or one file for llama.cpp",
    )
    parser.add_argument("--head", help="the name of the one that is written, where there are several")
    choices = parser.parse_args(arguments)

    import zoo
    from zoo.cli.defaults import quiet
    from zoo.hub import to_gguf, to_onnx

    quiet()
    folder, model = Path(choices.folder), zoo.load(choices.model)
    write = {"hf": zoo.save, "onnx": to_onnx.export, "gguf": to_gguf.export}[choices.format]
    write(model, folder, head=choices.head)
    print(f"{folder} holds: {', '.join(sorted(path.name for path in folder.iterdir()))}")
