"""Recipes from elsewhere: which options they may not set, who may set them, and which decisions are remembered."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar

import pydantic
import pytest
import yaml
from typing_extensions import TypeAliasType, TypedDict

import rosd_kit as rk
from rosd_kit.cli import main
from rosd_kit.errors import RecipeError, RunError
from rosd_kit.options.trusted import trusted_mark
from rosd_kit.plugins.manager import PluginManager
from rosd_kit.plugins.registry import Origin
from rosd_kit.recipe import SHIPPED, resolve_recipe
from rosd_kit.recipe.trust import NotTrusted, check_trust
from rosd_kit.recipe.trust_store import trust, trusted_folders
from rosd_kit.sweep.plan import make_plan
from rosd_kit.sweep.settings import read_sweep
from rosd_kit.sweep.store import Row
from rosd_kit.sweep.trial_id import trust_digests
from rosd_kit.sweep.worker import _run

SGLANG = {"rollout": {"name": "sglang"}}


class OldNames(rk.Reflector):
    """Reflects nothing."""

    name = "old_names"

    class Config(rk.Reflector.Config):
        """An option with an older name."""

        renamed_options: ClassVar[Mapping[str, str]] = {"address": "url"}
        url: Annotated[str | None, rk.Trusted("can send prompts")] = None

    def reflect(self, cases, generate):
        return [rk.Reflection(status="skipped")] * len(cases)


class Section(rk.Config):
    """A section of options."""

    where: Annotated[str | None, rk.Trusted("can send answers to a host")] = None


Mark = rk.Trusted("can send answers to a host")


@dataclasses.dataclass
class Endpoint:
    """A dataclass among the options."""

    host: Annotated[str, Mark] = ""


class Header(TypedDict):
    """A typed dictionary among the options."""

    key: Annotated[str, Mark]


class Anywhere(rk.Verifier):
    """Marks its options wherever a type has room for it."""

    name = "anywhere"

    class Config(rk.Verifier.Config):
        """Every place but the outermost."""

        optional: Annotated[str, Mark] | None = None
        listed: list[Annotated[str, Mark]] = pydantic.Field(default_factory=list)
        mapped: dict[str, Annotated[str, Mark] | int] = pydantic.Field(default_factory=dict)
        alias: TypeAliasType("Alias", Annotated[str, Mark]) | None = None
        uncalled: Annotated[str | None, rk.Trusted] = None
        renamed: Annotated[str | None, Mark] = pydantic.Field(default=None, alias="address")
        endpoint: Endpoint | None = None
        header: Header | None = None
        root: pydantic.RootModel[Annotated[list[str], Mark]] | None = None
        sections: TypeAliasType("Sections", list[Section]) = pydantic.Field(default_factory=list)

    def verify(self, problem, text):
        return rk.Verdict(score=0.0, success=False)


class AskServer(rk.Verifier):
    """Asks a server."""

    name = "ask_server"

    class Config(rk.Verifier.Config):
        """Its addresses, in every form."""

        url: Annotated[str | None, rk.Trusted("can send answers to a host")] = None
        script: str | None = pydantic.Field(default=None, json_schema_extra={"trusted": True})
        servers: dict[str, Section] = pydantic.Field(default_factory=dict)
        more: list[Section] = pydantic.Field(default_factory=list)

    def verify(self, problem, text):
        return rk.Verdict(score=0.0, success=False)


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    """A user who trusts nothing yet."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home" / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home" / "state"))


@pytest.fixture(scope="module")
def registry():
    return PluginManager(selection="builtin").registry


@pytest.fixture
def shared(tmp_path) -> Path:
    folder = tmp_path / "shared"
    folder.mkdir()
    return folder


def write(file: Path, content: Any) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump(content))
    return file


def refused(registry, what, *overrides, profile=None, **options) -> list[str]:
    """Return the paths that are refused."""
    resolution = resolve_recipe(str(what), overrides, profile, registry=registry, **options)
    try:
        check_trust(resolution.asks, registry)
    except NotTrusted as error:
        return [line.partition(":")[0] for line in str(error).split("\n")[:-1]]
    return []


