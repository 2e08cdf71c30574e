"""What it costs to import a plugin, in a process of its own."""

import json
import subprocess
import sys

from zoo.testing.checks import Skip, slow
from zoo.testing.families import Family

MOST_SECONDS = 0.5
HEAVY = ("transformers", "datasets", "sklearn", "pandas", "tensorflow")
_CODE = """
import contextlib, importlib, io, json, sys, time
import zoo.modules.base, zoo.generation, zoo.specs
before, printed = set(sys.modules), io.StringIO()
start = time.perf_counter()
with contextlib.redirect_stdout(printed):
    importlib.import_module(sys.argv[1])
seconds = time.perf_counter() - start
new = {name.partition('.')[0] for name in set(sys.modules) - before}
print(json.dumps({'seconds': seconds, 'new': sorted(new), 'printed': printed.getvalue()}))
"""


@slow
def its_import_is_light_and_silent(family: Family) -> None:
    """Beside what every family needs, its import takes half a second at most, and prints nothing."""
    module = family.kind.__module__
    if module == "__main__":
        raise Skip("it is defined in a script")
    done = subprocess.run(  # noqa: S603 - this Python
        [sys.executable, "-c", _CODE, module], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, f"import {module} fails alone: {done.stderr.strip().splitlines()[-1:]}"
    found = json.loads(done.stdout.splitlines()[-1])
    heavy = sorted(set(HEAVY) & set(found["new"]))
    assert not heavy, f"import {module} imports {', '.join(heavy)}; import them where they are used"
    assert not found["printed"], f"import {module} prints {found['printed'][:60]!r}"
    seconds = found["seconds"]
    assert seconds <= MOST_SECONDS, f"import {module} takes {seconds:.2f} s; {MOST_SECONDS} s is allowed"
