"""The live report: who may read it, and that new records arrive."""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
import sys
from urllib.parse import urlsplit

import pytest

from rosd_kit.errors import RunError
from rosd_kit.files import lock_file
from rosd_kit.report.live import Follower, LiveServer
from tests.report.run_writer import record


@pytest.fixture
def run(new_run):
    run = new_run("live")
    run.evaluation(0, 0.4, 0.5)
    run.step(1, [record(1, 0), record(1, 1)])
    return run


def request(address: str, path: str = "", *, host: str | None = None, method: str = "GET") -> tuple[int, bytes, dict]:
    url = urlsplit(address)
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=60)
    connection.request(method, url.path + path, headers={"Host": host or url.netloc})
    response = connection.getresponse()
    result = response.status, response.read(), dict(response.getheaders())
    connection.close()
    return result


def test_only_requests_to_the_secret_path_on_this_machine_are_answered(run):
    with LiveServer(run.folder) as server:
        port = server.server.server_address[1]
        assert server.server.server_address[0] == "127.0.0.1"
        status, page, headers = request(server.address)
        assert status == 200 and b"<!doctype html>" in page and b"26 + 5" not in page
        assert "connect-src 'self'" in page.decode() and headers["Referrer-Policy"] == "no-referrer"
        assert request(server.address, "update")[0] == 200
        assert request(f"http://127.0.0.1:{port}/")[0] == 404
        assert request(f"http://127.0.0.1:{port}/guessed/update")[0] == 404
        assert request(server.address, "../recipe.yaml")[0] == 404
        assert request(server.address, method="POST")[0] == 501


@pytest.mark.parametrize("host", ["evil.example", "evil.example:{port}", "127.0.0.1.evil.example:{port}", "[::1]:{port}"])
def test_a_foreign_host_name_that_points_here_is_refused(run, host):
    with LiveServer(run.folder) as server:
        port = server.server.server_address[1]
        status, body, _ = request(server.address, "update", host=host.format(port=port))
        assert status == 403 and b"sums" not in body
        assert request(server.address, "update", host=f"localhost:{port}")[0] == 200


def test_only_new_records_are_sent(run):
    follower = Follower(run.folder)
    first = follower.update({})
    assert (len(first["overview"]["metrics"]), len(first["overview"]["evaluations"]), len(first["chunks"])) == (1, 1, 1)
    have = {"generation": first["generation"], **{name: str(count) for name, count in first["have"].items()}}
    assert not any((again := follower.update(have))["overview"][name] for name in ("metrics", "evaluations"))
    assert again["chunks"] == []
    run.step(2, [record(2, 0)])
    second = follower.update(have)
    assert [record["step"] for record in second["overview"]["metrics"]] == [2]
    assert [(chunk["step"], len(chunk["rows"])) for chunk in second["chunks"]] == [(2, 1)]
    assert second["generation"] == first["generation"]
    assert follower.details(1, first["generation"])[0]["quote"] == "26 + 5 = 33"
    assert follower.details(2, first["generation"]) is follower.details(0, "another") is None


def test_a_run_that_resumed_from_an_earlier_step_is_sent_again(run):
    follower = Follower(run.folder)
    run.step(2, [record(2, 0)])
    before = follower.update({})
    have = {"generation": before["generation"], **{name: str(count) for name, count in before["have"].items()}}
    lines = (run.folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run.folder / "metrics.jsonl").write_text(lines[0])
    after = follower.update(have)
    assert after["generation"] != before["generation"]
    assert [record["step"] for record in after["overview"]["metrics"]] == [1]
    assert len(after["chunks"]) == 2


@pytest.mark.parametrize("have", [{"metrics": "-1"}, {"chunks": "x"}, {"metrics": "99999999999"}, {"generation": "../.."}])
def test_an_invalid_request_gets_everything(run, have):
    update = Follower(run.folder).update(have)
    assert len(update["overview"]["metrics"]) == 1 and len(update["chunks"]) == 1


def test_an_incomplete_line_is_skipped(run):
    with (run.folder / "metrics.jsonl").open("a") as stream:
        stream.write('{"step": 2, "rollout/succ')
    assert len(Follower(run.folder).update({})["overview"]["metrics"]) == 1


def test_a_folder_without_a_run_and_a_taken_port_are_errors(run, tmp_path):
    with pytest.raises(RunError, match=r"is not a run folder \(no recipe.yaml\)"):
        LiveServer(tmp_path)
    with LiveServer(run.folder) as server, pytest.raises(RunError, match="cannot listen on"):
        LiveServer(run.folder, server.server.server_address[1])


def test_an_open_page_updates_itself(run, open_page):
    with lock_file(run.folder / ".lock"), LiveServer(run.folder) as server:
        page = open_page(server.address)
        assert "step 1 of 9" in page.inner_text("#facts") and page.inner_text("#live") == "live"
        page.click("#tab-rollouts")
        page.wait_for_selector("#tokens")
        assert page.inner_text("#match-count") == "2 of 2"
        run.step(2, [record(2, i) for i in range(3)])
        run.evaluation(2, 0.9, 0.5)
        page.locator("#match-count", has_text="5 of 5").wait_for()
        assert "step 2 of 9" in page.inner_text("#facts")
        assert page.inner_text("#tokens").startswith("Step 1 : 26")
        page.click("#tab-overview")
        assert "+50.0" in page.inner_text("#results")
        assert page.errors == [] and all(url.startswith(server.address) for url in page.requests if not url.startswith("data:"))
    page.locator("#live", has_text="connection lost").wait_for()


def test_a_page_is_live_only_while_a_process_works_in_the_folder(run, open_page):
    with LiveServer(run.folder) as server:
        with lock_file(run.folder / ".lock"):
            page = open_page(server.address)
            assert page.inner_text("#live") == "live" and "step 1 of 9, running" in page.inner_text("#facts")
        page.locator("#live", has_text="stopped").wait_for()
        assert "step 1 of 9, stopped" in page.inner_text("#facts")
        with lock_file(run.folder / ".lock"):  # resumed; after its last step it still evaluates
            run.step(9, [record(9, 0)])
            page.locator("#facts", has_text="step 9 of 9").wait_for()
            assert page.inner_text("#live") == "live"
        page.locator("#live", has_text="finished").wait_for()
        assert "running" not in page.inner_text("#facts")


def test_updates_contain_null_instead_of_nan(run):
    run.step(2, [], **{"train/loss": float("nan")})

    def refuse(word):
        raise AssertionError(word)

    with LiveServer(run.folder) as server:
        update = json.loads(request(server.address, "update")[1], parse_constant=refuse)
    assert update["overview"]["metrics"][1]["train/loss"] is None


def test_the_command_serves_until_an_interrupt(run):
    words = [sys.executable, "-m", "rosd_kit", "report", str(run.folder), "--live"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        address = process.stdout.readline().strip()
        assert request(address)[0] == 200
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=120)
    assert (process.returncode, errors) == (0, "")
    assert out.splitlines()[-1] == "ended"
    assert not (run.folder / "report.html").exists()
