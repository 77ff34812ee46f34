"""All that an account's IMAP shows, as plain data, so that two platforms (or two moments) can be compared."""
import re

from platform_under_test import ok

FLAGS = re.compile(rb"UID (\d+) FLAGS \(([^)]*)\) INTERNALDATE (\"[^\"]*\")")


def mailbox_names(imap):
    return sorted(re.fullmatch(rb'\([^)]*\) "/" "?(.*?)"?', line).group(1).decode() for line in ok(imap.list()))


def uidvalidity(imap, name):
    [answer] = ok(imap.status(f'"{name}"', "(UIDVALIDITY)"))
    return int(re.search(rb"UIDVALIDITY (\d+)", answer).group(1))


def messages(imap, name):
    """{uid: (flags, internal date, bytes)} of a mailbox; bytes None where the server says that they are lost."""
    ok(imap.select(f'"{name}"', readonly=True))
    found = {}
    for part in ok(imap.uid("FETCH", "1:*", "(UID FLAGS INTERNALDATE)")):
        if part is None:
            continue
        uid, flags, date = FLAGS.search(part).groups()
        found[int(uid)] = [tuple(sorted(f for f in flags.split() if f != rb"\Recent")), date, None]
    if found:
        for part in bodies(imap):
            uid = int(re.search(rb"UID (\d+)", part[0]).group(1))
            found[uid][2] = part[1]
    return {uid: tuple(row) for uid, row in found.items()}


def bodies(imap):
    """What FETCH gives of all bodies. When some are lost it gives the others, and ends in a tagged NO."""
    kind, data = imap.uid("FETCH", "1:*", "(UID BODY.PEEK[])")
    if kind == "NO":
        _, data = imap.response("FETCH")
    return [part for part in data if isinstance(part, tuple)]


def account_state(platform, address):
    """{mailbox: (uidvalidity, messages)}"""
    imap = platform.imap(address, select=None)
    state = {name: (uidvalidity(imap, name), messages(imap, name)) for name in mailbox_names(imap)}
    imap.logout()
    return state
