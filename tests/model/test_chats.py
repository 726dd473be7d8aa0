"""Chat templates with all kinds of quirks: prompts equal the template's own, token by token; workarounds are reported."""

from __future__ import annotations

import copy
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from tokenizers.processors import TemplateProcessing

import rosd_kit as rk
from rosd_kit.components.rollouts.transformers import TransformersEngine
from rosd_kit.errors import RunError
from rosd_kit.model.chat import Chat
from rosd_kit.model.student import Student
from rosd_kit.pipeline.pipeline import Pipeline
from rosd_kit.plugins.manager import PluginManager
from rosd_kit.recipe import load_recipe
from rosd_kit.run import prompt_boundary
from rosd_kit.run.dry_run import rehearse
from rosd_kit.settings import ModelSettings
from tests.model.conftest import COIN, TINY
from tests.model.tiny_models import CHATML, save, tokenizer

THINKING = CHATML.replace(
    "assistant\n' }}",
    "assistant\n' }}{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}",
)
OPENED = CHATML.replace("assistant\n' }}", "assistant\n<think>\n' }}")
NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}" + CHATML
IGNORES_SYSTEM = CHATML.replace("{% for message in messages %}", "{% for message in messages if message['role'] != 'system' %}")
BOS = "{{ bos_token }}" + CHATML
TWICE = "{{ bos_token }}" + BOS
DATED = CHATML.replace("{% for", "{{ strftime_now('%d %b %Y') }}{% for", 1)
NEWLINE = CHATML + "\n"
TEMPLATES = {
    "plain": CHATML,
    "thinking": THINKING,
    "opened": OPENED,
    "no_system": NO_SYSTEM,
    "ignores_system": IGNORES_SYSTEM,
    "bos": BOS,
    "dated": DATED,
    "newline": NEWLINE,
}
MESSAGES = [{"role": "system", "content": "Be short ."}, {"role": "user", "content": "What is 3 + 4 ?"}]


def chat(template, tokens=None, **options) -> Chat:
    chosen = copy.deepcopy(tokens or tokenizer())
    chosen.chat_template = template
    return Chat(chosen, ModelSettings(**options))


@pytest.mark.parametrize("kind", TEMPLATES)
def test_a_prompt_equals_transformers_own_rendering(kind):
    template_chat = chat(TEMPLATES[kind])
    assert template_chat.encode(MESSAGES) == prompt_boundary.own_ids(template_chat, MESSAGES)
    assert "What is 3 + 4 ?" in template_chat.decode(template_chat.encode(MESSAGES))


@pytest.mark.parametrize("kind", TEMPLATES)
def test_a_step_runs_and_the_response_follows_the_generation_header(kind, recipe, plugins, tmp_path, capsys):
    folder = save(tmp_path / kind, template=TEMPLATES[kind])
    # Random models never close the thinking that a template opened, so without it nothing of a sibling would be shown.
    rehearse(recipe(folder, "problems_per_step=1", "demonstration.thinking=keep"), plugins)
    out = capsys.readouterr().out
    rows = re.findall(r"^(-[12])  \d+ (\S+) +\d+ (\S+)", out, re.M)
    assert len(rows) == 2 and all(student == teacher for _, student, teacher in rows)
    assert rows[1][1] == r"'\n'" and (rows[0][1] == "'<think>'") is (kind == "opened")


OFF, ON = "<think>\n\n</think>\n\n", ""
NO_THOUGHT = "{enable_thinking: false}"


