"""Counts of rows that were left out outlive a restart."""

from types import SimpleNamespace
from typing import Any

from zoo.data import Mixture, Text
from zoo.errors import DataError
from zoo.training.skipping import SkippedRows


def trainer_of(data: Any) -> Any:
    return SimpleNamespace(datamodule=data, world_size=1)


def test_rows_that_were_met_before_a_restart_are_counted_once() -> None:
    parts = {"one": Text("texts", on_bad_row="skip"), "two": Text("texts")}
    for row in (3, 3, 5):
        parts["one"].bad_rows.meet(f"row {row}", DataError(f"row {row} cannot be read"))
    saved: dict[str, Any] = {}
    SkippedRows().on_save_checkpoint(trainer_of(Mixture(parts)), Any, saved)  # type: ignore[arg-type]
    assert saved["skipped_rows"].keys() == {"one"}
    again = Text("texts", on_bad_row="skip")
    again.bad_rows.meet("row 5", DataError("row 5 cannot be read"))
    SkippedRows().on_load_checkpoint(trainer_of(Mixture({"one": again})), Any, saved)  # type: ignore[arg-type]
    assert again.bad_rows.count == 2
    assert sorted(again.bad_rows.shown) == ["row 3 cannot be read", "row 5 cannot be read"]
