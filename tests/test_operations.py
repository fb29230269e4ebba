"""What docs/operations.md and deploy/anshi.service tell whoever installs a node is so."""

import re
import shlex
from pathlib import Path

from orchestrator.cli import parser

PROJECT = Path(__file__).parents[1]
GUIDE = (PROJECT / "docs/operations.md").read_text(encoding="utf-8")
UNIT = (PROJECT / "deploy/anshi.service").read_text(encoding="utf-8")


def test_the_unit_starts_what_the_guide_installs() -> None:
    (started,) = re.findall(r"^ExecStart=(.*)$", UNIT, re.MULTILINE)
    program, *arguments = shlex.split(started)
    assert program == "/opt/anshi/.venv/bin/anshi"
    options = parser().parse_args(arguments)
    assert (options.config, options.data) == (Path("/etc/anshi/anshi.yaml"), Path("/var/lib/anshi"))
    for told in (
        str(options.config),
        f"--data {options.data}",
        "deploy/anshi.service",
        "config/province.yaml",
    ):
        assert told in GUIDE


def test_the_guide_s_commands_are_commands() -> None:
    commands = re.findall(
        r"^.*?\banshi ((?:doctor|user|migrate|secrets)\b.*--config .*)$", GUIDE, re.MULTILINE
    )
    assert len(commands) == 2
    for command in commands:
        parser().parse_args(shlex.split(command))


def test_the_figures_to_watch_are_there() -> None:
    named = set(re.findall(r"\banshi_[a-z_]+", GUIDE))
    packages = ("orchestrator", "foundation", "signaling", "recordings", "stream_relay", "analytics")
    sources = "".join(
        source.read_text(encoding="utf-8")
        for package in packages
        for source in (PROJECT / package).rglob("*.py")
    )
    assert len(named) > 5
    assert not [name for name in named if f'"{name}"' not in sources]


def test_every_file_the_guide_names_is_there() -> None:
    for path in re.findall(r"`?((?:config|deploy|docs)/[\w.-]+\.\w+)`?", GUIDE):
        assert (PROJECT / path).is_file(), path
