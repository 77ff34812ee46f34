"""Whatever destroys data: asked for, refused, taken back, waited for, approved, carried out; across restarts."""
import json
import os
import pwd
import re
import shutil
import subprocess
import tempfile
import time

import pytest

from platform_under_test import PROGRAM, Platform, message, ok

ADDRESS = "user@example.org"


def configure(platform, **values):
    """Keys of [guard]."""
    text = platform.config.read_text()
    for key, value in values.items():
        text = re.sub(rf"(?m)^{key} = .*\n", "", text)
        text = text.replace("[guard]\n", f"[guard]\n{key} = {value}\n")
    platform.config.write_text(text)


def add_fourth(platform):
    """Another spare, so that a unit can be spared."""
    text = platform.config.read_text().replace("units = a b c\n", "units = a b c d\n")
    platform.config.write_text(text.replace("[volume main]", "[unit d]\nkind = dir\npath = d\nrole = spare\n\n[volume main]"))
    platform.command("unit", "init", "d")


def facts(platform, *words):
    return json.loads(platform.command(*words, "--json").stdout)


def units(platform):
    return {unit["name"]: unit for unit in facts(platform, "unit", "list")}


def confirm(platform, name):
    return f"{name} {units(platform)[name]['id'][:8]}"


def refused(platform, *words):
    result = platform.command(*words, check=False)
    assert result.returncode == 1 and result.stderr.splitlines()[-1].startswith("sternpost: "), result
    return result.stderr


def wait_for(what, seconds=30):
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def state_of(platform, request):
    return {r["id"]: r["state"] for r in facts(platform, "guard", "list", "--all")}[request]


def fill(platform, count=5):
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
def four(new_platform):
    """Four units, running, a cooling-off of two seconds."""
    platform = new_platform(start=False)
    add_fourth(platform)
    configure(platform, cooling_off="2s")
    platform.start()
    fill(platform)
    return platform


def test_retire_and_wipe(four):
    before = units(four)
    assert "it is a unit of the volume" in refused(four, "unit", "wipe", "a")
    text = refused(four, "unit", "retire", "a")
    assert "not confirmed, since standard input is no terminal" in text
    assert f"--confirm '{confirm(four, 'a')}'" in text
    # These units share a disk: said wherever copies are counted.
    assert "allow_shared_domain" in text and "segments were read back" in text
    assert "not confirmed" in refused(four, "unit", "retire", "a", "--confirm", "a")
    request = facts(four, "unit", "retire", "a", "--confirm", confirm(four, "a"))
    assert request["state"] == "pending" and 0 < request["waits_s"] <= 2
    assert units(four)["a"]["state"] == "replica" and units(four)["c"]["state"] == "replica"
    assert request["id"] in four.command("guard", "list").stdout
    wait_for(lambda: state_of(four, request["id"]) == "done")
    assert units(four)["a"]["state"] == "stale" and count(four) == 5
    # Not a byte of it was touched; and by now it has missed something.
    assert (four.folder / "a" / "unit.id").exists() and list((four.folder / "a" / "segments").iterdir())
    fill(four, 1)
    assert "no unit of the volume any more" in refused(four, "unit", "retire", "a")
    # It stays out over a restart, and is wiped then.
    four.kill()
    four.start()
    assert units(four)["a"]["state"] == "stale"
    request = facts(four, "unit", "wipe", "a", "--confirm", confirm(four, "a"))
    wait_for(lambda: state_of(four, request["id"]) == "done")
    assert list((four.folder / "a").iterdir()) == []
    assert count(four) == 6
    assert facts(four, "unit", "add", "a", "--init")["state"] == "spare"
    assert units(four)["a"]["id"] != before["a"]["id"]


def test_undo(four):
    configure(four, cooling_off="3s")
    assert four.stop() == 0
    four.start()
    request = facts(four, "account", "remove", ADDRESS, "--confirm", ADDRESS)
    assert request["state"] == "pending" and count(four) == 5
    assert facts(four, "guard", "undo", request["id"])["state"] == "undone"
    time.sleep(4)
    assert count(four) == 5 and state_of(four, request["id"]) == "undone"
    assert facts(four, "guard", "list") == []
    assert "not pending any more" in refused(four, "guard", "undo", request["id"])
    assert "no such request" in refused(four, "guard", "undo", "00000000-0000-4000-8000-000000000001")
    assert "no id of a request" in refused(four, "guard", "undo", "x")