def headers_of_a_run(train, monkeypatch, folder, *changes) -> dict[str, set[str]]:
    """Run one step with a model and return what follows `assistant` in the prompts of each role, as ids were decoded."""
    prompts, batches = {"student": [], "reflector": [], "evaluation": []}, []
    generate, step = TransformersEngine.generate, Pipeline.step

    def listen(self, requests, **options):
        for request in requests:
            role = {1.0: "student", 0.0: "reflector", 0.6: "evaluation"}[request.sampling.temperature]
            prompts[role].append(self.student.chat.decode(request.prompt_ids))
        return generate(self, requests, **options)

    def keep(self, *arguments):
        batches.append(step(self, *arguments))
        return batches[-1]

    monkeypatch.setattr(TransformersEngine, "generate", listen)
    monkeypatch.setattr(Pipeline, "step", keep)
    train(folder, "evaluation.problems=1", "problems_per_step=4", "group_size=4", *changes)
    views = [view for batch in batches for trace in batch.traces for view in trace.teacher_views]
    decode = Student.load(ModelSettings(path=str(folder), device="cpu"), keep_initial=False).chat.decode
    prompts["teacher"] = [decode(view.prompt_ids) for view in views]
    return {role: {text.rpartition("assistant\n")[2] for text in texts} for role, texts in prompts.items()}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ((), {"student": {ON}, "teacher": {ON}, "reflector": {ON}, "evaluation": {ON}}),
        (
            (f"model.chat.student={NO_THOUGHT}", f"model.chat.reflector={NO_THOUGHT}"),
            {"student": {OFF}, "teacher": {ON}, "reflector": {OFF}, "evaluation": {ON}},
        ),
        (
            (f"model.chat_template_kwargs={NO_THOUGHT}", "model.chat.teacher={enable_thinking: true}"),
            {"student": {OFF}, "teacher": {ON}, "reflector": {OFF}, "evaluation": {OFF}},
        ),
        (
            (f"model.chat.teacher={NO_THOUGHT}", f"model.chat.evaluation={NO_THOUGHT}"),
            {"student": {ON}, "teacher": {OFF}, "reflector": {ON}, "evaluation": {OFF}},
        ),
    ],
)
def test_each_role_has_the_header_of_its_own_options_in_a_run(changes, expected, train, monkeypatch, tmp_path):
    folder = save(tmp_path / "thinking", template=THINKING)
    assert headers_of_a_run(train, monkeypatch, folder, *changes) == expected


def test_a_dry_run_accepts_each_roles_own_header_and_shows_them_side_by_side(recipe, plugins, tmp_path, capsys):
    folder = save(tmp_path / "thinking", template=THINKING)
    rehearse(recipe(folder, "problems_per_step=4", f"model.chat.teacher={NO_THOUGHT}"), plugins)
    table = capsys.readouterr().out.partition("where the response begins")[2]
    rows = re.findall(r"^-\d  \d+ (\S+) +\d+ (\S+)", table, re.M)
    assert [student for student, _ in rows] != [teacher for _, teacher in rows]
    assert "'</think>'" in {teacher for _, teacher in rows} and "'</think>'" not in {student for student, _ in rows}


def test_a_prompt_with_another_roles_header_is_an_error():
    mixed = chat(THINKING, chat={"teacher": {"enable_thinking": False}})
    student, teacher = mixed.for_role("student").encode(MESSAGES), mixed.for_role("teacher").encode(MESSAGES)
    prompt_boundary.check_headers(mixed, student, teacher)
    with pytest.raises(RunError, match="the teacher's prompt does not end with the generation header"):
        prompt_boundary.check_headers(mixed, student, student)


def test_options_of_a_role_that_the_template_does_not_read_are_noted():
    [note] = chat(THINKING, chat={"reflector": {"enable_thinkng": False, "enable_thinking": True}}).notes()
    assert note == "model.chat.reflector.enable_thinkng: the chat template does not read it."


def test_roles_with_equal_options_share_a_chat_and_its_counter():
    many = chat(NO_SYSTEM, chat={"student": {"a": 1}, "teacher": {"a": 1}, "reflector": {"a": 2}})
    roles = ("student", "teacher", "reflector", "evaluation")
    student, teacher, reflector, evaluation = map(many.for_role, roles)
    assert student is teacher is not reflector and evaluation is many
    assert many.of_all_roles() == [student, reflector, many]
    for role in roles:
        many.for_role(role).encode(MESSAGES)
    assert (many.take_merged_count(), many.take_merged_count()) == (4, 0)


def test_the_templates_own_option_switches_thinking_off():
    on, off = chat(THINKING), chat(THINKING, chat_template_kwargs={"enable_thinking": False})
    assert off.decode(off.encode(MESSAGES)).endswith("assistant\n<think>\n\n</think>\n\n")
    assert on.encode(MESSAGES) == off.encode(MESSAGES)[: len(on.encode(MESSAGES))]
    assert off.notes() == []


def test_an_option_that_the_template_does_not_read_is_noted():
    [note] = chat(CHATML, chat_template_kwargs={"enable_thinkng": False}).notes()
    assert note == "model.chat_template_kwargs.enable_thinkng: the chat template does not read it."


