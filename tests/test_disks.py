"""Real file systems under the units that go wrong while mail comes in and is read. As root.

Each fault is tried on one of the file systems in turn; with --all-disks on every one."""
import filecmp
import json
import os
import re
import shutil
import subprocess
import time

import pytest

from disks import make_disks, move_units, needs_device_mapper, run
from mailbox_state import bodies
from mixed_load import MixedLoad
from platform_under_test import message, ok

ADDRESS = "user@example.org"
OLD = "old@example.org"  # whose mail is there before
DISK_MB = 320  # the least that xfs can be made on is 300
SEGMENT_BYTES = 4 << 20
OLD_MESSAGES, OLD_BYTES = 30, 600_000
FILE_SYSTEMS = ("ext4", "xfs")


# ---- What goes wrong, and how it is made good ----

class Abort:
    """What the kernel does when it finds a disk failing: the file system takes no more writes."""

    def do(self, disk):
        if disk.kind == "ext4":
            run("mount", "-o", "remount,abort", disk.mount_point)
        else:
            run("xfs_io", "-x", "-c", "shutdown", disk.mount_point)

    def undo(self, disk):
        # The server holds the old one until it is told to take the unit back.
        disk.let_go()
        disk.mount()


class UmountLazily:
    def do(self, disk):
        disk.umount_lazily()

    def undo(self, disk):
        disk.mount()


class DeviceEnds:
    """A device that answers with errors from some place on. Its data are lost, and it is replaced."""
    replaced = True

    def do(self, disk):
        os.truncate(disk.path, 1 << 20)
        run("losetup", "--set-capacity", disk.device)

    def undo(self, disk):
        disk.let_go()
        os.truncate(disk.path, DISK_MB << 20)
        disk.mkfs()
        disk.mount()


class DeviceErrors:
    """A device that answers with errors only, until it is plugged in again."""
    mapped = True

    def do(self, disk):
        disk.fail()

    def undo(self, disk):
        disk.let_go()
        disk.mount()


def pytest_generate_tests(metafunc):
    """Faults and file systems by turns, or each with each."""
    if "kind" not in metafunc.fixturenames:
        return
    faults = [Abort, UmountLazily, DeviceEnds, DeviceErrors] if "fault" in metafunc.fixturenames else [None]
    every = metafunc.config.getoption("--all-disks")
    pairs = [(fault, kind) for n, fault in enumerate(faults) for k, kind in enumerate(FILE_SYSTEMS)
             if every or k == (n + len(metafunc.function.__name__)) % 2]
    if "fault" in metafunc.fixturenames:
        metafunc.parametrize("fault,kind", pairs, ids=[f"{fault.__name__}-{kind}" for fault, kind in pairs])
    else:
        metafunc.parametrize("kind", [kind for _, kind in pairs])


@pytest.fixture
def on_disks(tmp_path, new_platform, kind):
    """A platform with each unit on a disk of its own, running, with some segments of mail."""
    disks = make_disks(tmp_path, "abc", DISK_MB, kind)
    try:
        platform = new_platform(start=False, accounts=(ADDRESS, OLD))
        move_units(platform, disks)
        platform.configure(segment_size=SEGMENT_BYTES)
        platform.start()
        fill(platform, OLD_MESSAGES, OLD, OLD_BYTES)
        yield platform, disks
        platform.stop()
    finally:
        for disk in disks:
            disk.let_go()


@pytest.fixture
def new_load():
    """Load that ends with the test."""
    made = []

    def make(platform, address):
        made.append(MixedLoad(platform, address))
        return made[-1]

    yield make
    for load in made:
        load.stopping.set()


def units(platform):
    return {unit["name"]: unit for unit in json.loads(platform.command("unit", "list", "--json").stdout)}


def unit_states(platform):
    return {name: unit["state"] for name, unit in units(platform).items()}


def wait_until(what, condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.05)


def resilvered(platform, name):
    unit = units(platform)[name]
    return unit["state"] == "replica" and not unit.get("lacks_segments")


def used_bytes(disk):
    return sum(path.stat().st_size for path in (disk.mount_point / "unit" / "segments").iterdir())


def pauses(load):
    return {f"{what}_pause": f"{seconds:.2f} s" for what, seconds in load.slowest.items()}


def stands_alone(platform, disks, index, load, old):
    """All other units are taken away: what is left answers all, and is byte for byte what the others have."""
    others = [disk for n, disk in enumerate(disks) if n != index and disk.is_mounted()]
    for disk in others:
        disk.umount_lazily()
    wait_until("the others are seen to be gone", lambda: sorted(
        state in ("replica", "spare") for state in unit_states(platform).values()) == [False, False, True])
    load.check()
    assert contents(platform, OLD) == old
    assert platform.stop() == 0
    for disk in others:
        disk.mount()
    own = disks[index].mount_point / "unit" / "segments"
    compared = 0
    for disk in others:
        for path in sorted((disk.mount_point / "unit" / "segments").glob("*.seg")):
            if (own / path.name).exists() and is_sealed(path) and is_sealed(own / path.name):
                assert filecmp.cmp(path, own / path.name, shallow=False), f"{path} differs"
                compared += 1
    assert compared > 3


