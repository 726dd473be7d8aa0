"""Task presets: each loads, maps rows with the columns of its data set, and composes with the other layers."""

from __future__ import annotations

import json

import pytest
import yaml

from rosd_kit.data import source, streams
from rosd_kit.errors import RecipeError
from rosd_kit.recipe import SHIPPED, build_components, load_recipe, resolve_recipe, shipped_names, to_yaml
from tests.components.rows import DATA, rows

PRESETS = shipped_names("tasks")
SCIENCES = ["biology", "chemistry", "material", "physics"]
AIME24 = {"id": 60, "problem": "Find m+n.", "solution": "It is 200+4.", "answer": "204", "url": "http://x", "year": "2024"}
MATH500 = {
    "problem": "Halve 1.", "solution": r"$\boxed{\frac{1}{2}}$", "answer": r"\frac{1}{2}", "subject": "Algebra", "level": 1,
    "unique_id": "test/algebra/1.json",
}  # fmt: skip
GSM8K = {"question": "3 and 4?", "answer": "They are <<3+4=7>>7.\n#### 7"}
GPQA = {
    "Record ID": "r", "Question": "Which?", "Correct Answer": "good", "Incorrect Answer 1": "bad",
    "Incorrect Answer 2": "worse", "Incorrect Answer 3": "worst", "Explanation": "so", "High-level domain": "Physics",
}  # fmt: skip
MMLU_PRO = {
    "question_id": 70, "question": "Which?", "options": [f"option {i}" for i in range(10)], "answer": "J", "answer_index": 9,
    "cot_content": "", "category": "law", "src": "ori_mmlu",
}  # fmt: skip
TOOLS = {
    "idx": 1, "kind": "tooluse", "dataset": "tooluse", "system": None, "prompt": "Name: Axolotl\nBegin!\nQuestion: A picture?",
    "answer": '[{"Action": "get", "Action_Input": "{}"}]',
}  # fmt: skip


def science(domain: str, number: int = 0, **details) -> dict:
    return {
        "question": f"Which {domain} {number}?", "choices": {"text": ["w", "x", "y", "z"], "label": ["A", "B", "C", "D"]},
        "answerKey": "C", "type": "mcq-4-choices", "domain": domain.capitalize(), "answer": "",
        "details": {"level": "L3", "task": "t", "subtask": "s", "source": "o"} | details,
    }  # fmt: skip


#: Data set, subset and split to rows with its columns.
HUB = {
    ("HuggingFaceH4/aime_2024", None, "train"): [AIME24],
    ("math-ai/aime25", None, "test"): [{"problem": "Find n.", "answer": "70", "id": "0"}],
    ("HuggingFaceH4/MATH-500", None, "test"): [MATH500],
    ("openai/gsm8k", "main", "train"): [GSM8K],
    ("openai/gsm8k", "main", "test"): [GSM8K],
    ("Idavidrein/gpqa", "gpqa_diamond", "train"): [GPQA],
    ("TIGER-Lab/MMLU-Pro", None, "test"): [MMLU_PRO],
    ("hicai-zju/SciKnowEval", "v2", "test"): [
        row for domain in SCIENCES for row in [science(domain, level="L1"), *(science(domain, n) for n in range(20))]
    ],
}


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """The hub's data sets, each with few rows, and the tool-use files in the working folder."""

    def load(which, *, streaming):
        assert len(which.revision) == 40 and not streaming
        return HUB[which.path, which.subset, which.split]

    monkeypatch.setattr(source, "load_hub", load)
    monkeypatch.setattr(streams, "load_hub", load)
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "datasets/tooluse"
    folder.mkdir(parents=True)
    for name in ("train", "test"):
        (folder / f"{name}.json").write_text(json.dumps(TOOLS) + "\n" + json.dumps(TOOLS))


def parts_of(preset: str, registry, *changes: str):
    return build_components(load_recipe("grpo", [f"task={preset}", *changes], registry=registry), registry)


def said(verifier, problem, text: str) -> bool:
    verdict = verifier.verify(problem, text)
    assert verdict.status == "ok"
    return verdict.success