def call(*words: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    return int(ended.value.code or 0)


EVIL = {
    "rollout.launch.python": "/tmp/evil.sh",
    "rollout.launch.args.model_path": "evil/model",
    "rollout.launch.args.trust_remote_code": True,
    "rollout.launch.env.PYTHONPATH": "/tmp/evil",
    "rollout.launch.env.LD_PRELOAD": "/tmp/evil.so",
    "rollout.launch.host": "0.0.0.0",
    "rollout.url": "http://evil.example",
    "rollout.initial_url": ["http://127.0.0.1:1", "http://evil.example"],
    "rollout.api_key_env": "AWS_SECRET_ACCESS_KEY",
    "rollout.sync_host": "10.0.0.1",
    "model.trust_remote_code": True,
    "model.pickle_weights": True,
    "tracking.to": ["tensorboard", "wandb"],
}


def nested(path: str, value: object) -> dict[str, Any]:
    for key in reversed(path.split(".")):
        value = {key: value}
    assert isinstance(value, dict)
    if "rollout" in value:
        value["rollout"] = {"name": "sglang", **value["rollout"]}
    return value


@pytest.mark.parametrize("path", EVIL)
def test_a_strangers_file_is_refused_by_name(registry, shared, path):
    file = write(shared / "evil.yaml", {"extends": "rosd", **nested(path, EVIL[path])})
    assert refused(registry, file) == [path]
    with pytest.raises(
        NotTrusted, match=rf"{re.escape(path)}: .*evil\.yaml.* can .*\n.*rosd-kit trust .*--trust-recipe.*{path}="
    ):
        check_trust(resolve_recipe(str(file), registry=registry).asks, registry)


@pytest.mark.parametrize("path", [path for path in EVIL if path != "rollout.initial_url"])
def test_the_command_line_is_trusted(registry, path):
    value = json.dumps(EVIL[path])
    assert refused(registry, "rosd", "rollout=sglang", f"{path}={value}") == []


@pytest.mark.parametrize(
    "harmless",
    [
        {"model": {"trust_remote_code": False, "pickle_weights": False}},
        {"tracking": {"to": ["tensorboard"]}},
        {"rollout": {"name": "sglang", "launch": {"host": "localhost", "python": None, "args": {}, "env": {}}, "url": []}},
    ],
)
def test_harmless_values_need_no_trust(registry, shared, harmless):
    assert refused(registry, write(shared / "plain.yaml", {"extends": "rosd", **harmless})) == []


@pytest.mark.parametrize("name", ["rosd", "recipes/rosd.yaml", "reference/rosd", "grpo"])
@pytest.mark.parametrize("profile", [None, "one-gpu", "paper-4b", "smol"])
def test_shipped_recipes_and_profiles_need_no_trust(registry, name, profile):
    assert refused(registry, name, profile=profile) == []


def test_a_copy_of_a_shipped_profile_is_trusted_until_it_differs(registry, shared):
    file = shared / "one-gpu.yaml"
    shutil.copy(SHIPPED / "profiles" / "one-gpu.yaml", file)
    assert refused(registry, "rosd", profile=str(file)) == []
    file.write_text(file.read_text() + "\n")
    assert refused(registry, "rosd", profile=str(file)) == ["rollout.launch.args.mem_fraction_static"]


class TestOrigins:
    """Each value counts by the file that wrote it."""

    def test_a_base_that_is_extended(self, registry, shared, tmp_path):
        write(shared / "evil.yaml", {"extends": "rosd", "model": {"trust_remote_code": True}})
        mine = write(tmp_path / "mine" / "good.yaml", {"extends": "../shared/evil.yaml", "steps": 3})
        trust(mine.parent)
        assert refused(registry, mine) == ["model.trust_remote_code"]

    def test_a_trusted_base_of_a_strangers_file(self, registry, shared, tmp_path):
        mine = write(tmp_path / "mine" / "good.yaml", {"extends": "rosd", **SGLANG, "model": {"trust_remote_code": True}})
        trust(mine.parent)
        file = write(shared / "more.yaml", {"extends": str(mine), "rollout": {"launch": {"env": {"A": "1"}}}})
        assert refused(registry, file) == ["rollout.launch.env.A"]

    def test_a_value_that_the_command_line_replaces(self, registry, shared):
        file = write(shared / "evil.yaml", {"extends": "rosd", **SGLANG, "model": {"trust_remote_code": True}})
        assert refused(registry, file, "model.trust_remote_code=true") == []

    def test_one_more_key_beside_those_of_the_command_line(self, registry, shared):
        file = write(shared / "evil.yaml", {"extends": "rosd", **nested("rollout.launch.env.LD_PRELOAD", "x")})
        assert refused(registry, file, "rollout.launch.env.A=x") == ["rollout.launch.env.LD_PRELOAD"]

    def test_a_profile_of_a_strangers_recipe(self, registry, shared):
        write(shared / "profile.yaml", {"extends": "micro", "model": {"pickle_weights": True}})
        file = write(shared / "plain.yaml", {"extends": "rosd", "profile": "profile.yaml"})
        assert refused(registry, file) == ["model.pickle_weights"]

    def test_options_for_components_in_a_profile(self, registry, shared):
        preset = {"rollout": {"sglang": {"launch": {"python": "/tmp/evil"}, "api_key_env": "HOME"}}}
        profile = write(shared / "profile.yaml", {"extends": "micro", "components": preset})
        paths = refused(registry, "rosd", "rollout=sglang", profile=str(profile))
        assert sorted(paths) == ["rollout.api_key_env", "rollout.launch.python"]
        assert refused(registry, "rosd", profile=str(profile)) == []

    @pytest.mark.parametrize("writes", ["reference", "value"])
    def test_a_reference_counts_by_its_writer_and_by_the_writer_of_the_value(self, registry, shared, tmp_path, writes):
        reference = {**SGLANG, "rollout": {"name": "sglang", "launch": {"python": "${tracking.project}"}}}
        value = {"tracking": {"project": "/tmp/evil"}}
        strangers, mine = (reference, value) if writes == "reference" else (value, reference)
        good = write(tmp_path / "mine" / "good.yaml", {"extends": "rosd", **mine})
        trust(good.parent)
        file = write(shared / "evil.yaml", {"extends": str(good), **strangers})
        assert refused(registry, file) == ["rollout.launch.python"]

    def test_a_reference_of_the_recipe_to_a_word_of_the_command_line(self, registry, shared):
        file = write(
            shared / "evil.yaml", {"extends": "rosd", **SGLANG, "rollout": {"name": "sglang", "url": "${tracking.project}"}}
        )
        assert refused(registry, file, "tracking.project=http://x") == ["rollout.url"]

    def test_an_old_name_keeps_its_origin(self, shared):
        manager = PluginManager(selection="builtin")
        manager.registry.add([OldNames], Origin(plugin="x", distribution="file", version="-", file="x.py"))
        file = write(shared / "evil.yaml", {"extends": "opsd", "reflector": {"name": "old_names", "address": "http://evil"}})
        with pytest.warns(match="address is called"):
            assert refused(manager.registry, file) == ["reflector.url"]


class TestPlugins:
    """Options of plugins are marked like those of the kit, and count wherever a component is named."""

    @pytest.fixture
    def registry(self):
        manager = PluginManager(selection="builtin")
        manager.registry.add([AskServer], Origin(plugin="x", distribution="file", version="-", file="x.py"))
        return manager.registry

    @pytest.mark.parametrize(
        ("verifier", "path"),
        [
            ({"name": "ask_server", "url": "http://x"}, "verifier.url"),
            ({"name": "ask_server", "script": "x.py"}, "verifier.script"),
            ({"name": "ask_server", "servers": {"a": {"where": "x"}}}, "verifier.servers.a.where"),
            ({"name": "ask_server", "more": [{"where": None}, {"where": "x"}]}, "verifier.more.1.where"),
            ({"name": "by_suite", "default": {"name": "ask_server", "url": "http://x"}}, "verifier.default.url"),
            (
                {"name": "by_suite", "default": "exact", "suites": {"a": {"name": "ask_server", "url": "u"}}},
                "verifier.suites.a.url",
            ),
        ],
    )
    def test_an_option_of_a_plugin(self, registry, shared, verifier, path):
        assert refused(registry, write(shared / "evil.yaml", {"extends": "rosd", "verifier": verifier})) == [path]

    @pytest.mark.parametrize(
        ("options", "path"),
        [
            ({"optional": "x"}, "optional"),
            ({"listed": ["x"]}, "listed"),
            ({"mapped": {"a": "x"}}, "mapped.a"),
            ({"alias": "x"}, "alias"),
            ({"uncalled": "x"}, "uncalled"),
            ({"address": "x"}, "address"),
            ({"endpoint": {"host": "x"}}, "endpoint.host"),
            ({"header": {"key": "x"}}, "header.key"),
            ({"root": ["x"]}, "root"),
            ({"sections": [{"where": "x"}]}, "sections.0.where"),
        ],
    )
    def test_a_mark_counts_wherever_the_type_has_it(self, shared, options, path):
        manager = PluginManager(selection="builtin")
        manager.registry.add([Anywhere], Origin(plugin="x", distribution="file", version="-", file="x.py"))
        verifier = {"name": "anywhere", **options}
        file = write(shared / "evil.yaml", {"extends": "rosd", "verifier": verifier})
        assert refused(manager.registry, file) == [f"verifier.{path}"]
        trust(shared)
        assert refused(manager.registry, file) == []

    def test_a_name_that_is_a_reference_hides_nothing(self, registry, shared):
        verifier = {"name": "by_suite", "default": {"name": "${tracking.project}", "url": "http://x"}}
        file = write(shared / "evil.yaml", {"extends": "rosd", "tracking": {"project": "ask_server"}, "verifier": verifier})
        assert refused(registry, file) == ["verifier.default.url"]

    def test_a_verifier_function_marks_its_options(self):
        @rk.verifier
        def asks(problem: rk.Problem, text: str, *, url: Annotated[str, rk.Trusted("can send answers")] = "") -> bool:
            return False

        assert trusted_mark(asks.Config.model_fields["url"]) == rk.Trusted("can send answers")

    def test_a_recipe_inside_an_installed_plugin_package_is_trusted(self, registry, tmp_path):
        package = tmp_path / "site-packages" / "rosd_kit_ask"
        file = write(
            package / "recipes" / "ask.yaml", {"extends": "rosd", "verifier": {"name": "ask_server", "url": "http://x"}}
        )
        beside = write(package.parent / "ask.yaml", yaml.safe_load(file.read_text()))
        (package / "__init__.py").touch()
        assert refused(registry, file) == ["verifier.url"]
        cls = registry.entry("verifier", "ask_server").cls
        registry.entries["verifier"].pop("ask_server")
        registry.add([cls], Origin(plugin="ask", distribution="rosd-kit-ask", version="1", file=str(package / "__init__.py")))
        assert refused(registry, file) == []
        assert refused(registry, beside) == ["verifier.url"]


class TestCommands:
    """Every command refuses before anything is started."""

    @pytest.fixture
    def evil(self, shared, tmp_path) -> Path:
        program = shared / "python.sh"
        program.write_text(f"#!/bin/sh\ntouch {tmp_path / 'ran'}\n")
        program.chmod(0o755)
        launch = {"python": str(program), "env": {"LD_PRELOAD": "x"}}
        return write(shared / "evil.yaml", {"extends": "rosd", "rollout": {"name": "sglang", "launch": launch}})

    @pytest.mark.parametrize(
        "words",
        [
            ("run", "RECIPE"),
            ("run", "RECIPE", "--dry-run"),
            ("eval", "micro", "--recipe", "RECIPE"),
            ("doctor", "RECIPE"),
            ("sweep", "RECIPE", "seed=0,1"),
            ("sweep", "RECIPE", "seed=0,1", "--dry-run"),
            ("sweep", "rosd", "recipe=rosd,RECIPE", "--dry-run"),
            ("show", "RECIPE"),
            ("diff", "rosd", "RECIPE"),
            ("diff", "rosd", "RECIPE", "--tabs"),
        ],
    )
    def test_it_is_refused(self, evil, tmp_path, monkeypatch, capsys, words):
        monkeypatch.chdir(tmp_path)
        assert call(*(word.replace("RECIPE", str(evil)) for word in words)) == 2
        shown = capsys.readouterr()
        assert "rollout.launch.python: " in shown.err and "rollout.launch.env.LD_PRELOAD: 'x'" in shown.err
        assert not (tmp_path / "ran").exists() and not (tmp_path / "runs").exists() and not (tmp_path / "sweeps").exists()

    def test_show_marks_every_option_that_needs_trust(self, evil, capsys):
        assert call("show", evil) == 2
        lines = {line.split(":")[0].strip(): line for line in capsys.readouterr().out.splitlines()}
        assert lines["python"].endswith("evil.yaml; REFUSED: not trusted")
        assert lines["trust_remote_code"].endswith("# default; needs trust") and "trust" not in lines["dtype"]
        assert call("show", evil, "--trust-recipe") == 0
        assert "REFUSED" not in capsys.readouterr().out

    def test_one_command_may_trust(self, evil, capsys):
        assert call("diff", "rosd", evil, "--trust-recipe") == 0
        sweep = read_sweep(str(evil), ["seed=0,1"], trust=True)
        assert len(make_plan(sweep, PluginManager(selection="builtin").registry).trials) == 2

    @pytest.mark.parametrize(
        "said",
        [
            {"axes": {"model.pickle_weights": [True, False]}},
            {"axes": {"steps": [1, 2]}, "set": {"model.pickle_weights": True}},
            {
                "axes": {"steps": [1, 2]},
                "rules": [{"when": {"steps": [1]}, "set": {"model.pickle_weights": True}, "because": "why not"}],
            },
        ],
    )
    def test_a_sweep_file_is_no_command_line(self, shared, registry, said):
        file = str(write(shared / "a.sweep.yaml", {"sweep": "a", "recipe": "rosd", **said}))
        with pytest.raises(NotTrusted, match=r"model\.pickle_weights: True \(from .*a\.sweep\.yaml\)"):
            make_plan(read_sweep(file), registry)
        assert make_plan(read_sweep("rosd", ["model.pickle_weights=true", "steps=1,2"]), registry)
        if "rules" not in said:
            assert make_plan(read_sweep(file, ["model.pickle_weights=true,false"]), registry)
        trust(shared)
        assert make_plan(read_sweep(file), registry)

    def test_a_trial_of_a_store_from_elsewhere_is_refused(self, tmp_path):
        recipe = yaml.safe_dump({"extends": "rosd", "name": "a", "model": {"pickle_weights": True}})

        def row(plugins: tuple[str, ...] = ()) -> Row:
            rest = {"holder": None, "lease_end": None, "stop": False, "error": None, "result": None}
            return Row(id="00", recipe=recipe, seed=0, plugins=plugins, state="running", starts=1, **rest)

        (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
        with pytest.raises(NotTrusted, match=r"model\.pickle_weights"):
            _run(tmp_path, row(), (), None)
        with pytest.raises(RunError, match=r"names plugin files that this sweep was not started with: .*evil\.py"):
            _run(tmp_path, row((str(tmp_path / "evil.py"),)), trust_digests(recipe, ()), None)
        assert not (tmp_path / "ran").exists()


class TestRuns:
    """A run keeps its trust, on this machine, in its folder, with its recipe."""

    @pytest.fixture
    def run(self, tmp_path, monkeypatch) -> Path:
        monkeypatch.chdir(tmp_path)
        small = ("profile=micro", "steps=1", "problems_per_step=2", "group_size=2", "evaluation.problems=0")
        assert (
            call("run", "rosd", *small, "sampling.max_new_tokens=8", "model.pickle_weights=true", "--quiet", "--name", "a") == 0
        )
        return tmp_path / "runs" / "a"

    def test_it_resumes_and_is_evaluated_unasked(self, run, tmp_path, registry, capsys):
        assert refused(registry, run / "recipe.yaml") == []
        assert call("run", "--resume", run, "steps=2", "--quiet") == 0
        assert call("run", "--resume", run, "--quiet") == 0
        moved = tmp_path / "elsewhere"
        shutil.copytree(run, moved)
        for words in (("run", "--resume", moved), ("eval", moved), ("eval", "micro", "--against", moved, "--recipe", "rosd")):
            assert call(*words) == 2
            assert "model.pickle_weights: True" in capsys.readouterr().err
        (run / "recipe.yaml").write_text((run / "recipe.yaml").read_text().replace("path: micro", "path: evil/model"))
        assert call("run", "--resume", run) == 2 and "model.pickle_weights: True" in capsys.readouterr().err
        state = list((tmp_path / "home" / "state").rglob("*.json"))
        assert len(state) == 1 and state[0].stat().st_mode & 0o077 == 0 and not list(run.rglob("trust*"))


class TestStore:
    """What the user trusts."""

    def test_a_folder_is_trusted_listed_and_removed(self, registry, shared, capsys):
        file = write(shared / "deep" / "mine.yaml", {"extends": "rosd", "model": {"trust_remote_code": True}})
        assert refused(registry, file) == ["model.trust_remote_code"]
        assert call("trust") == 0 and capsys.readouterr().out == "nothing is trusted\n"
        assert call("trust", shared) == 0 and capsys.readouterr().out == f"{shared.resolve()}: trusted\n"
        assert refused(registry, file) == []
        assert call("trust") == 0 and capsys.readouterr().out == f"{shared.resolve()}\n"
        assert call("trust", "--remove", shared) == 0
        assert refused(registry, file) == ["model.trust_remote_code"]
        assert call("trust", "--remove", shared) == 2 and "is not trusted by itself" in capsys.readouterr().err

    def test_one_file_is_trusted_alone(self, registry, shared):
        mine, other = (
            write(shared / name, {"extends": "rosd", "model": {"trust_remote_code": True}}) for name in ("a.yaml", "b.yaml")
        )
        trust(mine)
        assert refused(registry, mine) == [] and refused(registry, other) == ["model.trust_remote_code"]

    def test_a_link_into_a_trusted_folder_brings_nothing_in(self, registry, shared, tmp_path):
        evil = write(shared / "evil.yaml", {"extends": "rosd", "model": {"trust_remote_code": True}})
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / "link.yaml").symlink_to(evil)
        trust(tmp_path / "mine")
        assert refused(registry, tmp_path / "mine" / "link.yaml") == ["model.trust_remote_code"]

    def test_a_sibling_with_a_longer_name_is_not_inside(self, registry, tmp_path):
        (tmp_path / "mine").mkdir()
        trust(tmp_path / "mine")
        evil = write(tmp_path / "mine-too" / "evil.yaml", {"extends": "rosd", "model": {"trust_remote_code": True}})
        assert refused(registry, evil) == ["model.trust_remote_code"]
        assert refused(registry, tmp_path / "mine" / ".." / "mine-too" / "evil.yaml") == ["model.trust_remote_code"]

    def test_folders_that_anyone_may_write_are_refused(self, shared):
        shared.chmod(0o777)
        with pytest.raises(RecipeError, match="every user of this machine may write into"):
            trust(shared)
        with pytest.raises(RecipeError, match="is the whole machine"):
            trust(Path("/"))
        with pytest.raises(RecipeError, match="there is no"):
            trust(shared / "absent")

    @pytest.mark.parametrize("open_place", ["shared/deep/mine.yaml", "shared/deep", "shared"])
    def test_what_anyone_may_write_inside_a_trusted_folder_is_not_trusted(self, registry, shared, tmp_path, open_place):
        file = write(shared / "deep" / "mine.yaml", {"extends": "rosd", "model": {"trust_remote_code": True}})
        trust(shared)
        assert refused(registry, file) == []
        (tmp_path / open_place).chmod(0o777)
        assert refused(registry, file)[0] == "model.trust_remote_code"
        with pytest.raises(NotTrusted, match=rf"{open_place}: everyone may write here.*chmod o-w"):
            check_trust(resolve_recipe(str(file), registry=registry).asks, registry)

    def test_the_list_is_the_users_own(self, shared, tmp_path, registry):
        trust(shared)
        file = tmp_path / "home" / "config" / "rosd-kit" / "trusted.json"
        assert file.stat().st_mode & 0o777 == 0o600 and file.parent.stat().st_mode & 0o777 == 0o700
        file.chmod(0o666)
        with pytest.raises(RecipeError, match=r"trusted\.json: other users could have written it.*chmod go-w"):
            trusted_folders()
        file.chmod(0o600)
        file.parent.chmod(0o777)
        with pytest.raises(RecipeError, match="other users could have written it"):
            refused(registry, write(shared / "x.yaml", {"extends": "rosd", "model": {"trust_remote_code": True}}))
        file.parent.chmod(0o700)
        file.write_text('["damaged')
        assert trusted_folders() == []

    def test_a_wide_umask_leaves_it_closed(self, shared, tmp_path):
        before = os.umask(0)
        try:
            trust(shared)
        finally:
            os.umask(before)
        file = tmp_path / "home" / "config" / "rosd-kit" / "trusted.json"
        assert file.stat().st_mode & 0o077 == 0 and trusted_folders() == [shared.resolve()]


def test_python_trusts_what_it_passes(shared):
    """`load_recipe` is what `rosd_kit.train` calls: nothing there asks."""
    file = write(shared / "evil.yaml", {"extends": "rosd", "model": {"trust_remote_code": True}})
    from rosd_kit.api import _resolved

    assert _resolved(file, [], None, PluginManager(selection="builtin")).recipe.model.trust_remote_code
