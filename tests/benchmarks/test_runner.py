"""The runner of benchmarks: what it finds, writes and answers."""

import json
import textwrap
from pathlib import Path

import pytest

from benchmarks.__main__ import Broken, discover, main, measure, run_all
from benchmarks.result import Result

GOOD = """
from benchmarks.result import Result

def run():
    return [
        Result.against("mosaic", 1.1, "CPU-s/s", peer="ffmpeg", peer_value=1.0, at_most=1.15),
        Result.bounded("tick p99", 21.5, "ms", at_most=25),
    ]
"""
SLOW = """
from benchmarks.result import Result

def run():
    return [Result.against("fan-out", 0.9, "us", peer="sendto", peer_value=1.0, at_most=0.6)]
"""
BROKEN = """
def run():
    raise RuntimeError("no input was generated")
"""
HALF = """
import os
from benchmarks.result import Result

def run():
    yield Result.bounded("first", 1, "ms", at_most=2)
    os._exit(7)
"""
STUCK = """
import time
from benchmarks.result import Result

def run():
    yield Result.bounded("first", 1, "ms", at_most=2)
    time.sleep(600)
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package of five benchmarks and a module that is none."""
    folder = tmp_path / "planted_benchmarks"
    folder.mkdir()
    sources = {
        "__init__": "",
        "good": GOOD,
        "slow": SLOW,
        "broken": BROKEN,
        "half": HALF,
        "stuck": STUCK,
        "helper": "def walk(): ...",
    }
    for name, source in sources.items():
        (folder / f"{name}.py").write_text(textwrap.dedent(source))
    monkeypatch.syspath_prepend(tmp_path)
    assert discover(folder) == ["broken", "good", "half", "slow", "stuck"]
    return folder.name


def test_targets_held_exit_0_and_the_file_has_every_field(
    package: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "build" / "bench.json"
    assert run_all(package, ["good"], out) == 0
    mosaic, tick = json.loads(out.read_text())
    assert mosaic == {
        "name": "mosaic",
        "value": 1.1,
        "unit": "CPU-s/s",
        "peer": "ffmpeg",
        "peer_value": 1.0,
        "ratio": 1.1,
        "target": 1.15,
        "ok": True,
    }
    assert (tick["ratio"], tick["peer"], tick["ok"]) == (None, None, True)
    assert "tick p99" in capsys.readouterr().out


def test_a_missed_target_and_a_broken_benchmark_exit_1_and_hide_nothing(
    package: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "bench.json"
    assert run_all(package, ["broken", "slow", "good"], out) == 1
    assert [found["ok"] for found in json.loads(out.read_text())] == [False, True, True]
    errors = capsys.readouterr().err
    assert "broken broke: RuntimeError: no input was generated" in errors
    assert "missed: fan-out" in errors
    assert run_all(package, ["slow"], out) == 1
    assert run_all(package, ["broken"], out) == 1


def test_rows_are_there_although_the_benchmark_died_after_them(
    package: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "bench.json"
    assert run_all(package, ["half"], out) == 1
    assert [found["name"] for found in json.loads(out.read_text())] == ["first"]
    said = capsys.readouterr()
    assert "first" in said.out
    assert "half broke: its process ended with exit code 7" in said.err


def test_one_that_stands_still_is_ended_and_keeps_its_rows(package: str) -> None:
    rows = measure(f"{package}.stuck", limit=20.0)
    assert next(rows).name == "first"
    rows.close()
    late = measure(f"{package}.stuck", limit=0.0)
    with pytest.raises(Broken, match="took longer than 0 s"):
        next(late)


def test_an_unknown_name_exits_2_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fanuot"]) == 2
    assert "no benchmark fanuot" in capsys.readouterr().err


def test_a_peer_that_measured_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="no measurement"):
        Result.against("x", 1, "s", peer="ffmpeg", peer_value=0, at_most=1)