@pytest.mark.parametrize("template", [NO_SYSTEM, IGNORES_SYSTEM])
def test_without_a_system_role_the_system_message_is_merged_into_the_users_and_counted(template):
    template_chat = chat(template)
    ids = template_chat.encode(MESSAGES)
    assert ids == template_chat.encode([{"role": "user", "content": "Be short .\n\nWhat is 3 + 4 ?"}])
    assert template_chat.merged_count == 1
    assert "no system role" in template_chat.notes()[0]
    assert chat(CHATML).encode(MESSAGES) != ids


def test_a_system_message_alone_becomes_the_users():
    template_chat = chat(NO_SYSTEM)
    assert template_chat.encode(MESSAGES[:1]) == template_chat.encode([{"role": "user", "content": "Be short ."}])


def test_a_missing_system_role_can_be_an_error():
    with pytest.raises(RunError, match=r"model\.system_role: .*has no system role"):
        chat(NO_SYSTEM, system_role="refuse").encode(MESSAGES)


def test_merged_system_messages_are_a_metric_and_a_warning(train, tmp_path):
    folder = save(tmp_path / "model", template=NO_SYSTEM)
    metrics, run = train(folder)
    assert metrics["prompt/system_merged"] == 0.0
    [checkpoint] = (run / "checkpoints").iterdir()
    assert "no system role" in json.loads((checkpoint / "state.json").read_text())["warnings"][0]
    student = Student.load(ModelSettings(path=str(folder), device="cpu"), keep_initial=False)
    student.prompt_ids(MESSAGES)
    assert student.metrics() == {"prompt/system_merged": 1.0}
    assert student.metrics() == {"prompt/system_merged": 0.0}


def test_a_template_that_refuses_a_chat_is_an_error():
    picky = "{{ raise_exception('Conversation roles must alternate') }}"
    with pytest.raises(RunError, match="refuses messages with the roles user: Conversation roles must alternate"):
        chat(picky).encode(MESSAGES[1:])


def test_a_role_that_nobody_knows_is_an_error_unless_the_template_names_it():
    asked = [{"role": "human", "content": "What is 3 + 4 ?"}]
    with pytest.raises(
        RunError, match=r"a message has the role 'human', which is none of system, developer, user, assistant, tool"
    ):
        chat(CHATML).encode(asked)
    named = chat("{% if messages[0]['role'] == 'human' %}{% endif %}" + CHATML)
    assert "What is 3 + 4 ?" in named.decode(named.encode(asked))


def test_what_the_tokenizer_refuses_is_not_blamed_on_the_template(monkeypatch):
    plain = chat(CHATML)
    with pytest.raises(RunError, match=r"a user message holds U\+D83D, a lone surrogate, .* at character 2: 'x \\ud83d'"):
        plain.encode([{"role": "user", "content": "x \ud83d"}])
    monkeypatch.setattr(type(plain.tokenizer), "__call__", lambda self, *given, **options: len(None))
    with pytest.raises(TypeError, match="NoneType"):
        plain.encode([{"role": "user", "content": "x"}])
    wrong = chat(CHATML.replace("message['content']", "message['content'] + 1"))
    with pytest.raises(RunError, match="refuses messages with the roles user"):
        wrong.encode([{"role": "user", "content": "x"}])


def test_a_tokenizer_without_a_template_is_an_error_and_one_can_be_given(tmp_path):
    with pytest.raises(RunError, match=r"has no chat template.*model\.chat_template"):
        _ = chat(None).template
    folder = save(tmp_path / "model")
    (folder / "chat_template.jinja").unlink()
    (tmp_path / "mine.jinja").write_text(BOS)
    settings = ModelSettings(path=str(folder), device="cpu", chat_template=str(tmp_path / "mine.jinja"))
    assert Student.load(settings, keep_initial=False).chat.template == BOS
    with pytest.raises(RunError, match=r"model\.chat_template: .*cannot be read"):
        Student.load(settings.model_copy(update={"chat_template": "no.jinja"}), keep_initial=False)


