"""Mailboxes of others: rights (RFC 4314), names (RFC 2342). Numbers are sections."""
import imaplib
import re

import pytest
from platform_under_test import message, ok, uids

ALICE, BOB, CAROL = "user@example.org", "other@example.org", "third@example.org"
SHARED = f"Other Users/{ALICE}/Team"


@pytest.fixture
def platform(shared_platform):
    return shared_platform


@pytest.fixture
def own_platform(new_platform):
    return new_platform(accounts=(ALICE, BOB, CAROL))


@pytest.fixture
def alice(platform):
    return prepare(platform.imap(ALICE))


def prepare(imap):
    """Team with two messages, and nobody's but the owner's."""
    for name in reversed([name for name in names(imap) if name.startswith("Team")]):
        ok(imap.delete(quote(name)))
    ok(imap.create("Team"))
    ok(imap.append("Team", None, None, message("one")))
    ok(imap.append("Team", None, None, message("two")))
    return imap


def quote(name):
    return f'"{name}"'


def names(imap, command="LIST", pattern="*"):
    kind, data = imap._simple_command(command, '""', quote(pattern))
    assert kind == "OK", data
    lines = imap._untagged_response(kind, data, command)[1]
    return [re.search(rb'"/" "(.*)"$', line).group(1).decode() for line in lines if line and b"\\Noselect" not in line]


def rights(imap, mailbox):
    line = ok(imap.myrights(quote(mailbox)))[0].decode()
    return "".join(sorted(set(line.rsplit(" ", 1)[1].strip('"')) - set("cd")))


def refused(answer, code):
    kind, data = answer
    assert kind == "NO" and f"[{code}]".encode() in data[0], (kind, data)


def share(alice, who, letters, mailbox="Team"):
    ok(alice.setacl(quote(mailbox), who, letters))


def test_namespace(alice):  # RFC 2342, 5
    assert ok(alice.namespace()) == [b'(("" "/")) (("Other Users/" "/")) NIL']


def test_names_need_the_right_to_look_up(platform, alice):  # 4: LIST
    bob = platform.imap(BOB)
    assert SHARED not in names(bob)
    refused(bob.select(quote(SHARED)), "NONEXISTENT")
    refused(bob.myrights(quote(SHARED)), "NONEXISTENT")
    share(alice, BOB, "l")
    assert SHARED in names(bob) and rights(bob, SHARED) == "l"
    assert "INBOX" in names(bob) and f"Other Users/{ALICE}/INBOX" not in names(bob)
    refused(bob.select(quote(SHARED)), "NOPERM")
    refused(bob.status(quote(SHARED), "(MESSAGES)"), "NOPERM")
    share(alice, BOB, "ri")  # SELECT needs r alone
    assert SHARED not in names(bob)
    ok(bob.select(quote(SHARED)))
    ok(alice.deleteacl("Team", BOB))
    refused(bob.select(quote(SHARED)), "NONEXISTENT")


def test_entries(platform, alice):  # 3.1 to 3.5
    bob = platform.imap(BOB)
    share(alice, BOB, "lrs")
    share(alice, "anyone", "+w")
    share(alice, BOB, "+t")
    share(alice, BOB, "-s")
    share(alice, "-" + BOB, "w")
    line = ok(alice.getacl("Team"))[0].decode()
    assert re.sub("[cd]", "", line.split(f'"{ALICE}"')[1].split('"anyone"')[0]).strip() == "lrswipkxtea"
    assert '"anyone" w' in line and f'"{BOB}" lrtd' in line and f'"-{BOB}" w' in line
    assert rights(bob, SHARED) == "lrt"  # 2: less what negative rights take
    refused(bob.getacl(quote(SHARED)), "NOPERM")
    refused(alice.setacl("Team", "nobody@example.org", "l"), "CANNOT")
    refused(alice.setacl("Team", ALICE, "l"), "NOPERM")
    refused(alice.deleteacl("Team", ALICE), "NOPERM")
    assert rights(alice, "Team") == "aeiklprstwx"
    share(alice, BOB, "lra")
    ok(bob.setacl(quote(SHARED), CAROL, "lr"))  # who has `a` may give rights
    assert SHARED in names(platform.imap(CAROL))


