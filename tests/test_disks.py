"""Real file systems under the units that go wrong while mail comes in. As root."""
import json
import os
import shutil
import smtplib
import subprocess
import time

import pytest

from disks import make_disks, move_units
from load import Load, check, delivered
from mailbox_state import bodies
from platform_under_test import message, ok

ADDRESS = "user@example.org"
DISK_MB = 320


@pytest.fixture
def on_disks(tmp_path, new_platform):
    """A platform with each unit on a disk of its own, stopped."""
    disks = make_disks(tmp_path, "abc", DISK_MB)
    try:
        platform = new_platform(start=False)
        move_units(platform, disks)
        platform.configure(segment_size="8M")
        yield platform, disks
        platform.stop()
    finally:
        for disk in disks:
            disk.let_go()


def unit_states(platform):
    return {unit["name"]: unit["state"] for unit in json.loads(platform.command("unit", "list", "--json").stdout)}


def abort(disk):
    """What ext4 does when it finds the disk failing: it is read-only from here on."""
    subprocess.run(["mount", "-o", "remount,abort", str(disk.mount)], check=True)


def unmount_lazily(disk):
    subprocess.run(["umount", "-l", str(disk.mount)], check=True)


@pytest.mark.parametrize("harm", [abort, unmount_lazily])
def test_disk_lost_under_load(on_disks, harm):
    """Read-only, or not mounted at all any more: no delivery fails, and the spare takes its place."""
    platform, disks = on_disks
    platform.start()
    load = Load(platform, [ADDRESS])
    time.sleep(1)
    harm(disks[1])
    time.sleep(3)
    load.stop()
    assert not load.refused
    assert unit_states(platform) == {"a": "replica", "b": "ejected", "c": "replica"}
    check(delivered(platform, ADDRESS), load.acknowledged)
    print(f"longest pause: {load.slowest:.3f} s")
    assert platform.stop() == 0
    platform.start()
    check(delivered(platform, ADDRESS), load.acknowledged)


def test_full_disks(on_disks):
    """Every disk full: mail waits at its sender, nothing is ejected, nothing is lost; with room again it flows."""
    platform, disks = on_disks
    platform.start()
    load = Load(platform, [ADDRESS])
    time.sleep(1)
    for disk in disks:
        with open(disk.mount / "filler", "wb") as filler:
            try:
                while True:
                    filler.write(bytes(1 << 20))
            except OSError:
                pass
    deadline = time.monotonic() + 60
    while not load.refused and time.monotonic() < deadline:
        time.sleep(0.2)
    time.sleep(1)
    load.stop()
    assert load.refused and all(code in (451, 452) for code, _ in load.refused), load.refused[:3]
    assert "ejected" not in unit_states(platform).values()
    check(delivered(platform, ADDRESS), load.acknowledged)
    for disk in disks:
        os.unlink(disk.mount / "filler")
    deadline = time.monotonic() + 20
    while True:
        try:
            with platform.smtp() as client:
                client.sendmail("s@example.net", [ADDRESS], message("room again"))
            break
        except smtplib.SMTPException:
            assert time.monotonic() < deadline, "it does not go on although there is room"
            time.sleep(0.5)
    assert platform.stop() == 0
    platform.start()
    found = delivered(platform, ADDRESS)
    check(found, load.acknowledged)
    assert any(mark == "room again" for mark, _ in found.values())


def last_segment(unit):
    return max((unit / "segments").glob("*.seg"))


def fill(platform, count):
    imap = platform.imap(ADDRESS)
    for n in range(count):
        ok(imap.append("INBOX", None, None, message(f"number {n}", os.urandom(3000).hex() + "\n")))
    imap.logout()


def contents(platform):
    imap = platform.imap(ADDRESS)
    found = [data for _, data in bodies(imap)]
    imap.logout()
    return found


def written_bytes(path):
    """How much of a segment file was written: the rest is zeros."""
    data = path.read_bytes()
    at = len(data)
    while at and not any(data[at - 4096:at]):
        at -= 4096
    return at


def test_truncated_segment(new_platform):
    """The last segment of one unit cut short, while it was stopped: mended from the other."""
    platform = new_platform()
    fill(platform, 40)
    before = contents(platform)
    platform.kill()
    path = last_segment(platform.folder / "b")
    os.truncate(path, written_bytes(path) // 3)
    platform.start()
    assert "event=unit.mend" in platform.log_text()
    assert contents(platform) == before


def test_truncated_on_both(new_platform):
    """Cut on both: what was acknowledged is lacking, and that is said, not passed over."""
    platform = new_platform()
    fill(platform, 40)
    platform.kill()
    for unit in ("a", "b"):
        path = last_segment(platform.folder / unit)
        os.truncate(path, written_bytes(path) // 8192 * 4096)
    with pytest.raises(AssertionError, match="no unit that is here"):
        platform.start()
    platform.command("index", "rebuild")  # the operator says that it is to go on
    platform.process = None
    platform.start()
    assert 0 < len(contents(platform)) < 40


def test_blocks_overwritten_while_serving(new_platform):
    """Blocks of one unit turn to garbage while mail is read: every answer is right, from the other unit."""
    platform = new_platform(start=False)
    platform.configure(segment_size="1M", scrub_rate="0")
    platform.start()
    fill(platform, 400)
    before = contents(platform)
    segments = sorted((platform.folder / "a" / "segments").glob("*.seg"))
    assert len(segments) > 3
    for path in segments[:-2]:
        with open(path, "r+b") as file:
            for block in range(1, os.path.getsize(path) // 4096, 3):
                file.seek(block * 4096 + 100)
                file.write(os.urandom(64))
    assert contents(platform) == before
    [volume] = json.loads(platform.command("volume", "list", "--json").stdout)
    assert volume["blocks_bad"] > 0
    # A scrub mends all of it: that unit alone is enough then.
    scrub = json.loads(platform.command("scrub", "--now", "--json").stdout)
    assert scrub["mended"] > 100 and scrub["unmendable"] == 0 and not scrub["running"]
    assert json.loads(platform.command("scrub", "--now", "--json").stdout)["mended"] == 0
    assert "running     no" in platform.command("scrub").stdout
    for unit in ("b", "c"):
        while (platform.folder / unit).exists():
            shutil.rmtree(platform.folder / unit, ignore_errors=True)
    time.sleep(1)
    assert contents(platform) == before
