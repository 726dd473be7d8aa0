"""Prompts files: templates for reflector and context from a file, and the structure of those that the references use."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import jsonschema
import pytest
import yaml

import rosd_kit as rk
from rosd_kit.errors import RecipeError
from rosd_kit.plugins.manager import PluginManager
from rosd_kit.plugins.registry import Origin
from rosd_kit.recipe import build_components, load_recipe, recipe_schema, resolve_recipe, shipped_names, to_yaml
from rosd_kit.recipe.prompts import read_prompts
from rosd_kit.recipe.shipped import find
from rosd_kit.text.budget import assemble
from rosd_kit.types import Case, Completion, Problem, Reflection, Rollout, Verdict, View

MINE = r"""
reflector:
  tutor:
    system: Be brief.
    wrong_template: "Q {question} A {answer} D {demonstration} R {response} cost ${money:1} \\{response}"
context:
  key_idea: {template: "{problem} think of {idea}"}
  solution: {template: "{problem} like {solution}"}
"""
#: A configuration file as the SDPO and ROSD code have it, with texts of our own.
SDPO = """
strategy: ${oc.select:nothing}
self_distillation:
  max_reprompt_len: 10240
  reprompt_template: "{prompt}{solution}{feedback}|solve"
  solution_template: "|sol {successful_previous_attempt}"
  feedback_template: "|fb {feedback_raw}"
  reflection_wrong_system_template: strict
  reflection_correct_system_template: strict
  reflection_wrong_user_template: "{prompt}|{correct_solution}|{wrong_solution}|{answer}|{{answer}} {{}}"
  reflection_correct_user_template: "{prompt}|{correct_solution}|{answer}"
  teacher_reflection_template: "|idea {reflection}"
  teacher_reprompt_template_with_reflection: "{prompt}{feedback}{reflection}|solve"