def test_the_documented_presets_ship():
    assert set(PRESETS) >= {*(f"sciknoweval-{name}" for name in SCIENCES), "tool-use", "aime24", "aime25", "math500", "gsm8k"}
    assert set(PRESETS) >= {"gpqa", "mmlu-pro"} and not set(PRESETS) & set(shipped_names())


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_resolves_again_from_what_it_resolves_to(preset, registry, schema, tmp_path):
    recipe = load_recipe("rosd", [f"task={preset}"], registry=registry)
    (tmp_path / "again.yaml").write_text(to_yaml(recipe))
    assert load_recipe(tmp_path / "again.yaml", registry=registry) == recipe
    assert recipe.task.name == "dataset" and recipe.verifier.name in {"mcq", "math", "tool_use", "by_suite", "exact"}
    schema.validate(yaml.safe_load((SHIPPED / f"tasks/{preset}.yaml").read_text()))
    schema.validate({"task": preset})


@pytest.mark.parametrize(
    ("preset", "suites"),
    [
        ("aime24", {"aime24": ("204", r"So \boxed{204}.", r"\boxed{203}")}),
        ("aime25", {"aime25": ("70", r"\boxed{70}", r"\boxed{7}")}),
        ("math500", {"math500": (r"\frac{1}{2}", r"\boxed{0.5}", r"\boxed{2}")}),
        ("gsm8k", {"gsm8k": ("7", r"\boxed{7}", r"\boxed{8}"), "math500": (r"\frac{1}{2}", r"\boxed{1/2}", r"\boxed{1}")}),
        ("math", {name: (None, None, r"\boxed{-5}") for name in ("aime24", "aime25", "math500")}),
        ("mmlu-pro", {"mmlu_pro": ("J", "<answer>J</answer>", "<answer>A</answer>")}),
        ("tool-use", {"tool_use": (TOOLS["answer"], "Action: get\nAction Input: {}", "Action: put\nAction Input: {}")}),
        ("sciknoweval", {name: ("C", "<answer>\nC\n</answer>", "<answer>D</answer>") for name in SCIENCES}),
    ],
)
def test_a_preset_maps_the_columns_of_its_data_and_judges_the_answers(preset, suites, registry, hub):
    pytest.importorskip("math_verify")
    parts = parts_of(preset, registry)
    measured = parts.task.suites(count=1000, seed=0)
    assert set(measured) == set(suites)
    for name, (answer, right, wrong) in suites.items():
        for problem in measured[name]:
            assert answer in (None, problem.answer) and problem.solution is None
            assert right is None or said(parts.verifier, problem, right)
            assert not said(parts.verifier, problem, wrong)


def test_gsm8k_trains_on_its_training_rows_with_their_solutions(registry, hub):
    (problem,) = parts_of("gsm8k", registry).task.train_batch(step=0, count=1, seed=0)
    assert (problem.messages[-1]["content"], problem.answer, problem.solution) == ("3 and 4?", "7", GSM8K["answer"])
    assert "boxed" in problem.messages[0]["content"]


def test_gpqa_mixes_its_options(registry, hub):
    parts = parts_of("gpqa", registry)
    ((problem,),) = parts.task.suites(count=10, seed=0).values()
    listed = dict(line.split(": ") for line in problem.messages[-1]["content"].split("\n")[2:])
    assert sorted(listed.values()) == ["bad", "good", "worse", "worst"] and listed[problem.answer] == "good"
    assert said(parts.verifier, problem, f"<answer>{problem.answer}</answer>")


@pytest.mark.parametrize("name", SCIENCES)
def test_a_science_trains_on_nine_tenths_of_level_3_and_is_measured_with_the_others(name, registry, hub):
    task = parts_of(f"sciknoweval-{name}", registry).task
    suites = task.suites(count=1000, seed=0)
    assert next(iter(suites)) == name and task.in_domain() == {name}
    assert {suite: len(problems) for suite, problems in suites.items()} == dict.fromkeys(SCIENCES, 2)
    trained = {p.messages[-1]["content"] for p in task.train_batch(step=0, count=18, seed=0)}
    measured = {p.messages[-1]["content"] for p in suites[name]}
    assert len(trained) == 18 and not trained & measured and len(trained | measured) == 20
    assert suites[name][0].messages[-1]["content"].split("\n")[2:6] == ["A: w", "B: x", "C: y", "D: z"]


