import imaplib
import uuid

import pytest

from platform_under_test import Platform, ok


def pytest_addoption(parser):
    parser.addoption("--kills", type=int, default=5, help="how often test_durability kills the server (5)")
    parser.addoption("--all-disks", action="store_true", help="test_disks: each fault on each file system")
    parser.addoption("--thunderbird", action="store_true", help="test_copies: with Thunderbird, which is large, as well")


def pytest_terminal_summary(terminalreporter):
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.stats.get(kind, ())]
    rows = [row for report in reports if report.when == "call" for name, row in report.user_properties if name == "figures"]
    if rows:
        terminalreporter.section("figures")
        width = max(len(what) for what, _ in rows)
        for what, values in sorted(rows, key=lambda row: row[0]):
            terminalreporter.write_line(f"{what:{width}}  " + "  ".join(f"{name} {value}" for name, value in values.items()))


@pytest.fixture
def figures(request):
    """figures(what, name=value...): a line of the table at the end of the run; with -s at once, too."""
    def add(what, **values):
        request.node.user_properties.append(("figures", (what, values)))
        print(f"\n{what}: " + ", ".join(f"{name} {value}" for name, value in values.items()))
    return add


@pytest.fixture
def new_platform(tmp_path):
    """Makes platforms that are stopped when the test ends."""
    made = []

    def make(name="platform", accounts=("user@example.org",), start=True):
        platform = Platform(tmp_path / name).init()
        made.append(platform)
        for address in accounts:
            platform.add_account(address)
        return platform.start() if start else platform

    yield make
    for platform in made:
        platform.stop()


@pytest.fixture
def platform(new_platform):
    """A running platform with the account user@example.org."""
    return new_platform()


@pytest.fixture
def imap(shared_platform):
    """A connection of user@example.org to the shared platform."""
    connection = shared_platform.imap("user@example.org")
    yield connection
    try:
        connection.logout()
    except (imaplib.IMAP4.error, OSError):
        pass


@pytest.fixture
def box(imap):
    """A mailbox of its own, selected; its name."""
    name = "box-" + uuid.uuid4().hex[:8]
    ok(imap.create(name))
    ok(imap.select(name))
    return name


@pytest.fixture(scope="module")
def shared_platform(tmp_path_factory):
    """One running platform for all tests of a file that do no harm to each other. Accounts: user@, other@, third@."""
    platform = Platform(tmp_path_factory.mktemp("shared") / "platform").init()
    for name in ("user", "other", "third"):
        platform.add_account(f"{name}@example.org")
    platform.start()
    yield platform
    assert platform.stop() == 0