"""


def write(folder: Path, text: str, name: str = "mine.yaml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def a_case(*, right: bool = False, idea: str | None = "carry", feedback: str = "") -> Case:
    problem = Problem(id="p", messages=({"role": "system", "content": "sys"}, {"role": "user", "content": "2+2?"}), answer="4")
    completion = Completion(
        prompt_ids=(1,), token_ids=(2,), logprobs=(0.0,), text="5", token_spans=((0, 1),), finish_reason="stop"
    )
    verdict = Verdict(score=float(right), success=right, feedback=feedback)
    return Case(
        problem=problem,
        rollout=Rollout(index=0, completion=completion, verdict=verdict),
        views=(View(text="four", source="sibling"),),
        reflection=Reflection(idea=idea),
    )


def contents(prompt) -> list[tuple[str, str]]:
    return [(message["role"], message["content"]) for message in assemble(prompt)]


def test_a_files_templates_reach_the_prompts(registry, tmp_path):
    parts = build_components(load_recipe("rosd", [f"prompts={write(tmp_path, MINE)}"], registry=registry), registry)
    assert contents(parts.reflector.prompt(a_case())) == [
        ("system", "Be brief."),
        ("user", "Q 2+2? A 4 D four R 5 cost ${money:1} {response}"),
    ]
    assert contents(parts.context.prompts(a_case())[0]) == [("system", "sys"), ("user", "2+2? think of carry")]
    right = contents(parts.reflector.prompt(a_case(right=True)))
    assert right[0] == ("system", "Be brief.") and "Right solution : 5" in right[1][1], (
        "the profile's, which the file leaves out"
    )


def test_a_resolved_recipe_holds_the_texts_and_does_not_need_the_file(registry, tmp_path):
    recipe = load_recipe("rosd", [f"prompts={write(tmp_path, MINE)}"], registry=registry)
    (tmp_path / "mine.yaml").unlink()
    again = load_recipe(write(tmp_path, to_yaml(recipe), "again.yaml"), registry=registry)
    assert again == recipe and r"${money:1}" in again.reflector.options.wrong_template


def test_values_rank_below_the_layer_that_names_the_file_and_above_lower_ones(registry, tmp_path):
    write(tmp_path, MINE)
    base = "extends: rosd\nprofile: micro\nreflector: {name: tutor, system: low, right_template: '{problem} {response} low'}\n"
    write(tmp_path, base, "base.yaml")
    write(tmp_path, "extends: base.yaml\nprompts: mine.yaml\ncontext: {template: '{problem} {idea} own'}\n", "top.yaml")
    resolution = resolve_recipe(tmp_path / "top.yaml", registry=registry)
    reflector, context = resolution.recipe.reflector.options, resolution.recipe.context.options
    assert (reflector.system, reflector.right_template, context.template) == (
        "Be brief.",
        "{problem} {response} low",
        "{problem} {idea} own",
    )
    assert resolution.provenance["reflector.system"].startswith("prompts ")
    above = load_recipe(tmp_path / "top.yaml", ["reflector.system=last", "context=solution"], registry=registry)
    assert (above.reflector.options.system, above.context.options.template) == ("last", "{problem} like {solution}")
    assert load_recipe(tmp_path / "top.yaml", ["prompts=none"], registry=registry).reflector.options.system == "low"
    pair = [f"prompts={tmp_path / 'mine.yaml'}", "reflector.system=x"]
    for changes in (pair, pair[::-1]):
        assert load_recipe("rosd", changes, registry=registry).reflector.options.system == "x"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("reflector: {tutor: {wrong_template: '{problem} {response} {idea}'}}", r"tutor.wrong_template: .*field \{idea\}"),
        ("reflector: {tutor: {wrong_template: '{problem} {demonstration}'}}", r"must contain \{response\}"),
        ("reflector: {tutor: {right_template: '{response}'}}", r"must contain \{problem\} or \{question\}"),
        ("reflector: {tutor: {system: 'See {problem}'}}", r"reflector.tutor.system: .*\{problem\}: this text has no fields"),
        ("context: {solution: {template: '{problem}'}}", r"context.solution.template: .*must contain \{solution\}"),
        ("context: {key_idea: {template: '{problem} {solution}'}}", r"unknown field \{solution\}"),
        ("context: {key_idea: {temlate: '{problem}'}}", "not a template of context 'key_idea'.*Did you mean 'template'"),
        ("reflector: {tutor: {weights: live}}", "reflector.tutor.weights: not a template"),
        ("reflector: {tutro: {system: x}}", "reflector: unknown 'tutro'. Did you mean 'tutor'"),
        ("reflektor: {tutor: {system: x}}", "reflektor: not allowed in prompts .*Did you mean 'reflector'"),
        ("reflector: {tutor: {system: 3}}", "3 .*is not text"),
        ("reflector: text", "'text' .*must be a mapping"),
        ("? [tutor]\n: {}", "line 1: a list or mapping is no key"),
        ("reflector:\n  ? {tutor: a}\n  : {}\n  ? {tutor: a}\n  : {}", "line 2: a list or mapping is no key"),
        ("reflector: {tutor: {system: '\\ud800'}}".replace("'", '"'), "line 1: a text holds half of a surrogate pair"),
        ("reflector: {tutor: {system: x}}\nreflector: {}", "'reflector' is given twice"),
        ("context: {solution: {template: '{problem} {solution}'}}", "for context solution; chosen are reflector tutor"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_prompts_file_is_an_error(registry, tmp_path, text, message):
    with pytest.raises(RecipeError, match=message):
        load_recipe("rosd", [f"prompts={write(tmp_path, text)}"], registry=registry)


class Posts(rk.Reflector):
    """Reads its template from a host."""

    name = "posts"

    class Config(rk.Reflector.Config):
        """A template that needs trust, and one that does not."""

        url_template: Annotated[str | None, rk.Trusted("can send prompts to a host")] = None
        system: str = ""

    def reflect(self, cases, generate):
        return [rk.Reflection(status="skipped")] * len(cases)


def test_a_prompts_file_sets_no_option_that_needs_trust(tmp_path):
    registry = PluginManager(selection="builtin").registry
    registry.add([Posts], Origin(plugin="x", distribution="file", version="-", file="x.py"))
    assert read_prompts(write(tmp_path, "reflector: {posts: {system: x}}"), registry) == {
        "reflector": {"posts": {"system": "x"}}
    }
    with pytest.raises(RecipeError, match=r"posts.url_template: not a template of reflector 'posts'.*Templates: system"):
        read_prompts(write(tmp_path, "reflector: {posts: {url_template: x}}"), registry)


def test_a_missing_file_is_an_error_with_its_name(registry):
    with pytest.raises(RecipeError, match=r"unknown prompts file 'rosdd'. Did you mean 'rosd'"):
        load_recipe("rosd", ["prompts=rosdd"], registry=registry)
    with pytest.raises(RecipeError, match="prompts: 3 is not a name"):
        load_recipe("rosd", ["prompts=3"], registry=registry)


def test_a_configuration_file_of_the_references_is_read_as_it_is(registry, tmp_path):
    file = write(tmp_path, SDPO)
    rosd = build_components(load_recipe("rosd", [f"prompts={file}", "context.feedback=true"], registry=registry), registry)
    assert contents(rosd.reflector.prompt(a_case())) == [("system", "strict"), ("user", "2+2?|four|5|4|{answer} {}")]
    assert contents(rosd.reflector.prompt(a_case(right=True)))[1] == ("user", "2+2?|5|4")
    shown = [a_case(), a_case(feedback="no"), a_case(idea=None)]
    assert [contents(rosd.context.prompts(case)[0])[-1][1] for case in shown] == [
        "2+2?|idea carry|solve",
        "2+2?|fb no|idea carry|solve",
        "2+2?|sol four|solve",
    ]
    for context, case, text in [
        ("solution", a_case(), "2+2?|sol four|solve"),
        ("solution_or_feedback", a_case(), "2+2?|sol four|solve"),
        ("feedback", a_case(feedback="no"), "2+2?|fb no|solve"),
    ]:
        recipe = load_recipe(
            "sdpo", [f"prompts={file}", f"context={context}", "task=micro", "verifier=micro"], registry=registry
        )
        assert contents(build_components(recipe, registry).context.prompts(case)[0])[-1][1] == text


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("{prompt}|{correct_solution}|{answer}", "{problem}", r"unknown field \{problem\}. Known: \{prompt\}"),
        ("{prompt}|{correct_solution}|{answer}", "{prompt", "is no template"),
        (
            "reflection_correct_system_template: strict",
            "reflection_correct_system_template: kind",
            "one system message for both",
        ),
    ],
)
def test_a_mistake_in_a_configuration_file_is_an_error(registry, tmp_path, before, after, message):
    with pytest.raises(RecipeError, match=message):
        load_recipe("rosd", [f"prompts={write(tmp_path, SDPO.replace(before, after))}"], registry=registry)


def test_shipped_prompts_files_are_valid_and_not_listed_as_recipes(registry):
    assert shipped_names("prompts") == ["opsd", "rosd", "sdpo"] and "prompts/rosd" not in shipped_names()
    for name in shipped_names("prompts"):
        assert read_prompts(find(name, folder="prompts"), registry)
    for value in ("rosd", "mine.yaml", "none"):
        jsonschema.validate({"prompts": value}, recipe_schema(registry))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"prompts": "rosdd"}, recipe_schema(registry))


def structure(template: str) -> str:
    """Return a template with each stretch of free words as an ellipsis: fields, labels, tags and line breaks stay."""
    kept = re.split(r"(\{[a-z]+\}|^\[[^\]]*\]$|</?[a-z_]+>|^===|\n)", template, flags=re.M)
    return "".join(part if i % 2 else "…" * bool(part.strip()) for i, part in enumerate(kept))


#: Of each template of the references' code: what it shows, in which order, with which labels, tags and blank lines.
STRUCTURE = {
    "rosd": {
        "reflector.system": "…",
        "reflector.wrong_template": "{question}\n\n[Correct Solution]\n{demonstration}\n\n[Incorrect Solution]\n{response}\n\n"
        "…{answer}…\n\n<error_quote>\n…\n</error_quote>\n<explanation>\n…\n</explanation>",
        "reflector.right_template": "{question}\n\n[Correct Solution]\n{response}\n\n"
        "…{answer}…\n…\n<explanation>\n…\n</explanation>",
        "context.template": "{problem}\n{feedback}\n\n…\n\n{idea}\n\n…",
        "context.feedback_template": "\n…\n\n{feedback}",
        "context.fallback_template": "{problem}\n…\n\n{solution}\n\n…",
    },
    "sdpo": {"context.template": "{problem}\n…\n\n{solution}\n\n…"},
    "sdpo-rich-feedback": {
        "context.template": "{problem}\n…\n\n{solution}\n\n…",
        "context.feedback_template": "{problem}\n…\n\n{feedback}\n\n…",
    },
    "opsd": {"context.template": "{problem}\n\n…\n{solution}\n\n\n…\n\n…"},
}


@pytest.mark.parametrize("name", STRUCTURE)
def test_the_prompts_of_a_reference_recipe_have_the_structure_of_its_source(registry, name):
    recipe = load_recipe(f"reference/{name}", registry=registry)
    slots = {"reflector": recipe.reflector.options, "context": recipe.context.options}
    found = {path: structure(getattr(slots[path.split(".")[0]], path.split(".")[1])) for path in STRUCTURE[name]}
    assert found == STRUCTURE[name]


def test_reason_first_explains_the_solution_before_the_teacher_reads_both(registry):
    changes = ["reflector=rationale", "context=solution_and_idea"]
    recipe = load_recipe("reference/opsd", changes, registry=registry)
    assert structure(recipe.context.options.template) == "{problem}\n\n…\n{solution}\n\n…\n{idea}\n\n\n…\n\n…"
    assert structure(recipe.reflector.options.template).startswith("{problem}\n\n…\n===…\n{demonstration}\n===…\n\n\n…")
    text = contents(build_components(recipe, registry).context.prompts(a_case())[0])[-1][1]
    assert text.index("2+2?") < text.index("four") < text.index("carry") < text.index("step by step") < text.index(r"\boxed{}")


def test_yaml_of_prompts_is_read_without_tags_or_aliases(registry, tmp_path):
    for text in ("reflector: !!python/name:os.system {}", "a: &a {}\nb: *a"):
        with pytest.raises(RecipeError, match="not allowed"):
            read_prompts(write(tmp_path, text), registry)
    assert yaml.safe_load(MINE)["reflector"]["tutor"]["system"] == "Be brief."
