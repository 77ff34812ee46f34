"""IMAP4rev2 (RFC 9051) and UTF8=ACCEPT (RFC 6855) as a client sees them."""
import re

from platform_under_test import message
from test_qresync import command


def test_utf8_and_rev2(shared_platform):
    imap = shared_platform.imap("other@example.org", select=None)
    lines, _ = command(imap, "ENABLE IMAP4rev2 UTF8=ACCEPT")
    assert lines == ["* ENABLED IMAP4rev2 UTF8=ACCEPT"]
    command(imap, 'CREATE "Entwürfe"')
    body = message(subject="größer")
    tag = imap._new_tag().decode()
    imap.send(f'{tag} APPEND "Entwürfe" (\\Flagged) UTF8 (~{{{len(body)}+}}\r\n'.encode() + body + b")\r\n")
    assert imap.readline().startswith(f"{tag} OK [APPENDUID".encode())
    lines, _ = command(imap, 'LIST "" "Entw*" RETURN (STATUS (MESSAGES DELETED))')
    assert lines[0].endswith('"/" "Entwürfe"') and lines[1] == '* STATUS "Entwürfe" (MESSAGES 1 DELETED 0)'
    lines, _ = command(imap, 'SELECT "Entwürfe"')
    assert '* LIST () "/" "Entwürfe"' in lines and not any("RECENT" in line for line in lines)
    lines, _ = command(imap, 'UID SEARCH RETURN (SAVE COUNT) SUBJECT "größer"')
    assert lines[0].endswith("UID COUNT 1")
    command(imap, r"UID STORE $ +FLAGS (\Deleted)")
    lines, _ = command(imap, "SEARCH DELETED")
    assert re.fullmatch(r'\* ESEARCH \(TAG "\w+"\) ALL 1', lines[0])
    imap.logout()
    old = shared_platform.imap("other@example.org", select=None)
    assert "Entw&APw-rfe" in str(old.list()[1])
    old.logout()
