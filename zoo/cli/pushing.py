"""`zoo push`: a model to the Hub."""

from zoo.cli.options import Options


def run(verb: str, arguments: list[str]) -> None:
    """Publishes it and says where it is."""
    parser = Options(prog="zoo push", description="Publish a model on the Hub.")
    parser.add_argument("model", metavar="MODEL", help="a folder in the Hub's format, or a run's .ckpt")
    parser.add_argument("repo_id", metavar="REPO_ID", help="owner/name")
    seen = parser.add_mutually_exclusive_group()
    seen.add_argument("--private", action="store_true", default=None, help="never into a public repository")
    seen.add_argument(
        "--public", dest="private", action="store_false", default=None, help="a new one is public"
    )
    parser.add_argument("--branch", default="main", help="made where it is missing")
    parser.add_argument("--pull-request", action="store_true", help="opens one in place of a commit")
    parser.add_argument("--head", help="the name of the one that is published, where there are several")
    parser.add_argument("--license", help="for the card: apache-2.0, mit …")
    parser.add_argument("--language", help="for the card: en …")
    choices = vars(parser.parse_args(arguments))

    import zoo

    print(zoo.push(choices.pop("model"), choices.pop("repo_id"), **choices))
