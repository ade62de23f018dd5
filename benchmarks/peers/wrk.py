"""Load by `wrk`: one thread in C, kept-alive connections, each with its next request when the reply came.

Install it with `apt-get install wrk`. Its times come from a script of ours in one line of JSON; a reply other than 2xx
or 3xx, and a connection that failed, counts as an error.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers.environments import MissingError, last_line

# Each request takes the next line of a file as its body.
SCRIPT = """
local requests, count = {}, 0
function init(args)
  wrk.method = "POST"
  wrk.headers["Content-Type"] = "application/json"
  for line in io.lines(args[1]) do requests[#requests + 1] = wrk.format(nil, nil, nil, line) end
end
function request()
  count = count + 1
  return requests[count % #requests + 1]
end
function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    'result {"requests": %d, "seconds": %.6f, "p50_ms": %.4f, "p99_ms": %.4f, "errors": %d}\\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    e.status + e.connect + e.read + e.write + e.timeout))
end
"""


@dataclass(frozen=True)
class Load:
    """The outcome of one load. requests: replies, refusals among them; seconds: as long as it took."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    errors: int

    @property
    def requests_per_second(self) -> float:
        """Return the replies per second that were no errors."""
        return max(0, self.requests - self.errors) / self.seconds


def parse(output: str) -> Load:
    """Return the result in wrk's output; raise MissingError where it has none."""
    for line in output.splitlines():
        if line.startswith("result "):
            return Load(**json.loads(line.removeprefix("result ")))
    raise MissingError(f"wrk gave no result: {last_line(output)}")


def check() -> None:
    """Raise MissingError unless wrk is installed."""
    if shutil.which("wrk") is None:
        raise MissingError("wrk is not installed: apt-get install wrk")


def load(url: str, bodies: Path, clients: int, seconds: int, script: Path) -> Load:
    """Load `url` with the lines of `bodies` for `seconds`. script: the file of `SCRIPT`."""
    command = ["wrk", "-t1", f"-c{clients}", f"-d{seconds}s", "--timeout", "10s", "-s", script, url, "--", bodies]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60, check=False)
        return parse(done.stdout + done.stderr)
    except subprocess.TimeoutExpired:
        raise MissingError("wrk did not end") from None