def test_flags_by_right(platform, alice):  # 4: STORE, 5.2
    share(alice, BOB, "lrs")
    bob = platform.imap(BOB, select=None)
    ok(bob.select(quote(SHARED)))
    assert bob.response("PERMANENTFLAGS")[1] == [rb"(\Seen)"]
    refused(bob.store("1", "+FLAGS", r"(\Flagged)"), "NOPERM")
    ok(bob.store("1", "+FLAGS", r"(\Seen \Flagged $Label)"))  # those that may be are
    ok(alice.select("Team"))
    assert b"(\\Seen)" in ok(alice.fetch("1", "(FLAGS)"))[0]  # seen by all
    ok(alice.store("1", "+FLAGS", r"(\Flagged \Answered $Work)"))
    share(alice, BOB, "lrst")
    ok(bob.noop())
    ok(bob.store("1", "FLAGS", r"(\Deleted \Draft)"))  # replaces \Seen and \Deleted alone
    line = ok(alice.fetch("1", "(FLAGS)"))[0]
    for flag in (rb"\Flagged", rb"\Answered", b"$Work", rb"\Deleted"):
        assert flag in line, line
    assert rb"\Seen" not in line and rb"\Draft" not in line
    share(alice, BOB, "lr")
    ok(bob.noop())
    ok(bob.fetch("2", "(BODY[])"))
    assert b"\\Seen" not in ok(alice.fetch("2", "(FLAGS)"))[0]


def test_read_only(platform, alice):  # 5.2
    share(alice, BOB, "lr")
    bob = platform.imap(BOB, select=None)
    kind, _ = bob.select(quote(SHARED), readonly=True)
    assert kind == "OK"
    with pytest.raises(imaplib.IMAP4.readonly):
        bob.select(quote(SHARED))
    share(alice, BOB, "lri")
    ok(bob.select(quote(SHARED)))


def test_append_copy_move(platform, alice):  # 4: APPEND, COPY; RFC 6851, 4
    share(alice, BOB, "lr")
    bob = platform.imap(BOB)
    ok(bob.append("INBOX", r"(\Flagged $Mine)", None, message("bobs")))
    ok(bob.select("INBOX"))
    before = len(uids(bob))
    refused(bob.append(quote(SHARED), None, None, message("x")), "NOPERM")
    refused(bob.copy("1", quote(SHARED)), "NOPERM")
    share(alice, BOB, "lris")
    ok(bob.append(quote(SHARED), r"(\Seen \Flagged)", None, message("three")))
    ok(bob.copy("*", quote(SHARED)))
    ok(alice.select("Team"))
    assert b"FLAGS (\\Seen)" in ok(alice.fetch("3", "(FLAGS)"))[0]
    assert b"FLAGS ()" in ok(alice.fetch("4", "(FLAGS)"))[0]
    assert b"Subject: bobs" in ok(alice.fetch("4", "(BODY[])"))[0][1]
    ok(bob.select(quote(SHARED)))
    ok(bob.copy("1:2", "INBOX"))  # from a mailbox of another account: r is enough
    refused(bob._simple_command("MOVE", "1", "INBOX"), "NOPERM")
    share(alice, BOB, "lrte")
    ok(bob._simple_command("MOVE", "1", "INBOX"))
    ok(bob.select("INBOX"))
    assert len(uids(bob)) == before + 3
    ok(alice.noop())
    assert len(uids(alice)) == 3


def test_expunge(platform, alice):  # 4: EXPUNGE, CLOSE
    share(alice, BOB, "lrt")
    bob = platform.imap(BOB, select=None)
    ok(bob.select(quote(SHARED)))
    ok(bob.store("1", "+FLAGS", r"(\Deleted)"))
    refused(bob.expunge(), "NOPERM")
    ok(bob.close())
    assert ok(alice.status("Team", "(MESSAGES)")) == [b'"Team" (MESSAGES 2)']
    share(alice, BOB, "lre")
    ok(bob.select(quote(SHARED)))
    ok(bob.close())
    assert ok(alice.status("Team", "(MESSAGES)")) == [b'"Team" (MESSAGES 1)']


