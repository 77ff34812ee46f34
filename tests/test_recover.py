"""Raw recovery as an operator does it: the disks' file systems are made anew over the units, parts are overwritten, and
`recover scan` and `rebuild` bring the mail back. On loop-mounted ext4 images where the tests run as root, in plain files
otherwise."""
import hashlib
import json
import os
import random
import subprocess

import pytest

from disks import make_disks, move_units
from mailbox_state import account_state
from platform_under_test import PROGRAM, Platform, message, ok
import format_reader

ADDRESSES = ("ada@example.org", "ben@example.org")
FOLDERS = ("INBOX", "Archive/2014", "Müller")
IMAGE_MB = 160
MESSAGES = 2400


@pytest.fixture
def disks(tmp_path):
    made = make_disks(tmp_path, "ab", IMAGE_MB)
    yield made
    for disk in made:
        disk.let_go()


# ---- mail ----

def text(rnd, size):
    """Words that compress, as mail does, between lines that do not, as attachments do."""
    words = ("mail log unit block segment record spare epoch the of and to in is that for it as was with be by on not").split()
    lines, have = [], 0
    while have < size:
        line = " ".join(rnd.choices(words, k=12)) if rnd.random() < 0.7 else rnd.randbytes(36).hex()
        lines.append(line)
        have += len(line) + 2
    return "\n".join(lines) + "\n"


def fill(platform, count):
    """Mail of two accounts in three folders each, by APPEND in batches, with flags, expunges, copies and a rename."""
    rnd = random.Random(2014)
    for address in ADDRESSES:
        imap = platform.imap(address, select=None)
        for folder in FOLDERS[1:]:
            ok(imap.create(f'"{folder.replace("ü", "&APw-")}"'))
        imap.logout()
    per_folder = count // (len(ADDRESSES) * len(FOLDERS))
    for address in ADDRESSES:
        for folder in FOLDERS:
            maildir = platform.folder.parent / f"maildir-{address}-{folder.replace('/', '-')}"
            for sub in ("cur", "new", "tmp"):
                os.makedirs(maildir / sub, exist_ok=True)
            for n in range(per_folder):
                flags = "".join(f for f in "DFRST" if rnd.random() < 0.3)
                body = message(f"{folder} {n}", text(rnd, rnd.choice((400, 2000, 6000, 20000))), to=address)
                (maildir / "cur" / f"{1400000000 + n * 60}.M{n}.host:2,{flags}").write_bytes(body)
            platform.command("import", "maildir", maildir, "--account", address, "--mailbox", folder)
    imap = platform.imap(ADDRESSES[0])
    ok(imap.store("1:9", "+FLAGS", r"(\Deleted $Forwarded)"))
    ok(imap.store("3:4", "-FLAGS", r"(\Deleted)"))
    ok(imap.expunge())
    ok(imap.copy("1:20", "Archive/2014"))
    ok(imap.append("INBOX", None, None, message("long", text(rnd, 2_000_000))))
    ok(imap.rename("Archive/2014", "Archive/2015"))
    imap.logout()


def platform_on(disks, tmp_path, count):
    """A platform whose two replicas are on the disks, filled, and stopped; and what its accounts saw."""
    platform = Platform(tmp_path / "platform").init()
    move_units(platform, disks)
    platform.configure(segment_size="4M")
    for address in ADDRESSES:
        platform.add_account(address)
    platform.start()
    try:
        fill(platform, count)
        state = states(platform)
    finally:
        code = platform.stop()
    assert code == 0
    return platform, state