def test_killed_in_between(four):
    """kill -9 after the request: it survives, and is carried out when the server has run for long enough."""
    configure(four, cooling_off="6s")
    assert four.stop() == 0
    four.start()
    request = facts(four, "account", "remove", ADDRESS, "--confirm", ADDRESS)
    four.kill()
    time.sleep(7)  # a server that does not run counts no time
    four.start()
    assert state_of(four, request["id"]) == "pending" and count(four) == 5
    assert "requested already" in refused(four, "account", "remove", ADDRESS, "--confirm", ADDRESS)
    wait_for(lambda: state_of(four, request["id"]) == "done")
    assert facts(four, "account", "list") == []
    four.kill()
    four.start()
    assert state_of(four, request["id"]) == "done"
    # The index is made anew from the log, and says the same.
    assert four.stop() == 0
    four.command("index", "rebuild")
    assert [r["state"] for r in facts(four, "guard", "list", "--all")] == ["done"]


def test_erasure(platform):
    """What the law wants erased waits as everything does; taken back it leaves all as it was."""
    configure(platform, cooling_off="3s")
    fill(platform)
    assert platform.stop() == 0
    platform.start()
    words = ("erase", "--account", ADDRESS, "--mailbox", "INBOX", "--uid", "1:2,4", "--why", "order 17; \u00a7 3")
    assert "not confirmed" in refused(platform, *words, "--confirm", "yes")
    request = facts(platform, *words, "--confirm", ADDRESS)
    assert request["operation"] == "erase" and request["state"] == "pending" and count(platform) == 5
    assert re.fullmatch(rf"{ADDRESS};MAILBOX=INBOX;UID=1:2,4;WHY=order%2017%3B%20%C2%A7%203;NUMBERS=\d+", request["subject"])
    platform.command("guard", "undo", request["id"])
    again = facts(platform, *words, "--confirm", ADDRESS)
    platform.kill()
    platform.start()
    wait_for(lambda: state_of(platform, again["id"]) == "done")
    assert count(platform) == 2 and state_of(platform, request["id"]) == "undone"
    [done] = [r for r in facts(platform, "guard", "list", "--all") if r["state"] == "done"]
    assert "3 messages were still there" in done["text"]
    undelete = platform.command("undelete", "--account", ADDRESS, "--json", check=False)
    assert json.loads(undelete.stdout)["messages"] == 0
    for uid in ("2,1", "0", "3:2", "1:", "4294967296", ",", "1,,2"):
        assert "not clearly" in refused(platform, *words[:5], "--uid", uid, "--confirm", ADDRESS), uid
    assert "no such mailbox" in refused(platform, "erase", "--account", ADDRESS, "--mailbox", "None", "--confirm", ADDRESS)
    assert "no such account" in refused(platform, "erase", "--account", "nobody@example.org", "--confirm", "x")
    assert "not been removed" in refused(platform, "erase", "--removed-account", again["subject_id"], "--confirm", "x")
    assert "too much" in refused(platform, "erase", "--account", ADDRESS, "--why", "x" * 2000, "--confirm", ADDRESS)


def test_erasure_keeps_to_its_mailbox(platform):
    """It is of the mailbox that had the name when it was asked, and not of one that gets it while the request waits."""
    configure(platform, cooling_off="3s")
    assert platform.stop() == 0
    platform.start()
    imap = platform.imap(ADDRESS)

    def fill_box(what):
        ok(imap.create("Box"))
        for n in range(4):
            ok(imap.append("Box", None, None, message(f"{what} {n}")))

    fill_box("first")
    request = facts(platform, "erase", "--account", ADDRESS, "--mailbox", "Box", "--uid", "1:2", "--confirm", ADDRESS)
    ok(imap.rename("Box", "Kept"))
    fill_box("second")
    wait_for(lambda: state_of(platform, request["id"]) == "done")
    for box, there in (("Box", [b"1 2 3 4"]), ("Kept", [b"3 4"])):
        ok(imap.select(box))
        assert ok(imap.uid("SEARCH", "ALL")) == there, box


def test_without_server(new_platform):
    """Asked for while no server runs: it waits for one."""
    platform = new_platform(start=False)
    configure(platform, cooling_off="1s")
    request = facts(platform, "account", "remove", ADDRESS, "--confirm", ADDRESS)
    time.sleep(2)
    assert [r["state"] for r in facts(platform, "guard", "list")] == ["pending"]
    platform.start()
    wait_for(lambda: state_of(platform, request["id"]) == "done")


def test_too_few(platform):
    """Three units: none can be spared."""
    assert "2 units would be left to vote, and a volume needs 3" in refused(platform, "unit", "retire", "a")
    assert "no such unit" in refused(platform, "unit", "retire", "x")


def test_rot_elsewhere(four):
    """The only other copy of a segment is not sound: that is said, with its place, and nothing is asked."""
    four.stop()
    path = min((four.folder / "b" / "segments").glob("*.seg"))
    with open(path, "r+b") as file:
        file.seek(2 * 4096 + 200)
        file.write(b"rot" * 50)
    four.configure(scrub_rate="0")
    four.start()
    text = refused(four, "unit", "retire", "a")
    assert "unit b: its copy of segment 1 is not sound at block 2" in text and "segment 1 (LSN" in text, text
    assert facts(four, "guard", "list", "--all") == [] and units(four)["a"]["state"] == "replica"
    # Mended, it can be spared.
    assert facts(four, "scrub", "--now")["mended"] > 0
    facts(four, "unit", "retire", "a", "--confirm", confirm(four, "a"))


