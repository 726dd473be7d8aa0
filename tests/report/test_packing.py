"""The data of a report: positions, outcomes, and what unfinished or older runs contain."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re

import pytest

from rosd_kit.cli import main
from rosd_kit.errors import RunError
from rosd_kit.report.packing import OUTCOMES, detail, row, utf16_positions
from rosd_kit.report.page import write_report
from rosd_kit.report.reading import RunRecords, records
from tests.report.run_writer import record


def unpack(text: str, name: str):
    packed = re.search(rf'id="{name}">([^<]*)<', text)[1]
    return json.loads(gzip.decompress(base64.b64decode(packed)))


@pytest.mark.parametrize(
    ("text", "positions"),
    [("abc", [0, 1, 2, 3]), ("aéc", [0, 1, 2, 3]), ("a😀c", [0, 1, 3, 4]), ("😀😀", [0, 2, 4]), ("", [0])],
)
def test_positions_are_in_utf16_code_units(text, positions):
    assert [utf16_positions(text)(at) for at in range(len(text) + 1)] == positions
    assert utf16_positions(text)(99) == len(text.encode("utf-16-le", "surrogatepass")) // 2


def test_spans_after_an_emoji_are_shifted():
    text = "😀 26 + 5 = 33"
    shown = detail(record(1, 0, response=text, token_spans=[[0, 1], [1, 13]], located_at=2, true_error=[2, 13]))
    assert shown["spans"] == [0, 2, 2, 14]
    assert shown["quoted"] == shown["true_error"] == [3, 14]
    assert shown["located_at"] == 3


def test_a_quote_is_matched_like_in_the_localizer():
    assert detail(record(1, 0, quote="26 + 5 = 34"))["quoted"] is not None
    assert detail(record(1, 0, quote="nothing like it whatsoever"))["quoted"] is None


def test_a_row_contains_the_outcomes_that_apply():
    names = list(OUTCOMES)
    outcomes = {names[index] for index in row(record(1, 0, localized="fuzzy_ambiguous", finish_reason="length"))[3]}
    assert outcomes == {"wrong", "quote fuzzy", "quote ambiguous", "truncated"}
    diagnosed = row(record(1, 0, judged={"start": "within_step", "quote": True, "idea": False}))[3]
    assert {names[index] for index in diagnosed} == {"wrong", "wrong diagnosis"}


def test_a_rollout_that_was_left_out_is_listed_with_its_reason():
    known = ("step", "problem", "index", "response", "token_ids", "token_spans", "success", "messages")
    left_out = {key: value for key, value in record(1, 0).items() if key in known}
    left_out |= {"status": "left_out", "reason": "gate: all_wrong"}
    names = list(OUTCOMES)
    assert {"left out", "not trained on"} < {names[index] for index in row(left_out)[3]}
    assert (detail(left_out)["status"], detail(left_out)["reason"]) == ("left_out", "gate: all_wrong")


def test_records_of_earlier_versions_and_broken_lines_are_tolerated(new_run):
    run = new_run("old")
    kept = ("step", "problem", "response", "token_ids", "token_spans", "success", "weights", "localized", "quote", "messages")
    old = {key: value for key, value in record(1, 0).items() if key in kept}
    run.step(1, [old])
    file = run.folder / "samples/step-000001.jsonl"
    file.write_text(file.read_text() + '{"step": 1, "respo\nnull\n[]\n{"no": "step"}\n')
    assert records(file) == [old]
    text = write_report(run.folder).read_text()
    [chunk] = unpack(text, "rows")
    assert len(chunk["rows"]) == 1
    assert unpack(text, "details-0")[0]["divergence"] is None


def test_a_run_without_records_can_be_reported(new_run):
    run = new_run("started")
    data = unpack(write_report(run.folder).read_text(), "overview")
    assert (data["metrics"], data["evaluations"], data["differences"], data["warnings"]) == ([], [], [], [])


def test_the_content_security_policy_allows_only_the_scripts_and_styles_in_the_file(new_run):
    text = write_report(new_run("policy").folder).read_text()
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1]
    assert "default-src 'none'" in policy and "connect-src 'none'" in policy and "unsafe" not in policy
    for name in ("script", "style"):
        body = re.search(rf"<{name}>(.*?)</{name}>", text, re.S)[1]
        digest = base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()
        assert f"{name}-src 'sha256-{digest}'" in policy
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", text)


def test_the_report_shows_the_warnings_of_the_run(new_run):
    run = new_run("warned")
    run.evaluation(0, 0.8, 0.8)
    for step in range(1, 8):
        run.step(step, [], **{"rollout/length": 20.0 if step == 1 else 200.0})
    run.evaluation(7, 0.8, 0.3)
    warnings = RunRecords.read(run.folder).warnings()
    assert [(one["step"], one["text"].split()[0]) for one in warnings] == [(5, "responses"), (7, "outside")]
    assert "164" in warnings[0]["text"]


def test_the_command_writes_a_file_and_explains_mistakes(new_run, tmp_path, capsys):
    run = new_run("command")
    run.step(1, [record(1, 0)])

    def call(*words):
        with pytest.raises(SystemExit) as end:
            main(["report", *map(str, words)])
        output = capsys.readouterr()
        return int(end.value.code or 0), output.out, output.err

    code, out, _ = call(run.folder)
    assert code == 0 and str(run.folder / "report.html") in out
    assert call(run.folder, "--out", tmp_path / "here.html")[0] == 0 and (tmp_path / "here.html").is_file()
    for words, message in (
        ((tmp_path,), "is not a run folder"),
        ((run.folder, "--out", tmp_path / "no/such/folder.html"), "cannot be written"),
        ((run.folder, "--live", "--out", "x.html"), "--live writes no file"),
    ):
        code, _, errors = call(*words)
        assert code == 2 and message in errors and "Traceback" not in errors
    with pytest.raises(RunError):
        write_report(tmp_path)
