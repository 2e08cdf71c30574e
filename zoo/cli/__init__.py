"""The `zoo` command. Light verbs import no torch."""

import sys

from zoo.errors import RecipeError, ZooError, did_you_mean
from zoo.importing import import_module

HELP = """\
Lightning Zoo: Transformers of all three shapes, trained by recipes, extended by plugins.

  zoo fit --config RECIPE [--key value …]   train; RECIPE is a file, a packaged name or hub:owner/name
  zoo validate, test, predict --config RECIPE --ckpt_path CKPT
  zoo check RECIPE [--devices N]            keys, types, fit, sizes; nothing is trained
  zoo generate MODEL PROMPT                 continue a text; MODEL is a Hub id, a folder or a .ckpt
  zoo generate MODEL --file F --out O       the same with each line of a file
  zoo chat MODEL                            talk to a model that was taught to
  zoo pull MODEL [--revision] [--to DIR]    fetch a model's files from the Hub
  zoo push MODEL REPO_ID [--private]        publish a folder or a checkpoint on the Hub
  zoo export MODEL DIR [--format F]         hf, the Hub's format; onnx; gguf
  zoo plugin new NAME --shape SHAPE         write a plugin that works as it stands
  zoo plugin check NAME                     hold a plugin to what is promised of it
  zoo schema                                a JSON schema of recipes, for editors
  zoo list [families, heads, modules, data, recipes, plugins] [--json]

`zoo VERB --help` says more of each. Recipes to start with: zoo list recipes"""

_VERBS = {
    "fit": "training",
    "validate": "training",
    "test": "training",
    "predict": "training",
    "check": "checking",
    "generate": "generating",
    "chat": "chatting",
    "pull": "pulling",
    "push": "pushing",
    "export": "exporting",
    "list": "listing",
    "plugin": "plugin",
    "schema": "schema",
}
"""Each verb's module, imported when it is used."""


def main(arguments: list[str] | None = None) -> None:
    """Runs the command; a mistake of its user ends it with 2 and one screen."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        _dispatch(arguments)
    except ZooError as error:
        print(f"zoo: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("zoo: interrupted", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # `zoo list | head`
        sys.stderr.close()


def _dispatch(arguments: list[str]) -> None:
    verb = arguments[0] if arguments else "--help"
    if verb in ("-h", "--help", "help"):
        print(HELP)
    elif verb == "--version":
        from importlib.metadata import version

        print(f"zoo {version('lightning-zoo')}")
    elif verb not in _VERBS:
        raise RecipeError(f"unknown command `{verb}`", hint=did_you_mean(verb, _VERBS))
    else:
        import_module(f"zoo.cli.{_VERBS[verb]}").run(verb, arguments[1:])