def is_sealed(path):
    """It ends with its trailer."""
    with open(path, "rb") as file:
        file.seek(-4096, os.SEEK_END)
        return file.read(100)[96:] == b"SPFT"


# ---- Tests ----

def test_disk_lost_under_load(on_disks, new_load, fault, kind, figures):
    """No delivery and no command fails while two units are healthy; the spare takes its place, the unit comes back and
    is brought what it missed, and then it is enough alone."""
    if hasattr(fault, "mapped"):
        needs_device_mapper()
    platform, disks = on_disks
    fault, replaced = fault(), hasattr(fault, "replaced")
    if hasattr(fault, "mapped"):
        platform.stop()
        disks[1].map()
        platform.start()
    old = contents(platform, OLD)
    load = new_load(platform, ADDRESS)
    time.sleep(1.5)
    load.fresh()
    before, begin = disks[2].written_bytes(), time.monotonic()
    fault.do(disks[1])
    wait_until("c is a replica", lambda: resilvered(platform, "c"))
    seconds = time.monotonic() - begin
    run("sync", "-f", disks[2].mount_point)
    figures(f"{kind} {type(fault).__name__}: a disk lost", answers=load.answers, **pauses(load),
            resilvered=f"{(disks[2].written_bytes() - before) / 1e6:.0f} MB in {seconds:.1f} s")
    assert unit_states(platform) == {"a": "replica", "b": "ejected", "c": "replica"}
    assert units(platform)["b"]["why"]

    # Back, as a spare; and when the next one is lost it is a replica again.
    fault.undo(disks[1])
    platform.command("unit", "add", "b", *(["--init"] if replaced else []))
    assert unit_states(platform) == {"a": "replica", "b": "spare", "c": "replica"}
    load.fresh()
    held = used_bytes(disks[1])
    before, begin = disks[1].written_bytes(), time.monotonic()
    disks[2].umount_lazily()
    wait_until("b is a replica", lambda: resilvered(platform, "b"))
    seconds = time.monotonic() - begin
    load.stop()
    run("sync", "-f", disks[1].mount_point)
    written, has = disks[1].written_bytes() - before, used_bytes(disks[1])
    figures(f"{kind} {type(fault).__name__}: brought back", answers=load.answers, **pauses(load),
            held=f"{held / 1e6:.0f} MB", has=f"{has / 1e6:.0f} MB", written=f"{written / 1e6:.0f} MB in {seconds:.1f} s")
    assert not load.refused, load.refused[:3]
    assert not load.broken
    if not replaced:  # what it had is not written again: two segments may be begun, and filled with zeros first
        assert held > OLD_MESSAGES * OLD_BYTES * 3 // 4 and written < 2 * (has - held) + 6 * SEGMENT_BYTES
    stands_alone(platform, disks, 1, load, old)


def test_one_disk_full(on_disks, new_load, kind, figures):
    """Lack of space ejects nobody: mail waits at its sender, and flows when there is room."""
    platform, disks = on_disks
    full_and_free(platform, disks[:1], new_load, figures, f"{kind}: one disk full")


def test_all_disks_full(on_disks, new_load, kind, figures):
    platform, disks = on_disks
    full_and_free(platform, disks, new_load, figures, f"{kind}: all disks full")


def full_and_free(platform, full, new_load, figures, what):
    load = new_load(platform, ADDRESS)
    time.sleep(1)
    fillers = [disk.fill() for disk in full]
    wait_until("mail is refused", lambda: any(kind == "SMTP" for kind, _ in load.refused))
    wait_until("IMAP writes are refused", lambda: any(kind == "IMAP" for kind, _ in load.refused))
    assert "ejected" not in unit_states(platform).values()
    # Reads go on.
    imap = platform.imap(OLD)
    assert len(ok(imap.fetch("1:3", "(BODY.PEEK[])"))) >= 3
    imap.logout()
    for filler in fillers:
        os.unlink(filler)
    begin = time.monotonic()
    taken = len(load.acknowledged)
    wait_until("it goes on although there is room", lambda: len(load.acknowledged) > taken, 20)
    figures(what, goes_on_after=f"{time.monotonic() - begin:.2f} s")
    time.sleep(1)
    load.stop()
    for kind, answer in load.refused:
        assert answer[0] in (451, 452) if kind == "SMTP" else b"UNAVAILABLE" in answer[0], (kind, answer)
    assert "ejected" not in unit_states(platform).values()
    load.check()
    assert platform.stop() == 0
    platform.start()
    load.check()


