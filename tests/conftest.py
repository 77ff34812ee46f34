import pytest

from platform_under_test import Platform


def pytest_addoption(parser):
    parser.addoption("--kills", type=int, default=5, help="how often test_durability kills the server (5)")


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


@pytest.fixture(scope="module")
def shared_platform(tmp_path_factory):
    """One running platform for all tests of a file that do no harm to each other. Accounts: user@, other@, third@."""
    platform = Platform(tmp_path_factory.mktemp("shared") / "platform").init()
    for name in ("user", "other", "third"):
        platform.add_account(f"{name}@example.org")
    platform.start()
    yield platform
    assert platform.stop() == 0