def test_an_unusual_first_token_is_noted():
    with_bos = copy.deepcopy(tokenizer())
    with_bos.backend_tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    assert chat(BOS, with_bos).notes() == []
    assert chat(CHATML, with_bos).notes() == [
        "this tokenizer starts plain texts with <s>, but its chat template does not start chats with it."
    ]
    assert chat(TWICE, with_bos).notes() == ["this template starts chats with <s> twice."]
    assert chat(BOS, with_bos).encode(MESSAGES).count(1) == 1


def test_a_date_in_the_template_is_noted():
    assert "prints the date" in chat(DATED).notes()[0]
    assert chat(DATED, chat_template_kwargs={"date_string": "1 May 2026"}).notes() == [
        "model.chat_template_kwargs.date_string: the chat template does not read it."
    ]


def test_padding_with_the_end_token_changes_nothing(train, tmp_path):
    one, other = save(tmp_path / "own"), save(tmp_path / "same")
    (other / "tokenizer_config.json").write_text(
        (other / "tokenizer_config.json").read_text().replace('"<|pad|>"', '"<|im_end|>"')
    )
    (a, _), (b, _) = (
        train(folder, "sampling.max_new_tokens=16", "batch.layout=padded", name=f"with-{folder.name}")
        for folder in (one, other)
    )
    assert a["train/loss"] == b["train/loss"] and a["rollout/length"] == b["rollout/length"]


class Trimming(rk.RolloutEngine):
    """An engine that drops the last token of every prompt, like one that renders the chat itself."""

    name = "trimming"

    def start(self, student, site=None):
        self.inner = TransformersEngine(TransformersEngine.Config())
        self.inner.start(student, site)

    def sync(self, student, version):
        self.inner.sync(student, version)

    def generate(self, requests, *, weights="live"):
        return self.inner.generate([replace(r, prompt_ids=r.prompt_ids[:-1]) for r in requests], weights=weights)


@rk.hookimpl
def rosd_kit_components():
    return [Trimming]


def test_a_dry_run_fails_when_the_prompts_of_engine_and_trainer_differ_by_a_token(tmp_path):
    plugins = PluginManager([COIN, Path(__file__)])
    recipe = load_recipe("rosd", [*TINY, f"model.path={save(tmp_path / 'm')}", "rollout=trimming"], registry=plugins.registry)
    with pytest.raises(RunError, match=r"token \d+ is \d+ '\\n' for the chat template \(\d+ tokens\) and the end for"):
        rehearse(recipe, plugins)


def test_a_dry_run_fails_when_the_template_renders_differently_a_second_time(recipe, plugins, tmp_path, monkeypatch):
    folder = save(tmp_path / "m")
    own = prompt_boundary.own_ids
    monkeypatch.setattr(prompt_boundary, "own_ids", lambda chat, messages: (1, *own(chat, messages)))
    with pytest.raises(RunError, match=r"token 0 is 1 '<s>' for the chat template .* and 3 '<\|im_start\|>' for the engine"):
        rehearse(recipe(folder), plugins)


def test_a_teacher_prompt_without_the_generation_header_is_an_error():
    template_chat = chat(CHATML)
    student = template_chat.encode(MESSAGES)
    prompt_boundary.check_headers(template_chat, student, template_chat.encode(MESSAGES[1:]))
    with pytest.raises(RunError, match="the teacher's prompt does not end with the generation header"):
        prompt_boundary.check_headers(template_chat, student, template_chat.encode(MESSAGES[1:])[:-3])


def test_the_roles_whose_prompts_leave_thinking_open_are_known():
    switch = OPENED.replace("<think>\n' }}", "' }}{% if enable_thinking %}{{ '<think>\n' }}{% endif %}")
    assert chat(OPENED).roles_in_thinking() == {"student", "teacher", "reflector", "evaluation"}
    assert chat(CHATML).roles_in_thinking() == chat(THINKING).roles_in_thinking() == frozenset()
    assert chat(THINKING, chat_template_kwargs={"enable_thinking": False}).roles_in_thinking() == frozenset()
    roles = {"teacher": {"enable_thinking": True}, "evaluation": {"enable_thinking": True}}
    assert chat(switch, chat=roles).roles_in_thinking() == {"teacher", "evaluation"}
    assert (
        chat(CHATML.replace("assistant\n", "assistant\n<ponder>")).roles_in_thinking((("<ponder>", "</ponder>"),))
        != frozenset()
    )
