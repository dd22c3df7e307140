"""The stack of the client suite, started once; the check of the books after every test; and the results."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# No client of this suite talks to anybody but the gateway.
os.environ.update(
    LITELLM_LOCAL_MODEL_COST_MAP="True",
    LITELLM_MODE="PRODUCTION",
    LITELLM_TELEMETRY="False",
    LANGSMITH_TRACING="false",
    LANGCHAIN_TRACING_V2="false",
    DO_NOT_TRACK="1",
)

import msgspec
import pytest

from tests.clients.rows import FOLDER, RESULTS, Result, said
from tests.clients.tape import CONFIG, Gateway, Tape
from tests.support.stack import Stack, stack_folder

RESULT = pytest.StashKey[Result]()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "row(surface, client=…, mode=…): the test's row in docs/compatibility.md")
    config.addinivalue_line("markers", "estimated(why): Foundry reports no usage here, so that the call is marked")


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """The whole product with a deployment of every kind."""
    with stack_folder() as folder:
        config = folder / "models.yaml"
        shutil.copy(CONFIG, config)
        stack = Stack(folder / "home", config=config).start()
        running = Gateway(stack)
        try:
            yield running
            # Nothing was booked after its test was over, or to nobody.
            assert running.nusd in (None, running.spent())
        finally:
            running.close()
            assert stack.stop() == 0


@pytest.fixture
def tape(request: pytest.FixtureRequest, gateway: Gateway) -> Iterator[Tape]:
    """The test's own key and record; afterwards the books must say what Foundry served, to the nano-dollar."""
    mark = request.node.get_closest_marker("estimated")
    made = Tape(gateway, str(mark.args[0]) if mark else None)
    yield made
    try:
        made.settle()
    except BaseException:
        gateway.nusd = None
        gateway.seen = max([gateway.seen, *(call["seq"] for call in gateway.served())])
        raise
    words = said(request.node)
    assert words is not None, "a test of this suite needs the mark `row`"
    surface, client, mode, test = words
    request.node.stash[RESULT] = Result(
        surface=surface,
        client=client,
        mode=mode,
        test=test,
        case=request.node.name,
        passed=True,
        events=made.events,
        calls=made.calls,
        booked_nusd=made.nusd,
        equal=True,
        marked=tuple(made.marked),
    )


@pytest.fixture(autouse=True)
def _books(request: pytest.FixtureRequest) -> None:
    """Every test that is a row of the page is checked, whether it asks for its tape or not."""
    if said(request.node) is not None:
        request.getfixturevalue("tape")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    report = yield
    if report.failed and item.path.is_relative_to(FOLDER):
        words = said(item)
        if words is not None:
            surface, client, mode, test = words
            item.stash[RESULT] = Result(
                surface=surface, client=client, mode=mode, test=test, case=item.name, passed=False
            )
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Leave the results where `python -m tests.clients.table` finds them; those of a part of the suite only where
    TUNDISH_COMPAT_OUT says."""
    items = [item for item in session.items if said(item) is not None]
    found = [item.stash[RESULT] for item in items if RESULT in item.stash]
    asked = os.environ.get("TUNDISH_COMPAT_OUT")
    ran = {item.path.name for item in items} | {"test_page.py"}
    whole = len(found) == len(items) and ran >= {path.name for path in FOLDER.glob("test_*.py")}
    partly = session.config.getoption("keyword") or any("::" in word for word in session.config.args)
    if not found or not (asked or (whole and not partly)):
        return
    out = Path(asked or RESULTS)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(msgspec.json.Encoder().encode_lines(found))
