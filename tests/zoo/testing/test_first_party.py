"""Everything that comes with the zoo passes the kit that plugins pass; the registry says what there is."""

import re
from typing import Any

import pytest

from zoo.testing.checks import Check, run
from zoo.testing.plugins import SUBJECTS, entries_of
from zoo.testing.profiles import profile

ENTRIES = {
    f"{entry.group} {entry.name}": entry for entry in entries_of("lightning-zoo") if entry.group in SUBJECTS
}
CASES = [
    pytest.param(name, check, id=f"{name} {check.name}", marks=[pytest.mark.slow] if check.is_slow else [])
    for name, entry in ENTRIES.items()
    for check in profile(SUBJECTS[entry.group][0])
]
WELL_SKIPPED = re.compile(
    r"an encoder writes nothing|transformers knows no model_type `\w+`|its author gives no `reference`|"
    r"no head of the zoo's own is for the tasks none|it names no `tasks`, so it cannot tell|"
    r"HF_HUB_OFFLINE forbids to ask for the models of [\w/, -]+; the others hold"
)
"""The reasons for which something of the zoo's own may skip a check."""

pytestmark = pytest.mark.filterwarnings(
    "ignore:Mismatch dtype between input and weight",  # torch's, of norms in float32 under autocast
    "ignore:.*torch.jit.script_method.*:DeprecationWarning",  # the compiler's own
    "ignore:The .grad attribute of a Tensor that is not a leaf",
)


@pytest.mark.parametrize(("name", "check"), CASES)
def test_what_comes_with_the_zoo_conforms(name: str, check: Check) -> None:
    entry = ENTRIES[name]
    kind, subject = SUBJECTS[entry.group]
    found: Any = entry.name if kind == "recipes" else entry.load()
    outcome = run(check, subject(found), getattr(found, "expected_failures", {}))
    if outcome.state == "skipped":
        assert WELL_SKIPPED.fullmatch(outcome.reason), outcome.reason
        pytest.skip(outcome.reason)
    if outcome.state == "expected":
        pytest.xfail(outcome.reason)
    assert not outcome.is_bad, outcome.reason
