"""What goes into a report: positions, outcomes, whatever an unfinished or older run holds."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re

import pytest

from rosd_kit.cli import main
from rosd_kit.errors import RunError
from rosd_kit.report.packing import OUTCOMES, detail, row, utf16
from rosd_kit.report.page import write_report
from rosd_kit.report.reading import RunRecords, records
from tests.report.writing import record


def unpacked(text: str, name: str):
    packed = re.search(rf'id="{name}">([^<]*)<', text)[1]
    return json.loads(gzip.decompress(base64.b64decode(packed)))


@pytest.mark.parametrize(
    ("text", "places"),
    [("abc", [0, 1, 2, 3]), ("aéc", [0, 1, 2, 3]), ("a😀c", [0, 1, 3, 4]), ("😀😀", [0, 2, 4]), ("", [0])],
)
def test_positions_are_those_of_a_browser(text, places):
    assert [utf16(text)(at) for at in range(len(text) + 1)] == places
    assert utf16(text)(99) == len(text.encode("utf-16-le", "surrogatepass")) // 2


def test_spans_and_quotes_behind_an_emoji_are_moved():
    text = "😀 26 + 5 = 33"
    shown = detail(record(1, 0, response=text, token_spans=[[0, 1], [1, 13]], located_at=2, true_error=[2, 13]))
    assert shown["spans"] == [0, 2, 2, 14]
    assert shown["quoted"] == shown["true_error"] == [3, 14]
    assert shown["located_at"] == 3


def test_a_quote_is_found_as_the_localizer_finds_it():
    assert detail(record(1, 0, quote="26 + 5 = 34"))["quoted"] is not None
    assert detail(record(1, 0, quote="nothing like it whatsoever"))["quoted"] is None


def test_a_row_holds_the_outcomes_that_apply():
    names = list(OUTCOMES)
    found = {names[place] for place in row(record(1, 0, localized="fuzzy_ambiguous", finish_reason="length"))[3]}
    assert found == {"wrong", "quote fuzzy", "quote ambiguous", "cut off"}
    diagnosed = row(record(1, 0, judged={"start": "within_step", "quote": True, "idea": False}))[3]
    assert {names[place] for place in diagnosed} == {"wrong", "wrong diagnosis"}


def test_records_of_an_earlier_version_and_broken_lines_are_no_error(new_run):
    run = new_run("old")
    kept = ("step", "problem", "response", "token_ids", "token_spans", "success", "weights", "localized", "quote", "messages")
    old = {key: value for key, value in record(1, 0).items() if key in kept}
    run.step(1, [old])
    file = run.folder / "samples/step-000001.jsonl"
    file.write_text(file.read_text() + '{"step": 1, "respo\nnull\n[]\n{"no": "step"}\n')
    assert records(file) == [old]
    text = write_report(run.folder).read_text()
    [chunk] = unpacked(text, "rows")
    assert len(chunk["rows"]) == 1
    assert unpacked(text, "details-0")[0]["divergence"] is None


def test_a_run_without_anything_yet_is_a_report(new_run):
    run = new_run("begun")
    data = unpacked(write_report(run.folder).read_text(), "overview")
    assert (data["metrics"], data["evaluations"], data["differences"], data["warnings"]) == ([], [], [], [])


def test_the_policy_lets_run_what_is_in_the_file_and_nothing_else(new_run):
    text = write_report(new_run("policy").folder).read_text()
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1]
    assert "default-src 'none'" in policy and "connect-src 'none'" in policy and "unsafe" not in policy
    for name in ("script", "style"):
        body = re.search(rf"<{name}>(.*?)</{name}>", text, re.S)[1]
        digest = base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()
        assert f"{name}-src 'sha256-{digest}'" in policy
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", text)


def test_warnings_are_those_that_the_run_gave(new_run):
    run = new_run("warned")
    run.evaluation(0, 0.8, 0.8)
    for step in range(1, 8):
        run.step(step, [], **{"rollout/length": 20.0 if step == 1 else 200.0})
    run.evaluation(7, 0.8, 0.3)
    told = RunRecords.read(run.folder).warnings()
    assert [(one["step"], one["text"].split()[0]) for one in told] == [(5, "responses"), (7, "outside")]
    assert "164 (at the start 20) tokens" in told[0]["text"] or "164" in told[0]["text"]


def test_the_command_writes_a_file_and_tells_users_mistakes(new_run, tmp_path, capsys):
    run = new_run("said")
    run.step(1, [record(1, 0)])

    def call(*words):
        with pytest.raises(SystemExit) as end:
            main(["report", *map(str, words)])
        said = capsys.readouterr()
        return int(end.value.code or 0), said.out, said.err

    code, out, _ = call(run.folder)
    assert code == 0 and str(run.folder / "report.html") in out
    assert call(run.folder, "--out", tmp_path / "here.html")[0] == 0 and (tmp_path / "here.html").is_file()
    for words, told in (
        ((tmp_path,), "holds no run"),
        ((run.folder, "--out", tmp_path / "no/such/folder.html"), "cannot be written"),
        ((run.folder, "--live", "--out", "x.html"), "--live writes no file"),
    ):
        code, _, errors = call(*words)
        assert code == 2 and told in errors and "Traceback" not in errors
    with pytest.raises(RunError):
        write_report(tmp_path)
