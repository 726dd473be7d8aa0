"""Reads the prompts in configuration files of the SDPO and ROSD code, as templates of our components.

Their templates are those of `str.format`: `{{` is a brace. They name fields otherwise (`{prompt}` is our last message), and
put sections for solution, feedback and reflection into one frame, which our contexts write as one template each.
"""

from __future__ import annotations

import re
import string
from collections.abc import Mapping

from rosd_kit.errors import RecipeError

#: The template that every such file has.
_FRAME = "reprompt_template"
_LIKE_A_FIELD = re.compile(r"\{(?=[a-z_]+\})")


def find_sdpo_templates(content: object) -> Mapping[str, object] | None:
    """Return the section of a configuration file that holds the templates, wherever it is, or None if there is none."""
    if not isinstance(content, Mapping):
        return None
    if isinstance(content.get(_FRAME), str):
        return content
    return next((found for value in content.values() if (found := find_sdpo_templates(value)) is not None), None)


def read_sdpo_templates(section: Mapping[str, object], where: str) -> dict[str, dict[str, dict[str, str]]]:
    """Return our templates by slot, component and option. Raises `RecipeError` for a template that cannot be read."""
    texts = {key: value for key, value in section.items() if "template" in key and isinstance(value, str)}

    def filled(key: str, **fields: str) -> str:
        return _converted(texts[key], fields, f"{key} (from {where})")

    solution = filled("solution_template", successful_previous_attempt="{solution}") if "solution_template" in texts else ""
    feedback = filled("feedback_template", feedback_raw="{feedback}") if "feedback_template" in texts else ""
    context: dict[str, dict[str, str]] = {}
    if solution:
        with_solution = filled(_FRAME, prompt="{problem}", solution=solution, feedback="")
        context["solution"] = {"template": with_solution}
        context["key_idea"] = {"fallback_template": with_solution}
        context["solution_or_feedback"] = {"template": with_solution}
    if feedback:
        with_feedback = filled(_FRAME, prompt="{problem}", solution="", feedback=feedback)
        context["feedback"] = {"template": with_feedback}
        context.setdefault("solution_or_feedback", {})["feedback_template"] = with_feedback
    frame = "teacher_reprompt_template_with_reflection"
    if frame in texts and "teacher_reflection_template" in texts:
        idea = filled("teacher_reflection_template", reflection="{idea}")
        with_idea = filled(frame, prompt="{problem}", solution="", feedback="{feedback}", reflection=idea)
        context.setdefault("key_idea", {})["template"] = with_idea
        if feedback:
            context["key_idea"]["feedback_template"] = feedback
    tutor: dict[str, str] = {}
    if "reflection_wrong_user_template" in texts:
        tutor["wrong_template"] = filled(
            "reflection_wrong_user_template",
            prompt="{question}",
            correct_solution="{demonstration}",
            wrong_solution="{response}",
            answer="{answer}",
        )
    if "reflection_correct_user_template" in texts:
        tutor["right_template"] = filled(
            "reflection_correct_user_template", prompt="{question}", correct_solution="{response}", answer="{answer}"
        )
    system = {texts[key] for key in ("reflection_wrong_system_template", "reflection_correct_system_template") if key in texts}
    if len(system) > 1:
        raise RecipeError(
            f"prompts: reflection_wrong_system_template and reflection_correct_system_template (from {where}) differ, and the "
            "tutor has one system message for both. Make them equal"
        )
    if system:
        tutor["system"] = system.pop()
    return {"context": context, **({"reflector": {"tutor": tutor}} if tutor else {})}


def _converted(template: str, fields: Mapping[str, str], where: str) -> str:
    """Return a template of `str.format` with its fields replaced; what looks like a field of ours is marked as text."""
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as error:
        raise RecipeError(f"prompts: {where} is no template: {error}. Write {{{{ and }}}} for braces") from None
    text = literal = ""
    for before, name, _, _ in parts:
        literal += before
        if name is None:
            continue
        if name not in fields:
            known = ", ".join(f"{{{field}}}" for field in fields)
            raise RecipeError(f"prompts: {where} has the unknown field {{{name}}}. Known: {known}")
        text += _LIKE_A_FIELD.sub(r"\\{", literal) + fields[name]
        literal = ""
    return text + _LIKE_A_FIELD.sub(r"\\{", literal)