@pytest.mark.parametrize("name", [*SCIENCES, "tool-use"])
def test_the_papers_columns_train_on_one_domain_and_measure_all_five_and_aime(name, registry, hub):
    pytest.importorskip("math_verify")
    recipe = load_recipe("rosd", [f"task=paper/{name}"], registry=registry)
    parts = build_components(recipe, registry)
    assert (recipe.evaluation.samples, recipe.evaluation.temperature, recipe.evaluation.top_p) == (16, 0.6, 0.95)
    suites = parts.task.suites(count=recipe.evaluation.problems, seed=0)
    own = name.replace("-", "_")
    assert set(suites) == {*SCIENCES, "tool_use", "aime24"} and next(iter(suites)) == own and parts.task.in_domain() == {own}
    right = {suite: "<answer>C</answer>" for suite in SCIENCES} | {"tool_use": "Action: get\nAction Input: {}"}
    right["aime24"] = r"So it is \boxed{204}."
    assert not said(parts.verifier, suites["aime24"][0], r"So it is \boxed{205}.")
    for suite, problems in suites.items():
        assert all(said(parts.verifier, problem, right[suite]) for problem in problems)
        assert [m["role"] for m in problems[0].messages] == (["user"] if suite == "tool_use" else ["system", "user"])
    (problem,) = parts.task.train_batch(step=0, count=1, seed=0)
    assert said(parts.verifier, problem, right[own])
    alone = load_recipe("rosd", ["task=sciknoweval"], registry=registry).task.options
    assert suites["physics"][0].messages[0]["content"] == alone.system
    math = load_recipe("rosd", ["task=aime24"], registry=registry).task.options
    assert [m["content"] for m in suites["aime24"][0].messages] == [math.system, AIME24["problem"]]


@pytest.mark.parametrize("name", SCIENCES)
def test_a_science_on_real_rows(name, registry):
    rows(f"sciknoweval-{name}.train")
    here = {
        "path": str(DATA / f"sciknoweval-{name}.train.jsonl"),
        "prompt": '"{prompt}"',
        "answer": '"{answer}"',
    }
    changes = [f"task.{key}={value}" for key, value in here.items()]
    parts = parts_of("boxed", registry, *changes, "verifier=mcq", 'task.system="{system}"')
    for problem in parts.task.train_batch(step=0, count=108, seed=0):
        assert said(parts.verifier, problem, f"<reasoning>so</reasoning>\n<answer>\n{problem.answer}\n</answer>")


def test_tool_use_on_real_rows(registry):
    rows("tooluse.test")
    file = DATA / "tooluse.test.jsonl"
    parts = parts_of("tool-use", registry, f"task.path={file}", f"task.suites.tool_use.path={file}")
    problems = parts.task.suites(count=1000, seed=0)["tool_use"]
    assert len(problems) == 68
    for problem in problems:
        calls = [f"Action: {c['Action']}\nAction Input: {c['Action_Input']}" for c in json.loads(problem.answer)]
        assert said(parts.verifier, problem, "\n".join(calls)) and problem.messages[0]["role"] == "user"


def test_a_preset_lies_above_the_profile_and_beneath_the_layer_that_names_it(registry, tmp_path):
    (tmp_path / "mine.yaml").write_text("extends: rosd\ntask: {name: gsm8k, limit: 9}\nverifier: {name: math, deadline: 3}")
    resolution = resolve_recipe(tmp_path / "mine.yaml", ["evaluation.samples=2"], registry=registry)
    recipe, origin = resolution.recipe, resolution.provenance
    assert (recipe.task.options.limit, recipe.verifier.options.deadline, recipe.evaluation.samples) == (9, 3.0, 2)
    assert origin["task.path"] == "task gsm8k" and origin["task.limit"].endswith("mine.yaml")
    again = resolve_recipe(tmp_path / "mine.yaml", ["task=gpqa"], registry=registry).recipe
    assert again.verifier.name == "mcq" and again.task.options.limit is None and again.task.options.path is None
    other = resolve_recipe(tmp_path / "mine.yaml", ["verifier=exact", "task=gpqa"], registry=registry).recipe
    assert other.verifier.name == "exact"


def test_a_users_preset_is_found_beside_the_recipe_and_may_extend_a_shipped_one(registry, tmp_path):
    (tmp_path / "sums.yaml").write_text('extends: boxed\ntask: {path: sums.jsonl, prompt: "{q}"}')
    (tmp_path / "mine.yaml").write_text("extends: rosd\ntask: sums.yaml")
    recipe = load_recipe(tmp_path / "mine.yaml", registry=registry)
    assert (recipe.task.options.path, recipe.task.options.prompt, recipe.verifier.name) == ("sums.jsonl", "{q}", "math")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("task: {name: dataset}\nteacher: ema", "teacher: not allowed in .*sums.yaml: a task preset holds task, verifier"),
        ("tsak: dataset", "Did you mean 'task'?"),
        ("task: gsm8k", "task: 'gsm8k' in .*sums.yaml must be a component"),
        ("extends: gsm9k", "unknown task preset 'gsm9k'. Did you mean 'gsm8k'?"),
    ],
)
def test_a_mistake_in_a_preset_is_an_error(registry, tmp_path, text, message):
    (tmp_path / "sums.yaml").write_text(text)
    with pytest.raises(RecipeError, match=message.replace("?", r"\?")):
        load_recipe("rosd", [f"task={tmp_path / 'sums.yaml'}"], registry=registry)


