"""Uploading a model: to a stand-in for the hub on this machine, and what is said if it refuses or cannot be reached."""

from __future__ import annotations

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from rosd_kit.cli import main
from rosd_kit.errors import RunError
from rosd_kit.run.hub import push_model


class Hub(BaseHTTPRequestHandler):
    """Answers what an upload of small files asks, and keeps the files."""

    files: dict[str, bytes]
    made: list[dict]
    address: str
    status = 200

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.status != 200:
            return self.answer({"error": "no"}, self.status)
        if self.path == "/api/repos/create":
            self.made.append(json.loads(body))
            return self.answer({"url": f"{self.address}/me/model", "id": "me/model"})
        if self.path == "/api/validate-yaml":
            return self.answer({"warnings": [], "errors": []})
        if "/preupload/" in self.path:
            files = [{"path": one["path"], "uploadMode": "regular", "shouldIgnore": False} for one in json.loads(body)["files"]]
            return self.answer({"files": files})
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "file":
                self.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
        return self.answer({"success": True, "commitOid": "0" * 40, "commitUrl": f"{self.address}/me/model/commit/0"})

    def do_GET(self):
        self.answer({"id": "me/model", "sha": "0" * 40, "siblings": []}, self.status)

    def answer(self, value, status=200):
        text = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def hub(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    handler = type("OneHub", (Hub,), {"files": {}, "made": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    handler.address = f"http://127.0.0.1:{server.server_address[1]}"
    yield handler
    server.shutdown()
    server.server_close()


@pytest.fixture
def run(tmp_path):
    (tmp_path / "run/model").mkdir(parents=True)
    (tmp_path / "run/recipe.yaml").write_text("name: rosd\n")
    (tmp_path / "run/model/config.json").write_text("{}")
    (tmp_path / "run/model/README.md").write_text("# A card\n")
    return tmp_path / "run"


def test_the_model_and_its_card_are_uploaded(hub, run):
    assert push_model(run, "me/model", private=True, endpoint=hub.address) == f"{hub.address}/me/model"
    assert hub.files == {"config.json": b"{}", "README.md": b"# A card\n"}
    assert hub.made[0]["name"] == "model" and hub.made[0]["organization"] == "me" and hub.made[0].get("private", True)


def test_a_refusal_says_what_to_do(hub, run):
    hub.status = 403
    with pytest.raises(RunError, match=r"refused me/model: .*hf auth login"):
        push_model(run, "me/model", endpoint=hub.address)


def test_a_hub_that_cannot_be_reached_is_said_to_be_and_the_model_stays(hub, run):
    with pytest.raises(RunError, match=r"^push: http://127.0.0.1:9 cannot be reached: .* HF_ENDPOINT .*The model stays in"):
        push_model(run, "me/model", endpoint="http://127.0.0.1:9")
    assert (run / "model/config.json").is_file()


def test_a_run_without_a_model_and_a_name_that_is_none_are_refused_before_anything_is_sent(run, tmp_path, capsys):
    with pytest.raises(RunError, match=r"is not a repository\. Write OWNER/NAME"):
        push_model(run, "model")
    (run / "model/config.json").unlink()
    with pytest.raises(SystemExit) as end:
        main(["push", str(run), "me/model"])
    assert end.value.code == 2 and "because the run is not finished" in capsys.readouterr().err
    with pytest.raises(RunError, match="holds no model"):
        push_model(tmp_path / "nowhere", "me/model")
