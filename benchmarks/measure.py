"""What the measurements of this folder share: environments, sides that take turns, memory, tables, JSON.

A side is a process of its own, so that its peak memory is its own and nothing is warm from another one. What disturbs
a machine lasts longer than a turn, so the sides take turns and are compared by ratios.

The standard library alone: workers in environments without this project import it too.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any


CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "trl_kochat" / "benchmarks"
# Every side runs on the same torch; set the variable where another build is wanted.
TORCH = os.environ.get("TRL_KOCHAT_BENCH_TORCH", "torch==2.13.0")
QUIET = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
    "PYTHONWARNINGS": "ignore",
    "OMP_WAIT_POLICY": "PASSIVE",  # threads of a side that waits for its turn must not spin
}
PACKAGES = ("trl_kochat", "trl", "transformers", "peft", "bitsandbytes", "datasets", "accelerate", "torch")
TURN = "MEASURE_TURN_FDS"


def environment(name: str, packages: Sequence[Sequence[str]], cache: Path = CACHE) -> str:
    """The interpreter of an environment with `packages`, made on first use; each group is one pip call."""
    folder = cache / name
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        print(f"making the environment {folder}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        for group in packages:
            subprocess.run([str(python), "-m", "pip", "install", "-q", *group], check=True)
        (folder / "ready").touch()
    return str(python)


def peak_bytes() -> int:
    """Most memory that this process has held, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def run_worker(command: Sequence[str], env: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The JSON that `command --out FILE` writes; the worker's own output is shown only if it fails."""
    return _finish(*_start(command, env or {}))


def run_command(command: Sequence[Any], env: Mapping[str, str] | None = None) -> dict[str, float]:
    """Wall-clock and processor seconds of a command with all that it starts, and its peak memory in bytes."""
    start = time.perf_counter()
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            [str(part) for part in command],
            env={**os.environ, **QUIET, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            log.seek(0)
            sys.exit(f"{command} failed with status {process.returncode}:\n{log.read()[-6000:]}")
    return {
        "seconds": time.perf_counter() - start,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "peak_bytes": usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
    }


def take_turns(commands: Mapping[str, Sequence[str]], env: Mapping[str, str] | None = None) -> dict[str, dict]:
    """Run workers that call [`Turn`] side by side, one at a time in turn, until all are done; what each wrote."""
    running, results = {}, {}
    for side, command in commands.items():
        to_worker, from_worker = os.pipe(), os.pipe()
        fds = (to_worker[0], from_worker[1])
        # Not started before the one before waits: building a trainer takes memory and time as well.
        process, out, log = _start(command, {**(env or {}), TURN: f"{fds[0]},{fds[1]}"}, fds)
        for fd in fds:
            os.close(fd)
        running[side] = (process, out, log, to_worker[1], from_worker[0])
        os.read(from_worker[0], 1)
    waiting = list(running)
    while waiting:
        for side in list(waiting):
            _, _, _, go, done = running[side]
            try:
                os.write(go, b"g")
            except BrokenPipeError:
                pass
            if not os.read(done, 1):  # the worker has ended
                waiting.remove(side)
                process, out, log, *_ = running[side]
                results[side] = _finish(process, out, log)
    return {side: results[side] for side in commands}


class Turn:
    """A worker's end of [`take_turns`]: the clock runs only while it is this worker's turn."""

    def __init__(self) -> None:
        fds = os.environ.get(TURN)
        self._fds = tuple(map(int, fds.split(","))) if fds else None
        self.seconds: list[float] = []
        self.cpu_seconds: list[float] = []  # of all threads: less moved by what else the machine does
        self._start = self._cpu_start = 0.0

    def begin(self) -> None:
        """Wait for the first turn."""
        self._pass()
        self._start, self._cpu_start = time.perf_counter(), time.process_time()

    def end(self) -> None:
        """Note how long the turn took, and wait for the next one."""
        self.seconds.append(time.perf_counter() - self._start)
        self.cpu_seconds.append(time.process_time() - self._cpu_start)
        self.begin()

    def _pass(self) -> None:
        if self._fds:
            os.write(self._fds[1], b"d")
            if not os.read(self._fds[0], 1):
                os._exit(1)  # nobody waits for the result any more


def _start(command: Sequence[str], env: Mapping[str, str], fds: Sequence[int] = ()) -> tuple[Any, Path, Any]:
    folder = Path(tempfile.mkdtemp())
    log = (folder / "log").open("w+")
    process = subprocess.Popen(
        [*map(str, command), "--out", str(folder / "out.json")],
        env={**os.environ, **QUIET, **env},
        stdout=log,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        pass_fds=fds,
    )
    return process, folder / "out.json", log


def _finish(process: Any, out: Path, log: Any) -> dict[str, Any]:
    status = process.wait()
    log.seek(0)
    text = log.read()
    log.close()
    if status or not out.exists():
        sys.exit(f"{' '.join(process.args)} failed with status {status}:\n{text[-6000:]}")
    return json.loads(out.read_text())


def cuda_name() -> str | None:
    """The name of the GPU, asked of the driver so that this process does not take hold of it."""
    try:
        done = subprocess.run(
            ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"], capture_output=True, text=True, timeout=60
        )
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip().splitlines()[0] if done.returncode == 0 and done.stdout.strip() else None


def machine() -> dict[str, Any]:
    """What the figures hold for: processor, cores, load before the start, versions."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "gpu": cuda_name(),
        "load_before": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "versions": versions,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def median_ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Median over the rounds of ours to theirs, round by round."""
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def print_table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Columns as wide as they need to be; numbers to three significant digits; `None` is an empty cell."""
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max(len(row[i]) for row in [list(header), *cells]) for i in range(len(header))]
    for row in [list(header), *cells]:
        print(
            "  ".join(
                text.ljust(w) if i == 0 else text.rjust(w) for i, (text, w) in enumerate(zip(row, widths, strict=True))
            )
        )


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def check(name: str, value: float, sign: str, bound: float) -> dict[str, Any]:
    """A goal and whether it is met; printed as one line."""
    met = value >= bound if sign == ">=" else value <= bound
    print(f"  {name}: {value:.3g}, goal {sign} {bound:g}: {'met' if met else 'NOT MET'}")
    return {"name": name, "value": value, "goal": f"{sign} {bound:g}", "met": met}


class Report:
    """Results, with the machine they were taken on and how long it took; made before anything is measured."""

    def __init__(self) -> None:
        self._machine = machine()
        self._start = time.perf_counter()

    def write(self, path: Path, **results: Any) -> None:
        seconds = time.perf_counter() - self._start
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            json.dumps({"machine": self._machine, "seconds": round(seconds, 1), **results}, indent=2) + "\n"
        )
        print(f"{path} ({seconds:.0f} s)")


def arguments(doc: str | None, out: str) -> argparse.ArgumentParser:
    """A parser with what every script takes: where the JSON goes, and the worker's own switches."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(out), help="JSON file to write")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    return parser


def seconds_of(function: Callable[[], Any]) -> tuple[float, Any]:
    """How long a call took, and what it returned."""
    start = time.perf_counter()
    out = function()
    return time.perf_counter() - start, out