def test_retire_a_lost_unit(four):
    """The disk is gone for good: its unit is retired by name, and the next start asks for it no more."""
    shutil.rmtree(four.folder / "a", ignore_errors=True)
    wait_for(lambda: units(four)["a"]["state"] in ("ejected", "absent"))
    four.stop()
    four.start()
    text = refused(four, "unit", "retire", "a")
    request = facts(four, "unit", "retire", "a", "--confirm", re.search(r"--confirm '(a \w+)'", text).group(1))
    wait_for(lambda: state_of(four, request["id"]) == "done")
    assert units(four)["a"]["state"] == "absent"
    four.kill()
    four.start()
    assert count(four) == 5


def test_policy(platform):
    assert "knows no such operation" in refused(platform, "guard", "policy", "nonsense", "--confirm", "x")
    assert facts(platform, "guard", "policy", "segments.delete", "--confirm", "segments.delete")["state"] == "done"
    assert "not allowed any more" in platform.command("guard", "policy", "segments.delete", "--end").stdout
    assert "no such policy" in refused(platform, "guard", "policy", "segments.delete", "--end")


def test_init_over(new_platform):
    platform = new_platform(start=False)
    folder = platform.folder / "d"
    folder.mkdir()
    for n in range(5):
        (folder / f"photo{n}").write_text("precious")
    text = platform.config.read_text().replace("units = a b c\n", "units = a b c d\n")
    platform.config.write_text(text.replace("[volume main]", "[unit d]\nkind = dir\npath = d\nrole = spare\n\n[volume main]"))
    said = refused(platform, "unit", "init", "d")
    assert "it holds 5 files and folders, such as photo" in said and "no disk is mounted there" in said
    assert "not confirmed" in refused(platform, "unit", "init", "d", "--confirm", "d")
    platform.command("unit", "init", "d", "--confirm", str(folder))
    assert sorted(p.name for p in folder.iterdir()) == [*(f"photo{n}" for n in range(5)), "segments", "unit.id"]
    # A unit is never made over: neither its own, nor another's.
    for name in "ad":
        said = refused(platform, "unit", "init", name, "--confirm", str(platform.folder / name))
        assert "whose mail may be in it; nothing was changed" in said
    (folder / "unit.id").write_text("garbage")
    assert "which cannot be read" in refused(platform, "unit", "init", "d", "--confirm", str(folder))


@pytest.mark.skipif(os.geteuid() != 0, reason="needs to be several users")
def test_approval():
    """Two operators, neither of them root: who asks cannot approve, and strangers can do nothing."""
    people = [p for p in pwd.getpwall() if p.pw_uid and p.pw_shell][:3]
    if len(people) < 3:
        pytest.skip("needs three users")
    asks, approves, stranger = people
    base = tempfile.mkdtemp(prefix="sternpost-guard-")
    try:
        os.chmod(base, 0o755)
        program = shutil.copy(PROGRAM, base)
        platform = Platform(os.path.join(base, "platform")).init()
        platform.add_account(ADDRESS)
        configure(platform, approvers=f"{asks.pw_name} {approves.pw_name}", approvals=1)
        subprocess.run(["chown", "-R", str(asks.pw_uid), platform.folder], check=True)
        os.chmod(platform.folder, 0o711)
        os.chmod(platform.config, 0o644)
        log = open(os.path.join(base, "log"), "wb")
        server = subprocess.Popen([program, "-c", platform.config, "serve"], user=asks.pw_uid, stdin=subprocess.DEVNULL,
                                  stderr=log)

        def run(who, *words):
            return subprocess.run([program, "-c", platform.config, *words], user=who.pw_uid, group=who.pw_gid, cwd="/",
                                  capture_output=True, text=True, timeout=60)

        try:
            wait_for(lambda: b"server.ready" in open(log.name, "rb").read())
            request = json.loads(run(asks, "account", "remove", ADDRESS, "--confirm", ADDRESS, "--json").stdout)
            assert request["state"] == "pending" and request["who"] == asks.pw_name and request["approvals_needed"] == 1
            assert "who asks cannot approve" in run(asks, "guard", "approve", request["id"]).stderr
            for words in (["guard", "approve", request["id"]], ["guard", "list"], ["account", "list"]):
                assert "may not ask for this" in run(stranger, *words).stderr
            assert "may not ask for this" in run(approves, "account", "list").stderr
            assert request["id"] in run(approves, "guard", "list").stdout
            done = json.loads(run(approves, "guard", "approve", request["id"], "--json").stdout)
            assert done["state"] == "done" and done["approvals"] == 1
        finally:
            server.terminate()
            server.wait(30)
    finally:
        shutil.rmtree(base)
