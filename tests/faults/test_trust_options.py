"""Every option of the core and of the components: which of them need trust, and why the doubtful ones do not."""

from __future__ import annotations

import re
from typing import get_args

import pydantic
import pytest

from rosd_kit.options.trusted import trusted_mark
from rosd_kit.plugins.manager import PluginManager
from rosd_kit.recipe import recipe_schema
from rosd_kit.settings import CoreSettings

# A name that says: this may start, import, send, listen or unpickle.
SUSPICIOUS = re.compile(
    r"url|uri|host|port|address|endpoint|router|server|proxy|path|file|dir|folder|script|module|import|plugin|package|python"
    r"|exec|command|program|^launch$|args|env|key|token$|secret|password|credential|pickle|trust|remote|code|function|eval"
    r"|template|pattern|drop$|tracking|to$|gguf|load|hub|repo|revision|revis|sync"
)
NEEDS_TRUST = {
    "model.pickle_weights",
    "model.trust_remote_code",
    "tracking.to",
    *(f"rollout sglang: {name}" for name in ("url", "router", "initial_url", "sync_host", "api_key_env")),
    *(f"rollout sglang: launch.{name}" for name in ("python", "args", "env", "host")),
}
#: Decided: these only read files of this machine or of the hub as data, name things, or are numbers.
NEED_NONE = {
    "model.path": "tensors and a template of a folder or the hub: weight_files.py, jinja's sandbox",
    "model.revision": "names a commit",
    "model.gguf": "plain name of a GGUF file in the folder",
    "model.lora.path": "safetensors of a folder",
    "model.lora.export": "one of two words",
    "model.lora.target_modules": "names modules",
    "model.chat.evaluation": "values for the template",
    "objective policy_gradient: importance_cap": "a number",
    "model.chat_template": "read as text, rendered in jinja's sandbox",
    "model.chat_template_kwargs": "values for the template",
    "tracking.project": "a label",
    "tracking": "a section",
    "evaluation": "a section",
    "task dataset: path": "rows of files or of the hub; loading scripts are refused by datasets",
    "task dataset: revision": "names a commit",
    "task dataset: suites.path": "as the task's",
    "task dataset: suites.revision": "names a commit",
    "verifier exact: pattern": "run under a deadline in a worker",
    "verifier majority: pattern": "run under a deadline in a worker",
    "verifier exact: drop": "run under a deadline in a worker",
    "verifier majority: drop": "run under a deadline in a worker",
    "rollout sglang: launch": "a section",
    "rollout sglang: launch.port": "a number; the host says who reaches it",
    "rollout sglang: launch.servers": "a number",
    "rollout sglang: launch.initial_servers": "a number",
    "rollout sglang: sync": "one of three words",
    "rollout sglang: sync_dir": "a folder for files with a prefix of their own",
    "reflector tutor: wrong_template": "fields by name, no expressions",
    "reflector tutor: right_template": "fields by name, no expressions",
    "context key_idea: template": "fields by name, no expressions",
    "reflector rationale: template": "fields by name, no expressions",
    "context key_idea: feedback_template": "fields by name, no expressions",
    "context key_idea: fallback_template": "fields by name, no expressions",
    "context solution: template": "fields by name, no expressions",
    "context solution_and_idea: template": "fields by name, no expressions",
    "context solution_or_feedback: template": "fields by name, no expressions",
    "context solution_or_feedback: feedback_template": "fields by name, no expressions",
    "context feedback: template": "fields by name, no expressions",
}


@pytest.fixture(scope="module")
def registry():
    return PluginManager(selection="builtin").registry


def options(model: type[pydantic.BaseModel], prefix: str):
    """Yield every option with its dotted name, those of sections too."""
    for name, field in model.model_fields.items():
        yield f"{prefix}{name}", field
        todo = [field.annotation]
        while todo:
            one = todo.pop()
            if isinstance(one, type) and issubclass(one, pydantic.BaseModel):
                yield from options(one, f"{prefix}{name}.")
            todo += get_args(one)


def every_option(registry) -> dict[str, pydantic.fields.FieldInfo]:
    found = dict(options(CoreSettings, ""))
    for kind, entries in registry.entries.items():
        for name, entry in entries.items():
            found |= dict(options(entry.cls.Config, f"{kind} {name}: "))
    return found


def test_every_option_that_could_start_import_send_or_unpickle_is_listed(registry):
    found = every_option(registry)
    assert {name for name, field in found.items() if trusted_mark(field)} == NEEDS_TRUST
    doubtful = {name for name in found if SUSPICIOUS.search(name.rpartition(": ")[2].rpartition(".")[2])}
    assert sorted(doubtful - NEEDS_TRUST - NEED_NONE.keys()) == [], "mark these as rk.Trusted, or say here why not"
    assert sorted(NEED_NONE.keys() - found.keys()) == []


def test_the_schema_shows_the_mark(registry):
    schema = recipe_schema(registry)
    model, launch = schema["$defs"]["ModelSettings"]["properties"], schema["$defs"]["Launch"]["properties"]
    assert model["trust_remote_code"]["trusted"] is True and "trusted" not in model["dtype"]
    assert {name for name, one in launch.items() if one.get("trusted")} == {"python", "args", "env", "host"}
    forms = schema["properties"]["rollout"]["oneOf"]
    sglang = next(form["properties"] for form in forms if form.get("properties", {}).get("name") == {"const": "sglang"})
    assert sglang["url"]["trusted"] is True and sglang["api_key_env"]["trusted"] is True and "trusted" not in sglang["sync_dir"]