def test_create_rename_delete(platform, alice):  # 4: CREATE, RENAME, DELETE
    share(alice, BOB, "lr")
    bob = platform.imap(BOB)
    refused(bob.create(quote(SHARED + "/Plans")), "NOPERM")
    share(alice, BOB, "lrk")
    ok(bob.create(quote(SHARED + "/Plans/2026")))
    assert {"Team/Plans", "Team/Plans/2026"} <= set(names(alice))
    assert rights(bob, SHARED + "/Plans/2026") == "klr"  # as the level above
    refused(bob.create(quote(f"Other Users/{ALICE}/New")), "NOPERM")
    refused(bob.create(quote("Other Users/nobody@example.org/New")), "NONEXISTENT")
    refused(bob.create(quote("Other Users/New")), "NONEXISTENT")
    refused(bob.create(quote("Other Users")), "CANNOT")
    refused(bob.rename("Drafts", quote("Other Users")), "CANNOT")
    refused(bob.rename("Drafts", quote(SHARED + "/Drafts")), "CANNOT")
    refused(bob.rename(quote(SHARED + "/Plans"), quote(SHARED + "/Past")), "NOPERM")
    refused(bob.delete(quote(SHARED + "/Plans")), "NOPERM")
    share(alice, BOB, "lrkx", "Team/Plans")
    refused(bob.rename(quote(SHARED + "/Plans"), quote(SHARED + "/Past")), "NOPERM")  # what is below it
    share(alice, BOB, "lrx", "Team/Plans/2026")
    ok(bob.rename(quote(SHARED + "/Plans"), quote(SHARED + "/Past")))
    assert {SHARED + "/Past", SHARED + "/Past/2026"} <= set(names(bob))
    ok(bob.delete(quote(SHARED + "/Past/2026")))
    assert "Team/Past/2026" not in names(alice)
    share(alice, BOB, "lrx", "INBOX")
    refused(bob.delete(quote(f"Other Users/{ALICE}/INBOX")), "NOPERM")
    refused(bob.rename(quote(f"Other Users/{ALICE}/INBOX"), quote(SHARED + "/x")), "NOPERM")
    refused(alice.rename(quote(f"Other Users/{ALICE}/INBOX"), "x"), "NOPERM")
    ok(alice.deleteacl("INBOX", BOB))


def test_subscriptions_are_the_subscribers(platform, alice):
    share(alice, BOB, "lr")
    bob = platform.imap(BOB)
    assert SHARED not in names(bob, "LSUB")
    ok(bob.subscribe(quote(SHARED)))
    assert SHARED in names(bob, "LSUB")
    assert "Team" not in names(alice, "LSUB")
    ok(bob.unsubscribe(quote(SHARED)))
    assert SHARED not in names(bob, "LSUB")


def test_rights_that_are_withdrawn_end_sessions(platform, alice):
    share(alice, BOB, "lr")
    bob = platform.imap(BOB, select=None)
    bob.select(quote(SHARED), readonly=True)
    ok(alice.deleteacl("Team", BOB))
    with pytest.raises(imaplib.IMAP4.abort):
        bob.fetch("1", "(FLAGS)")
        bob.noop()


def test_news_of_a_shared_mailbox(platform, alice):
    share(alice, BOB, "lrsw")
    bob = platform.imap(BOB, select=None)
    ok(bob.select(quote(SHARED)))
    ok(alice.append("Team", None, None, message("three")))
    ok(bob.noop())
    assert bob.response("EXISTS")[1] [-1] == b"3"


def test_posting(platform, alice):  # 2.1: p
    def deliver(*recipients):
        with platform.smtp() as smtp:
            smtp.sendmail("a@example.net", recipients, message())

    def all_counts():
        return [int(re.search(rb"MESSAGES (\d+)", ok(alice.status(name, "(MESSAGES)"))[0]).group(1)) for name in ("INBOX", "Team")]

    before = all_counts()

    def counts():
        return [now - then for now, then in zip(all_counts(), before)]

    deliver("user+Team@example.org")
    assert counts() == [1, 0]
    share(alice, "anyone", "p")
    deliver("user+Team@example.org")
    assert counts() == [1, 1]
    deliver("user+Team@example.org", "user@example.org", "user+other@example.org")
    assert counts() == [2, 2]
    share(alice, "-anyone", "p")
    deliver("user+Team@example.org")
    assert counts() == [3, 2]


def test_an_account_made_anew_inherits_nothing(own_platform):
    alice = prepare(own_platform.imap(ALICE))
    share(alice, BOB, "lr")
    assert SHARED in names(own_platform.imap(BOB))
    own_platform.command("account", "remove", BOB, "--confirm", BOB)
    own_platform.add_account(BOB)
    assert SHARED not in names(own_platform.imap(BOB))
    assert BOB not in ok(alice.getacl("Team"))[0].decode()


def test_rights_survive(own_platform):
    alice = prepare(own_platform.imap(ALICE))
    share(alice, BOB, "lrs")
    share(alice, "-" + BOB, "s")
    share(alice, CAROL, "lr")
    ok(alice.deleteacl("Team", CAROL))
    for rebuild in (False, True):
        own_platform.kill()
        if rebuild:
            own_platform.command("index", "rebuild")
        own_platform.start()
        assert rights(own_platform.imap(BOB), SHARED) == "lr"
        assert SHARED not in names(own_platform.imap(CAROL))
