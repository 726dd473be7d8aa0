"""Simulates how a step's rollouts keep several servers busy: a model, not a measurement.

    python benchmarks/sampling_model.py                 # prints the table of RESULTS.md; a minute on a CPU
    python benchmarks/sampling_model.py --servers 8 --problems 32 --group 8 --extra 0 8 16 32

Lengths are lognormal and cut off at a limit, with a given mean and a given share that reaches the limit. A server's decode step
takes the time to read the weights, or to multiply them with the batch if that is longer, plus the time to read the keys and
values of all open responses. The defaults are the paper's lengths and a 4B model in bfloat16 on an H100: `Device` has the
arithmetic.

* `own`: each server has the groups of its rank, and needs its share of the step's groups. `common`: the same, but the step ends
  for all when the groups of all are enough. `queue`: each response goes to the server with the fewest open ones.
* `extra`: problems that are open beyond those that a step needs. With none, a step waits for its last response. With some, it
  ends when it has its groups; responses that are then open are stopped and continue in the next step, on a server that first
  reads what there is of them.

Idle is the share of the sampling time, over all servers, in which a server decodes nothing. The bound is the time of the
longest response alone on a server.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from harness import table

MODES = ("own", "common", "queue")


@dataclass(frozen=True)
class Device:
    """Seconds that a server needs: bytes or operations by the data sheet's rate, times the share that is usually reached."""

    weights: float = 8.0e9 / (0.95 * 3.35e12)
    """To read all weights once."""
    token: float = 2 * 4.0e9 / (0.5 * 989e12)
    """To multiply all weights with one token."""
    context: float = 2 * 8 * 128 * 36 * 2 / (0.7 * 3.35e12)
    """To read the keys and values of one token: eight heads of 128 numbers in 36 layers, two bytes each."""

    def decode(self, contexts: Sequence[int], tokens: int) -> float:
        """Return the seconds in which responses with these contexts grow by `tokens` each."""
        growth = len(contexts) * self.context * tokens * (tokens - 1) / 2
        return tokens * (max(self.weights, len(contexts) * self.token) + sum(contexts) * self.context) + growth


@dataclass(frozen=True)
class Lengths:
    """Lognormal lengths, cut off at `limit`, which the share `cut` reaches."""

    mean: float = 800.0
    limit: int = 8192
    cut: float = 0.01

    def draw(self, rng: random.Random) -> Iterator[int]:
        """Yield lengths without end."""
        quantile = statistics.NormalDist().inv_cdf(1 - self.cut)
        low, high = 0.01, quantile
        for _ in range(60):  # the wider the distribution with this share cut off, the smaller its mean
            scale = (low + high) / 2
            low, high = (scale, high) if self._mean(quantile, scale) > self.mean else (low, scale)
        location = math.log(self.limit) - quantile * scale
        while True:
            yield max(1, min(self.limit, round(rng.lognormvariate(location, scale))))

    def _mean(self, quantile: float, scale: float) -> float:
        whole = math.exp(math.log(self.limit) - quantile * scale + scale**2 / 2)
        return whole * statistics.NormalDist().cdf(quantile - scale) + self.limit * self.cut


@dataclass(eq=False)
class Response:
    """One response: its group, how long it will be, the step in which it began, and how many of its tokens there are."""

    group: int
    length: int
    began: int
    done: int = 0
    done_before: int = 0  # in earlier steps


@dataclass
class Server:
    """A server that decodes its open responses in lockstep."""

    device: Device
    prompt: int
    open: list[Response] = field(default_factory=list)
    clock: float = 0.0

    def take(self, response: Response) -> None:
        """Read the prompt and what there is of the response."""
        self.clock += (self.prompt + response.done) * self.device.token
        self.open.append(response)

    def next_end(self) -> float:
        """Return the time at which the next response ends."""
        return self.clock + self._seconds(self._least())

    def advance(self, tokens: int) -> None:
        """Let all open responses grow by this many tokens, and drop those that end."""
        self.clock += self._seconds(tokens)
        for response in self.open:
            response.done += tokens
        self.open = [response for response in self.open if response.done < response.length]

    def advance_to_next_end(self) -> None:
        """Decode until a response ends."""
        self.advance(self._least())

    def advance_until(self, time: float) -> None:
        """Decode until this time, at which no response has ended yet."""
        low, high = 0, self._least() if self.open else 0
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self.clock + self._seconds(middle) <= time else (low, middle - 1)
        self.advance(low)

    def _least(self) -> int:
        return min(response.length - response.done for response in self.open)

    def _seconds(self, tokens: int) -> float:
        return self.device.decode([self.prompt + response.done for response in self.open], tokens)


