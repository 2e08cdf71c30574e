"""`zoo plugin new` and `zoo plugin check`."""

import importlib

from zoo.errors import RecipeError, did_you_mean

HELP = """\
zoo plugin new NAME --shape encoder, decoder or encoder-decoder
zoo plugin new NAME --kind head, data, module or recipes
zoo plugin check NAME [--json]

`new` writes a package that works as it stands; `check` holds an installed plugin to what is promised."""

_VERBS = {"new": "scaffolding", "check": "conforming"}


def run(verb: str, arguments: list[str]) -> None:
    """Hands on to the verb's module.

    Raises:
        RecipeError: There is no such verb.
    """
    chosen = arguments[0] if arguments else "--help"
    if chosen in ("-h", "--help"):
        print(HELP)
    elif chosen not in _VERBS:
        raise RecipeError(f"unknown command `zoo plugin {chosen}`", hint=did_you_mean(chosen, _VERBS))
    else:
        importlib.import_module(f"zoo.cli.{_VERBS[chosen]}").run(arguments[1:])
