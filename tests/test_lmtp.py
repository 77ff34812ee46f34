"""LMTP: one answer for each recipient."""
import uuid

from platform_under_test import fetch_all, message, without_added


def test_answer_for_each_recipient(shared_platform):
    marker = uuid.uuid4().hex
    data = message(marker, ".dot\n")
    with shared_platform.lmtp() as lmtp:
        code, _ = lmtp.docmd("LHLO", "c.example.net")
        assert code == 250
        assert lmtp.docmd("MAIL", "FROM:<a@example.net>")[0] == 250
        for address in ("user@example.org", "other@example.org"):
            assert lmtp.docmd("RCPT", f"TO:<{address}>")[0] == 250
        assert lmtp.docmd("RCPT", "TO:<nobody@example.org>")[0] == 550
        assert lmtp.docmd("DATA")[0] == 354
        lmtp.send(data.replace(b"\r\n.", b"\r\n..") + b".\r\n")
        assert [lmtp.getreply()[0] for _ in range(2)] == [250, 250]
    for address in ("user@example.org", "other@example.org"):
        imap = shared_platform.imap(address)
        found = [stored for stored in fetch_all(imap).values() if marker.encode() in stored]
        imap.logout()
        assert len(found) == 1 and without_added(found[0]) == data


def test_helo_is_for_smtp(shared_platform):
    with shared_platform.lmtp() as lmtp:
        assert lmtp.docmd("EHLO", "c.example.net")[0] >= 500
        assert lmtp.docmd("HELO", "c.example.net")[0] >= 500
