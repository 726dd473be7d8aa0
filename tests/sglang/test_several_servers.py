"""Two servers, and SGLang's own router in front of them."""

from __future__ import annotations

import subprocess
import time
import urllib.request
from collections.abc import Iterator

import pytest

from rosd_kit.components.rollouts import SGLangEngine
from rosd_kit.contracts import Site
from rosd_kit.sglang.server import free_port
from tests.sglang.conftest import greedy, micro_student, move, of_transformers, requests_for


@pytest.fixture(scope="module")
def two(python, tmp_path_factory) -> Iterator[SGLangEngine]:
    """Hold an engine that launched two servers."""
    engine = SGLangEngine(SGLangEngine.Config(launch={"python": python, "servers": 2}))
    folder = tmp_path_factory.mktemp("two")
    engine.start(micro_student(), Site(folder))
    yield engine
    engine.close()


@pytest.fixture
def router(python, two, tmp_path) -> Iterator[str]:
    port = free_port("127.0.0.1")
    urls = [replica.client.url for replica in two._pool.replicas]
    command = [python, "-m", "sglang_router.launch_router", "--worker-urls", *urls]
    with (tmp_path / "router.log").open("wb") as log:
        process = subprocess.Popen([*command, "--host", "127.0.0.1", "--port", str(port)], stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"
    for _ in range(200):
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5):
                break
        except OSError:
            time.sleep(0.2)
    yield url
    process.terminate()
    process.wait(30)


def test_both_get_the_weights_and_share_the_work(two):
    student = two.student
    move(student, 0.1)
    two.sync(student, 1)
    asked = {replica: 0 for replica in two._pool.replicas}
    for replica in asked:
        generate = replica.client.generate

        async def counted(*args, _member=replica, _generate=generate, **options):
            asked[_member] += 1
            return await _generate(*args, **options)

        replica.client.generate = counted
    requests = requests_for(student, 8, each=2, temperature=0.0)
    found = [c.token_ids for c in two.generate(requests)]
    assert found == [c.token_ids for c in of_transformers(student).generate(requests)]
    assert sorted(asked.values()) == [8, 8]


def test_requests_go_through_a_router_and_weights_to_its_servers(two, router, tmp_path):
    student = two.student
    urls = [replica.client.url for replica in two._pool.replicas]
    engine = SGLangEngine(SGLangEngine.Config(url=urls, router=router))
    engine.start(student, Site(tmp_path))
    try:
        move(student, 0.1)
        engine.sync(student, 1)
        for replica in engine._pool.replicas:
            replica.client.generate = None  # whoever asked a server itself would fail
        found = [c.token_ids for c in greedy(student, engine)]
        assert found == [c.token_ids for c in greedy(student, of_transformers(student))]
    finally:
        engine.close()