def test_a_misspelt_task_is_an_error_that_lists_the_presets(registry):
    with pytest.raises(RecipeError, match=r"task: unknown 'gsm8'(.|\n)*Task presets: aime24, (.|\n)*Did you mean 'gsm8k'\?"):
        load_recipe("rosd", ["task=gsm8"], registry=registry)
    with pytest.raises(RecipeError, match=r"task: unknown 'datase'. Did you mean 'dataset'\?"):
        load_recipe("rosd", ["task=datase"], registry=registry)


def test_options_that_every_verifier_shares_survive_a_presets_own_verifier(registry, tmp_path):
    (tmp_path / "mine.yaml").write_text("extends: rosd\nverifier: {truncated: score}")
    (tmp_path / "mathematics.yaml").write_text(
        "extends: rosd\nverifier: {name: math, truncated: score, deadline: 3, workers: 5}"
    )
    (tmp_path / "strict.yaml").write_text("extends: gsm8k\nverifier: {name: math, truncated: wrong}")
    for preset, name in (("gpqa", "mcq"), ("gsm8k", "math"), ("paper/physics", "by_suite")):
        for recipe, changes in (("reference/rosd", ()), (tmp_path / "mine.yaml", ()), ("rosd", ["verifier.truncated=score"])):
            verifier = load_recipe(recipe, [f"task={preset}", *changes], registry=registry).verifier
            assert (verifier.name, verifier.options.truncated) == (name, "score")
    sandboxed = load_recipe(tmp_path / "mathematics.yaml", ["task=gsm8k"], registry=registry).verifier.options
    assert (sandboxed.truncated, sandboxed.deadline, sandboxed.workers) == ("score", 3.0, 5)
    assert load_recipe(tmp_path / "mathematics.yaml", ["task=gpqa"], registry=registry).verifier.options.truncated == "score"
    strict = load_recipe(tmp_path / "mathematics.yaml", [f"task={tmp_path / 'strict.yaml'}"], registry=registry)
    assert strict.verifier.options.truncated == "wrong", "what the preset itself says ranks above lower layers"


@pytest.mark.parametrize(
    ("changes", "slot", "expected"),
    [
        (("verifier=exact",), "verifier", ("exact", "score")),
        (("verifier={name: mcq}",), "verifier", ("mcq", "score")),
        (("verifier.name=math",), "verifier", ("math", "score")),
        (("verifier={name: exact, truncated: wrong}",), "verifier", ("exact", "wrong")),
        (("verifier=exact", "verifier.truncated=wrong"), "verifier", ("exact", "wrong")),
        (("gate=all",), "gate", ("all", "mask")),
        (("gate={name: mixed_rewards, truncated: keep}",), "gate", ("mixed_rewards", "keep")),
    ],
    ids=str,
)
def test_another_component_keeps_the_options_that_its_whole_slot_shares(registry, changes, slot, expected):
    below = {"extends": "rosd", "verifier": {"truncated": "score"}, "gate": {"name": "mixed_groups", "truncated": "mask"}}
    choice = getattr(load_recipe(below, changes, registry=registry), slot)
    assert (choice.name, choice.options.truncated) == expected


def test_a_recipe_that_extends_another_keeps_them_too(registry, tmp_path):
    (tmp_path / "base.yaml").write_text(
        "extends: rosd\nverifier: {truncated: score}\ngate: {name: mixed_groups, truncated: drop}\n"
    )
    (tmp_path / "own.yaml").write_text("extends: base.yaml\nverifier: {name: mcq, strict: true}\ngate: all\n")
    recipe = load_recipe(tmp_path / "own.yaml", registry=registry)
    assert (recipe.verifier.options.truncated, recipe.verifier.options.strict) == ("score", True)
    assert (recipe.gate.name, recipe.gate.options.truncated) == ("all", "drop")


def test_another_verifier_keeps_the_limits_of_the_sandbox_where_it_has_one(registry):
    below = {"extends": "rosd", "verifier": {"name": "math", "deadline": 33.0, "workers": 3, "boxed_only": False}}
    code, exact = (load_recipe(below, [f"verifier={name}"], registry=registry).verifier.options for name in ("code", "exact"))
    assert (code.deadline, code.workers) == (33.0, 3) and "deadline" not in type(exact).model_fields