@dataclass(frozen=True)
class Sampled:
    """What a step trains on, when it had it, and how long its servers decoded."""

    responses: list[Response]
    seconds: float
    busy: float


@dataclass
class Queue:
    """Servers that share one queue, and the groups that are open from step to step."""

    servers: int
    problems: int
    extra: int
    group: int
    prompt: int
    device: Device
    lengths: Iterator[int]
    by_group: bool
    step: int = 0
    groups: int = 0
    open: list[Response] = field(default_factory=list)

    def sample(self) -> Sampled:
        """Sample a step's groups; keep what is open when they are complete."""
        self.step += 1
        while len({response.group for response in self.open}) < self.problems + self.extra:
            self.open += [Response(self.groups, next(self.lengths), self.step) for _ in range(self.group)]
            self.groups += 1
        servers = [Server(self.device, self.prompt) for _ in range(self.servers)]
        groups = sorted({response.group for response in self.open})
        for response in self.open:
            response.done_before = response.done
            if response.done < response.length:
                fewest = min(servers, key=lambda server: len(server.open))
                (servers[groups.index(response.group) % len(servers)] if self.by_group else fewest).take(response)
        end = 0.0
        while len(complete := self._complete()) < self.problems:
            server = min((server for server in servers if server.open), key=Server.next_end)
            server.advance_to_next_end()
            end = server.clock
        for server in servers:
            server.advance_until(end)
        trained = set(complete[: self.problems])
        responses = [response for response in self.open if response.group in trained]
        self.open = [response for response in self.open if response.group not in trained]
        return Sampled(responses, end, sum(min(server.clock, end) for server in servers))

    def _complete(self) -> list[int]:
        unfinished = {response.group for response in self.open if response.done < response.length}
        return sorted({response.group for response in self.open} - unfinished)


def simulate(arguments: argparse.Namespace, *, mode: str, extra: int) -> list[str]:
    """Return a row of the table: means over all steps but the first tenth."""
    device, count = Device(), arguments.servers if mode == "own" else 1
    lengths = Lengths(arguments.mean, arguments.limit, arguments.cut).draw(random.Random(arguments.seed))
    queues = [
        Queue(
            servers=arguments.servers // count,
            problems=arguments.problems // count,
            extra=extra // count,
            group=arguments.group,
            prompt=arguments.prompt,
            device=device,
            lengths=lengths,
            by_group=mode == "common",
        )
        for _ in range(count)
    ]
    seconds, bounds, idle, old, ages = [], [], [], [], []
    for step in range(arguments.steps):
        sampled = [queue.sample() for queue in queues]
        if step < arguments.steps // 10:
            continue
        responses = [response for one in sampled for response in one.responses]
        seconds.append(max(one.seconds for one in sampled))
        bounds.append(device.decode([arguments.prompt], max(response.length for response in responses)))
        idle.append(1 - sum(one.busy for one in sampled) / (arguments.servers * seconds[-1]))
        old.append(sum(response.done_before for response in responses) / sum(response.length for response in responses))
        ages.append(statistics.mean(step + 1 - response.began for response in responses))
    ratio = f"{statistics.mean(a / b for a, b in zip(seconds, bounds, strict=True)):.2f}"
    return [
        mode,
        str(extra),
        f"{statistics.mean(seconds):.1f}",
        "" if extra else ratio,
        f"{statistics.mean(idle):.0%}",
        f"{statistics.mean(old):.0%}",
        f"{statistics.mean(ages):.2f}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--servers", type=int, default=8)
    parser.add_argument("--problems", type=int, default=32, help="per step")
    parser.add_argument("--group", type=int, default=8)
    parser.add_argument("--extra", type=int, nargs="*", default=[0, 8, 16, 32, 64], help="problems open beyond those of a step")
    parser.add_argument("--prompt", type=int, default=300, help="tokens of a prompt")
    parser.add_argument("--mean", type=float, default=800.0, help="mean length of a response")
    parser.add_argument("--limit", type=int, default=8192)
    parser.add_argument("--cut", type=float, default=0.01, help="share of responses that reach the limit")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    titles = ["servers", "extra problems", "seconds a step", "of the bound", "idle", "tokens of older weights", "age in steps"]
    print(table(titles, [simulate(arguments, mode=mode, extra=extra) for extra in arguments.extra for mode in MODES]))


if __name__ == "__main__":
    main()