def sternpost(*words):
    run = subprocess.run([PROGRAM, *map(str, words)], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


def digest(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def recover(tmp_path, sources, *rebuild_options, name="rescue"):
    """Scans and rebuilds; the platform, running, and the account of what is missing."""
    out = tmp_path / name
    before = [digest(source) for source in sources]
    sternpost("recover", "scan", "--out", out, *sources)
    report = json.loads(sternpost("recover", "rebuild", out, "--json", *rebuild_options))
    assert [digest(source) for source in sources] == before, "a source was written"
    assert json.loads((out / "rebuild.json").read_text()) == report
    config = (out / "sternpost.conf").read_text()
    for port in ("2525", "2424", "1143"):
        config = config.replace(f"127.0.0.1:{port}", "127.0.0.1:0")
    (out / "sternpost.conf").write_text(config)
    return Platform(out).start(), report


def states(platform):
    return {address: account_state(platform, address) for address in ADDRESSES}


def with_new_mail(platform, state):
    """The rebuilt platform takes mail, and no UID is given a second time."""
    for address in ADDRESSES:
        imap = platform.imap(address, select=None)
        ok(imap.append("INBOX", None, None, message("after")))
        [answer] = ok(imap.status("INBOX", "(UIDNEXT)"))
        assert int(answer.split()[-1].rstrip(b")")) > 2 ** 20 > max(state[address]["INBOX"][1])
        imap.logout()


def test_new_file_systems_over_both_units(disks, tmp_path):
    """mkfs over both, and a quarter of one is noise: nothing is missing."""
    _, state = platform_on(disks, tmp_path, MESSAGES)
    for disk in disks:
        disk.umount()
        disk.mkfs()
    disks[0].overwrite(IMAGE_MB << 18, IMAGE_MB << 18, 1)
    platform, report = recover(tmp_path, [disk.path for disk in disks])
    try:
        assert report["lost_lsns"] == 0 and not report["broken"] and not report["bodiless"]
        assert report["messages"] >= MESSAGES
        assert states(platform) == state
        with_new_mail(platform, state)
    finally:
        assert platform.stop() == 0


def blocks_of(path):
    """{(segment, index): [(offset, bytes)...]} of an image: every block of the log that stands in it."""
    found = {}
    with open(path, "rb") as file:
        data = file.read()
    at = data.find(b"SPB1")
    while at >= 0:
        if at % 512 == 0 and at + format_reader.BLOCK <= len(data):
            segment, _, index = int.from_bytes(data[at + 32:at + 40], "little"), 0, int.from_bytes(data[at + 44:at + 48], "little")
            found.setdefault((segment, index), []).append((at, data[at:at + format_reader.BLOCK]))
        at = data.find(b"SPB1", at + 1)
    return found


def survivors(before, paths):
    """Of the blocks before, those that still stand somewhere, by an independent look."""
    alive = set()
    for path in paths:
        after = blocks_of(path)
        alive |= {key for key, copies in after.items() if any(c[1] in {b[1] for b in before.get(key, ())} for c in copies)}
    return alive


def expected_alive(units, alive):
    """{(address, uidvalidity, uid)} of messages all of whose bytes and records stand in blocks that survive."""
    bodies, messages = {}, []
    for path in sorted(units.glob("segments/*.seg")):
        lines = list(format_reader.dump(str(path)))
        number = int(path.name.split(".")[0], 16)
        for line in lines:
            if line["kind"] != "record":
                continue
            start = line["block"] * format_reader.PAYLOAD + line["offset"]
            end = start + 64 + line["payload_bytes"]
            whole = all((number, block) in alive for block in range(start // format_reader.PAYLOAD, (end - 1) // format_reader.PAYLOAD + 1))
            if line["type"] in ("body", "body-chunk"):
                bodies[line["lsn"]] = whole
            elif line["type"] == "message":
                messages.append((line, whole))
    return {(m["address"], m["uidvalidity"], m["uid"]) for m, whole in messages if whole and all(bodies[b] for b in m["body_lsns"])}


def named_as_lost(report):
    """What the account names: {(address, path, uid)}"""
    named = {(b["address"], b["path"], b["uid"]) for b in report["bodiless"]}
    for broken in report["broken"]:
        for first, last in broken["missing_uids"]:
            named |= {(broken["address"], broken["path"], uid) for uid in range(first, last + 1)}
    return named


@pytest.mark.parametrize("start_eighth", [1, 4])
def test_the_same_quarter_lost_on_both(disks, tmp_path, start_eighth):
    """Every message that is not in a lost block comes back, and the rest is named; what is incomplete is protected."""
    platform, state = platform_on(disks, tmp_path, MESSAGES // 2)
    unit = tmp_path / "copy-of-a"
    subprocess.run(["cp", "-a", str(disks[0].mount_point / "unit"), str(unit)], check=True)
    before = blocks_of(disks[0].path)
    for disk in disks:
        disk.umount()
        disk.mkfs()
        # A quarter of what the units take of the image.
        offsets = sorted(at for copies in before.values() for at, _ in copies)
        start = len(offsets) * start_eighth // 8
        low, high = offsets[start], offsets[start + len(offsets) // 4]
        disk.overwrite(low, high - low, start_eighth)
    alive = survivors(before, [disk.path for disk in disks])
    assert 0.5 < len(alive) / len(before) < 0.9
    safe = expected_alive(unit, alive)

    guarded, report = recover(tmp_path, [disk.path for disk in disks], name="guarded")
    try:
        assert report["lost_lsns"] or report["bodiless_messages"]
        for broken in report["broken"]:
            if broken["mailbox"] and broken["address"]:
                imap = guarded.imap(broken["address"], select=None)
                kind, answer = imap.select('"' + broken["path"].replace("ü", "&APw-") + '"')
                assert kind == "NO" and b"UNAVAILABLE" in answer[0], "an incomplete mailbox must not be shown"
                imap.logout()
    finally:
        assert guarded.stop() == 0

    opened, report = recover(tmp_path, [disk.path for disk in disks], "--accept-loss", name="opened")
    try:
        assert report["accepted_loss"]
        now, named = states(opened), named_as_lost(report)
    finally:
        assert opened.stop() == 0
    returned = lost = 0
    for address, mailboxes in state.items():
        for path, (validity, messages) in mailboxes.items():
            assert now[address][path][0] == validity
            found = now[address][path][1]
            for uid, (flags, date, body) in messages.items():
                if uid in found and found[uid][2] is not None:
                    assert found[uid][2] == body and found[uid][1] == date
                    returned += 1
                    continue
                assert (address, validity, uid) not in safe, f"{address} {path} {uid} was in no lost block"
                assert (address, utf8(path), uid) in named, f"{address} {path} {uid} is lost and not named"
                lost += 1
    assert returned > 0 and lost > 0


def utf8(name):
    return name.replace("&APw-", "ü")


def test_refuses_to_write_over_anything(tmp_path, new_platform):
    platform = new_platform()
    imap = platform.imap("user@example.org")
    ok(imap.append("INBOX", None, None, message()))
    imap.logout()
    assert platform.stop() == 0
    out = tmp_path / "rescue"
    scan = [PROGRAM, "recover", "scan", "--out", str(out), str(platform.folder / "a"), str(platform.folder / "b")]
    subprocess.run(scan, check=True, capture_output=True)
    subprocess.run([PROGRAM, "recover", "rebuild", str(out)], check=True, capture_output=True)
    again = subprocess.run([PROGRAM, "recover", "rebuild", str(out)], capture_output=True, text=True)
    assert again.returncode == 1 and "it holds" in again.stderr
    into_source = subprocess.run([PROGRAM, "recover", "scan", "--out", str(platform.folder / "a" / "out"), str(platform.folder / "a")],
                                 capture_output=True, text=True)
    assert into_source.returncode == 1 and not (platform.folder / "a" / "out").exists()


@pytest.mark.parametrize("words,said", [
    (["scan", "x"], "--out is missing"),
    (["scan", "--out", "o"], "an argument is missing"),
    (["rebuild", "d", "--volume", "nonsense"], "not a UUID"),
])
def test_misuse(words, said):
    run = subprocess.run([PROGRAM, "recover", *words], capture_output=True, text=True)
    assert run.returncode == 2 and said in run.stderr


def test_nothing_to_find(tmp_path):
    (tmp_path / "image").write_bytes(random.Random(5).randbytes(1 << 20))
    run = subprocess.run([PROGRAM, "recover", "scan", "--out", str(tmp_path / "o"), str(tmp_path / "image")], capture_output=True, text=True)
    assert run.returncode == 1 and "there is no block" in run.stderr
    run = subprocess.run([PROGRAM, "recover", "scan", "--out", str(tmp_path / "p"), str(tmp_path / "absent")], capture_output=True, text=True)
    assert run.returncode == 1 and "absent" in run.stderr
