"""Two units and the state folder: the third vote, so that the loss of any one of them stops nothing."""
import json
import shutil

import pytest

from platform_under_test import message, ok

ADDRESS = "user@example.org"


def two_units(platform):
    text = platform.config.read_text().replace("units = a b c\n", "units = a b\n")
    begin = text.index("# A spare takes the place")
    platform.config.write_text(text[:begin] + text[text.index("[volume main]"):])
    shutil.rmtree(platform.folder / "c")


def units(platform):
    return {unit["name"]: unit for unit in json.loads(platform.command("unit", "list", "--json").stdout)}


def fill(platform, count):
    imap = platform.imap(ADDRESS)
    for n in range(count):
        ok(imap.append("INBOX", None, None, message(f"number {n}")))
    imap.logout()


def count(platform):
    imap = platform.imap(ADDRESS, select="INBOX")
    found = len(ok(imap.search(None, "ALL"))[0].split())
    imap.logout()
    return found


@pytest.fixture
def two(new_platform):
    platform = new_platform(accounts=(), start=False)
    two_units(platform)
    platform.add_account(ADDRESS)
    platform.start()
    fill(platform, 3)
    return platform


def fails_to_start(platform, said):
    with pytest.raises(AssertionError, match=said):
        platform.start()
    platform.process = None


def test_seen(two):
    seen = units(two)
    assert seen["state"]["state"] == "witness" and seen["state"]["path"] == str(two.folder / "state" / "witness")
    assert two.stop() == 0
    assert units(two)["state"]["state"] == "present"


def test_unit_lost(two):
    """One unit gone: what is there can be read, and is the newest: the state folder says so."""
    two.kill()
    (two.folder / "b").rename(two.folder / "gone")
    two.start()
    assert count(two) == 3
    assert two.stop() == 0
    (two.folder / "gone").rename(two.folder / "b")
    two.start()
    fill(two, 1)
    # A unit alone proves nothing.
    two.kill()
    (two.folder / "b").rename(two.folder / "gone")
    (two.folder / "state" / "witness" / "vote").unlink()
    shutil.rmtree(two.folder / "state" / "witness")
    fails_to_start(two, "only 1 of the 3 units")


def test_state_lost(two):
    """The state folder gone: it is made anew, as another voter in place of the lost one, again and again."""
    seen = set()
    for n in range(3):
        seen.add(units(two)["state"]["id"])
        two.kill()
        shutil.rmtree(two.folder / "state")
        two.start()
        fill(two, 1)
        assert count(two) == 4 + n
    assert len(seen) == 3
    # Three voters still: with one of them gone, the others are enough.
    two.kill()
    (two.folder / "a").rename(two.folder / "gone")
    two.start()
    assert count(two) == 6


def test_third_unit_comes(two):
    """With a third unit the state folder goes on voting: a voter that is missing would be worse."""
    assert two.stop() == 0
    text = two.config.read_text().replace("units = a b\n", "units = a b c\n")
    two.config.write_text(text.replace("[volume main]", "[unit c]\nkind = dir\npath = c\nrole = spare\n\n[volume main]"))
    two.command("unit", "init", "c")
    two.start()
    assert {unit["state"] for unit in units(two).values()} == {"replica", "spare", "witness"}
    two.kill()
    shutil.rmtree(two.folder / "a")
    two.start()
    fill(two, 1)
    assert count(two) == 4


def test_needs_a_domain_of_its_own(new_platform):
    platform = new_platform(accounts=(), start=False)
    two_units(platform)
    platform.configure(allow_shared_domain="no")
    fails_to_start(platform, "in one failure domain")
