"""One node for the tests of a module, and what it said during a failed one."""

from collections.abc import AsyncIterator, Generator

import pytest
import pytest_asyncio

from tests.peers.node import MeetingHandle, Node

MOST_LINES = 150


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def node(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Node]:
    """A running node with one media worker; ended by SIGTERM after the module."""
    async with Node(tmp_path_factory.mktemp("node")) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def meeting(node: Node) -> AsyncIterator[MeetingHandle]:
    """An open meeting, ended after the test."""
    opened = await node.meeting()
    yield opened
    if (await opened.api.get(opened.path))["state"] == "running":
        await opened.command("end")


def _node(item: pytest.Item) -> Node | None:
    """The node of a test, be it a fixture or part of one."""
    fixtures = getattr(item, "funcargs", {}).values()
    found = (one if isinstance(one, Node) else getattr(one, "node", None) for one in fixtures)
    return next((one for one in found if isinstance(one, Node)), None)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None]:
    """Remember how much the node had said before the test."""
    node = _node(item)
    item.stash[_SAID] = node.log.stat().st_size if node is not None and node.log.exists() else 0
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add what the node said since to the report of a failure."""
    report = yield
    node = _node(item)
    if report.failed and node is not None and node.log.exists():
        said = node.log.read_bytes()[item.stash.get(_SAID, 0) :].decode(errors="replace")
        report.sections.append(("the node meanwhile", "\n".join(said.splitlines()[-MOST_LINES:])))
    return report


_SAID = pytest.StashKey[int]()
