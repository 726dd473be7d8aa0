"""Two real servers, with and without SGLang's router in front of them."""

from __future__ import annotations

import subprocess
import time
import urllib.request
from collections.abc import Iterator

import pytest

from rosd_kit.components.rollouts import SGLangEngine
from rosd_kit.contracts import Site
from rosd_kit.serving.server import free_port
from tests.sglang.conftest import greedy, launch_options, micro_student, requests_for, train, transformers_engine


@pytest.fixture(scope="module")
def engine_of_two(python, tmp_path_factory) -> Iterator[SGLangEngine]:
    """Start an engine that launches two servers."""
    engine = SGLangEngine(SGLangEngine.Config(launch=launch_options(python, servers=2)))
    folder = tmp_path_factory.mktemp("two")
    engine.start(micro_student(), Site(folder))
    yield engine
    engine.close()


@pytest.fixture
def router(python, engine_of_two, tmp_path) -> Iterator[str]:
    port = free_port("127.0.0.1")
    urls = [replica.client.url for replica in engine_of_two._pool.replicas]
    command = [python, "-m", "sglang_router.launch_router", "--worker-urls", *urls]
    with (tmp_path / "router.log").open("wb") as log:
        process = subprocess.Popen([*command, "--host", "127.0.0.1", "--port", str(port)], stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"
    for _ in range(1000):
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5):
                break
        except OSError:
            time.sleep(0.2)
    yield url
    process.terminate()
    process.wait(60)


def test_both_servers_get_the_weights_and_share_the_work(engine_of_two):
    student = engine_of_two.student
    train(student, 0.1)
    engine_of_two.sync(student, 1)
    counts = {replica: 0 for replica in engine_of_two._pool.replicas}
    for replica in counts:
        generate = replica.client.generate

        async def counting(*args, _replica=replica, _generate=generate, **options):
            counts[_replica] += 1
            return await _generate(*args, **options)

        replica.client.generate = counting
    requests = requests_for(student, 8, per_problem=2, temperature=0.0)
    sampled = [c.token_ids for c in engine_of_two.generate(requests)]
    assert sampled == [c.token_ids for c in transformers_engine(student).generate(requests)]
    assert sorted(counts.values()) == [8, 8]


def test_requests_go_through_the_router_and_weights_to_the_servers(engine_of_two, router, tmp_path):
    student = engine_of_two.student
    urls = [replica.client.url for replica in engine_of_two._pool.replicas]
    engine = SGLangEngine(SGLangEngine.Config(url=urls, router=router))
    engine.start(student, Site(tmp_path))
    try:
        train(student, 0.1)
        engine.sync(student, 1)
        for replica in engine._pool.replicas:
            replica.client.generate = None  # a request that bypasses the router would fail
        sampled = [c.token_ids for c in greedy(student, engine)]
        assert sampled == [c.token_ids for c in greedy(student, transformers_engine(student))]
    finally:
        engine.close()
