"""Plugins that misbehave harm neither listing, nor others, nor the zoo; each is told in one message."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

SOUND = "class Sound:\n    pass\n"
HEAD = """
from dataclasses import dataclass
from zoo.heads.causal_lm import CausalLM

@dataclass(frozen=True, kw_only=True)
class Bad(CausalLM):
    pass
"""
SUBJECT = "`zoo.heads.{name}` of plugin bad 1.0 (bad:{name})"
REPAIR = "\n  repair or remove it: pip uninstall bad"


class Site:
    """A folder of plugins, and what a process of its own makes of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.add("sound", "[zoo.heads]\nsound = sound:Sound", SOUND)

    def add(self, name: str, points: str, source: str | None, requires: str = "lightning-zoo") -> None:
        """A distribution of one module; without a source, its module is gone."""
        info = self.folder / f"{name}-1.0.dist-info"
        info.mkdir()
        needs = f"Requires-Dist: {requires}\n" if requires else ""
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{needs}")
        (info / "entry_points.txt").write_text(f"{points}\n")
        if source is not None:
            (self.folder / f"{name}.py").write_text(source)

    def run(self, code: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        """Python with these plugins."""
        return subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code],
            text=True, capture_output=True, timeout=120, check=False,
            env={**os.environ, "PYTHONPATH": str(self.folder), **environment},
        )  # fmt: skip

    def listed(self, **environment: str) -> dict[str, dict[str, str]]:
        """The rows of `zoo list plugins`, which must take no time and say nothing else."""
        start = time.perf_counter()
        done = self.run("from zoo.cli import main; main(['list', 'plugins', '--json'])", **environment)
        assert time.perf_counter() - start < 9, "a plugin was imported"
        assert (done.returncode, done.stderr) == (0, "")
        return {row["name"]: row for row in json.loads(done.stdout)["plugins"]}

    def use(self, name: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        """What comes of using one name, after a sound one."""
        code = (
            "import zoo.heads, zoo.errors\n"
            "assert zoo.heads.Sound.__module__ == 'sound'\n"
            "assert 'CausalLM' in dir(zoo.heads)\n"
            f"try:\n    print(zoo.heads.{name}.__name__)\n"
            "except zoo.errors.ZooError as error:\n    print(error)\n"
        )
        done = self.run(code, **environment)
        assert done.returncode == 0, done.stderr
        return done


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


RAISING = {
    "raises": ("raise RuntimeError('no luck')", "RuntimeError: no luck"),
    "exits": ("import sys; sys.exit(3)", "SystemExit: 3"),
    "imports what is not there": ("import nowhere", "ModuleNotFoundError: No module named 'nowhere'"),
    "has no such name": ("", "AttributeError: module 'bad' has no attribute 'Bad'"),
    "is gone": (None, "ModuleNotFoundError: No module named 'bad'"),
}


@pytest.mark.parametrize(("source", "cause"), RAISING.values(), ids=RAISING)
def test_a_plugin_that_cannot_be_imported_is_told_when_it_is_used(
    site: Site, source: str | None, cause: str
) -> None:
    site.add("bad", "[zoo.heads]\nbad = bad:Bad", source)
    assert {name: row["state"] for name, row in site.listed().items()} == {
        "lightning-zoo": "ok", "bad": "ok", "sound": "ok"
    }  # fmt: skip
    assert site.use("Bad").stdout == f"{SUBJECT.format(name='Bad')} cannot be imported: {cause}{REPAIR}\n"


def test_what_a_plugin_prints_is_no_part_of_an_answer(site: Site) -> None:
    site.add(
        "worse", "[zoo.heads]\nworse = worse:Worse", f"print('hello')\n{SOUND.replace('Sound', 'Worse')}"
    )
    done = site.use("Worse")
    assert (done.stdout, done.stderr) == ("Worse\n", "hello\n")


def test_a_plugin_that_takes_long_delays_whoever_uses_it_alone(site: Site) -> None:
    site.add("bad", "[zoo.heads]\nbad = bad:Bad", "import time; time.sleep(10)")
    assert site.listed()["bad"]["state"] == "ok"
    done = site.run("import zoo.heads, sys; zoo.heads.Sound; assert 'bad' not in sys.modules")
    assert done.returncode == 0, done.stderr


UNUSABLE = {
    "shadows a first-party name": (
        "causal_lm = bad:Bad", "lightning-zoo", "shadowed",
        "lightning-zoo registers that name, too (zoo.heads.causal_lm.CausalLM); use bad.Bad",
        f"{SUBJECT.format(name='Bad')} is shadowed: lightning-zoo registers that name, too "
        "(zoo.heads.causal_lm.CausalLM)\n  use bad.Bad",
    ),
    "clashes with another": (
        "sound = bad:Bad", "lightning-zoo", "clash",
        "sound registers that name, too (sound.Sound); use bad.Bad",
        "Bad",
    ),
    "needs another zoo": (
        "bad = bad:Bad", "lightning-zoo>99", "incompatible",
        "it needs lightning-zoo>99, 0.1.0 is installed; pip install 'lightning-zoo>99'",
        f"{SUBJECT.format(name='Bad')} is incompatible: it needs lightning-zoo>99, 0.1.0 is installed\n"
        "  pip install 'lightning-zoo>99'",
    ),
    "has a broken entry point": (
        "bad = bad.Bad", "lightning-zoo", "malformed",
        "its entry point must read `name = module:Attribute`, not `bad = bad.Bad`; pip uninstall bad",
        "`zoo.heads.Bad` of plugin bad 1.0 (bad.Bad) is malformed: its entry point must read "
        "`name = module:Attribute`, not `bad = bad.Bad`\n  pip uninstall bad",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("point", "requires", "state", "reason", "told"), UNUSABLE.values(), ids=UNUSABLE)
def test_a_plugin_that_cannot_be_used_is_listed_with_the_reason(
    site: Site, point: str, requires: str, state: str, reason: str, told: str
) -> None:
    source = "raise SystemExit" if state in ("incompatible", "malformed") else SOUND.replace("Sound", "Bad")
    site.add("bad", f"[zoo.heads]\n{point}", source, requires)
    row = site.listed()["bad"]
    assert (row["version"], row["state"], row["reason"]) == ("1.0", state, reason)
    if state != "clash":  # then Sound's bare name is one of two, too
        assert site.use("Bad").stdout == f"{told}\n"


def test_two_that_clash_are_both_told_by_the_bare_name(site: Site) -> None:
    for name in ("bad", "worse"):
        site.add(name, f"[zoo.heads]\ncat = {name}:Cat", SOUND.replace("Sound", "Cat"))
    assert site.use("Cat").stdout == (
        "`Cat` in zoo.heads is claimed by several plugins; name the one you mean by its import path\n"
        "  bad.Cat of bad\n  worse.Cat of worse\n"
    )


def test_an_allow_list_leaves_out_what_it_does_not_name(site: Site) -> None:
    site.add("bad", "[zoo.heads]\nbad = bad:Bad", SOUND.replace("Sound", "Bad"))
    assert site.use("Bad").stdout == "Bad\n"
    rows = site.listed(ZOO_PLUGINS="sound")
    assert {name: row["state"] for name, row in rows.items()} == {
        "lightning-zoo": "ok", "bad": "disabled", "sound": "ok"
    }  # fmt: skip
    assert rows["bad"]["reason"] == "ZOO_PLUGINS does not name it; ZOO_PLUGINS=sound,bad"
    assert site.use("Bad", ZOO_PLUGINS="sound").stdout == (
        f"{SUBJECT.format(name='Bad')} is disabled: ZOO_PLUGINS does not name it\n  ZOO_PLUGINS=sound,bad\n"
    )
    assert site.use("Bad", ZOO_PLUGINS="Sound, BAD").stdout == "Bad\n"


def test_a_plugin_that_names_no_version_of_the_zoo_is_warned_of(site: Site) -> None:
    site.add("bad", "[zoo.heads]\nbad = bad:Bad", SOUND.replace("Sound", "Bad"), requires="")
    row = site.listed()["bad"]
    assert (row["state"], row["registers"]) == ("ok", "bad")
    assert row["reason"] == "warning: it does not say which lightning-zoo it needs"
    assert "reason" not in site.listed()["sound"]


@pytest.mark.slow
def test_a_checkpoint_names_the_plugins_that_it_was_made_with(site: Site, tmp_path: Path) -> None:
    site.add("bad", "[zoo.heads]\nbad = bad:Bad", HEAD)
    code = f"""
import lightning as L, torch, zoo
from zoo.testing.families import Family
family = Family(zoo.decoders.Llama)
module = family.unbuilt(zoo.heads.Bad(), lr_schedule=zoo.schedules.Constant())
rows = [{{name: value[0] for name, value in family.batch().items()}}]
trainer = L.Trainer(max_steps=1, accelerator='cpu', logger=False, enable_checkpointing=False,
    enable_progress_bar=False, enable_model_summary=False, limit_val_batches=0)
trainer.fit(module, torch.utils.data.DataLoader(rows))
trainer.save_checkpoint({str(tmp_path / "made.ckpt")!r})
"""
    done = site.run(code)
    assert done.returncode == 0, done.stderr
    path = str(tmp_path / "made.ckpt")
    load = f"try:\n    zoo.load({path!r})\nexcept zoo.errors.ZooError as error:\n    print(error)"
    load = f"import zoo, zoo.errors\n{load}"
    assert site.run(load).stdout == ""
    for path in tmp_path.glob("bad*"):
        path.rename(path.with_name(f"gone-{path.name}.away"))
    assert site.run(load).stdout == (
        f"{tmp_path / 'made.ckpt'} was made with bad 1.0, which is not installed\n  pip install bad==1.0\n"
    )