def test_read_only(on_disks, new_load, kind):
    """`mount -o remount,ro`: of a replica the kernel refuses it, since files are open; a spare of which it is true is
    no spare, and is one again afterwards."""
    platform, disks = on_disks
    load = new_load(platform, ADDRESS)
    time.sleep(0.5)
    with pytest.raises(subprocess.CalledProcessError):
        run("mount", "-o", "remount,ro", disks[1].mount_point)
    run("mount", "-o", "remount,ro", disks[2].mount_point)
    wait_until("a spare that cannot be written is seen", lambda: unit_states(platform)["c"] == "absent", 5)
    assert "read-only" in units(platform)["c"]["why"]
    run("mount", "-o", "remount,rw", disks[2].mount_point)
    wait_until("it is a spare again", lambda: unit_states(platform)["c"] == "spare", 5)
    load.stop()
    assert not load.refused and not load.broken
    load.check()


def blocks_in(path):
    """Where the log's blocks stand in an image: {segment: [offset...]}."""
    found = {}
    with open(path, "rb") as file:
        data = file.read()
    at = data.find(b"SPB1")
    while at >= 0:
        if at % 4096 == 0:
            found.setdefault(int.from_bytes(data[at + 32:at + 40], "little"), []).append(at)
        at = data.find(b"SPB1", at + 1)
    return found


def test_disk_overwritten(on_disks, new_load, kind, figures):
    """A third of the blocks of one disk is overwritten below its file system, under load: every answer is right, a
    scrub mends it, and then that disk is enough alone."""
    platform, disks = on_disks
    old = contents(platform, OLD)
    load = new_load(platform, ADDRESS)
    time.sleep(1)
    run("sync", "-f", disks[0].mount_point)
    found = blocks_in(disks[0].path)
    sealed = sorted(found)[:-2]
    assert len(sealed) > 3
    load.fresh()
    noise, harmed = os.urandom(4096), 0
    with open(disks[0].path, "r+b", buffering=0) as image:
        for segment in sealed:
            for offset in found[segment][1::3]:
                os.pwrite(image.fileno(), noise, offset)
                harmed += 1
    for path in (disks[0].mount_point / "unit" / "segments").glob("*.seg"):
        with open(path, "rb") as file:  # what is read comes from the disk
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    assert contents(platform, OLD) == old
    begin = time.monotonic()
    scrub = json.loads(platform.command("scrub", "--now", "--json").stdout)
    seconds = time.monotonic() - begin
    load.stop()
    assert scrub["mended"] > harmed // 2 and scrub["unmendable"] == 0
    assert not load.refused and not load.broken
    figures(f"{kind}: {harmed} blocks overwritten", answers=load.answers, **pauses(load), mended=scrub["mended"],
            scrubbed=f"{scrub['done_bytes'] / 1e6:.0f} MB in {seconds:.1f} s")
    assert json.loads(platform.command("scrub", "--now", "--json").stdout)["mended"] == 0
    stands_alone(platform, disks, 0, load, old)


# ---- Files that are cut and overwritten; without root ----

def last_segment(unit):
    return max((unit / "segments").glob("*.seg"))


def fill(platform, count, address=ADDRESS, size=3000):
    imap = platform.imap(address)
    for n in range(count):
        ok(imap.append("INBOX", None, None, message(f"number {n}", os.urandom(size).hex() + "\n")))
    imap.logout()


def contents(platform, address=ADDRESS):
    imap = platform.imap(address)
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
    platform.process = None
    # The index is what knows of the loss: it is not thrown away before the operator has accepted that.
    refused = platform.command("index", "rebuild", check=False)
    assert refused.returncode == 1 and "the index has them" in refused.stderr
    platform.arguments = ["--accept-loss", "main"]
    platform.start()
    # Mailboxes may lack messages now: closed, until the operator says that what is left is all there will be.
    with pytest.raises(AssertionError, match="being recovered"):
        contents(platform)
    platform.command("account", "unprotect", "--all", "--confirm", "main")
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
    # What the reader met is mended already; a scrub mends the rest. That unit alone is enough then.
    scrub = json.loads(platform.command("scrub", "--now", "--json").stdout)
    assert scrub["unmendable"] == 0 and not scrub["running"]
    [volume] = json.loads(platform.command("volume", "list", "--json").stdout)
    assert volume["blocks_mended"] > 100 and volume["blocks_mended"] >= scrub["mended"]
    assert json.loads(platform.command("scrub", "--now", "--json").stdout)["mended"] == 0
    assert "running     no" in platform.command("scrub").stdout
    for unit in ("b", "c"):
        while (platform.folder / unit).exists():
            shutil.rmtree(platform.folder / unit, ignore_errors=True)
    time.sleep(1)
    assert contents(platform) == before


def test_images_on_one_disk(on_disks):
    """Three file systems, three loop devices, one disk below them: one failure takes all, and that is seen."""
    platform, _ = on_disks
    platform.stop()
    platform.configure(allow_shared_domain="no")
    with pytest.raises(AssertionError, match="are in one failure domain"):
        platform.start()
    platform.process = None
    platform.configure(allow_shared_domain="yes")
    platform.start()
    domains = {unit["domain"] for unit in json.loads(platform.command("unit", "list", "--json").stdout)}
    assert len(domains) == 1 and "disk:7:" not in domains.pop()
    assert "share a failure domain" in platform.command("unit", "list").stdout
    assert "share a failure domain" in platform.command("volume", "list").stdout
