"""Odd request lines to the live page."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

import pytest

from rosd_kit.report.live import LiveServer
from tests.report.test_live import request


@pytest.mark.parametrize(
    "path", ["http://[/x", "//[", "//[::1/x", "?" + "&a=1" * 10_000, "/²", "/details/" + "1" * 5000, "/%ff%00"]
)
def test_an_invalid_request_line_is_refused_and_the_server_continues(tmp_path, path, capfd):
    (tmp_path / "recipe.yaml").write_text("name: x")
    with LiveServer(tmp_path) as server:
        url = urlsplit(server.address)
        for line in (path, f"{url.path}{path}"):
            with socket.create_connection((url.hostname, url.port), timeout=10) as connection:
                connection.sendall(f"GET {line} HTTP/1.1\r\nHost: {url.netloc}\r\nConnection: close\r\n\r\n".encode())
                answer = connection.makefile("rb").read()
            assert answer.split()[1] in (b"400", b"403", b"404", b"414"), answer[:200]
        assert request(server.address)[0] == 200
    assert "Traceback" not in capfd.readouterr().err
