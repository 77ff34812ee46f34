"""Programs that keep copies of an account's mail, and remove what the server no longer shows. For each:

sync(port)   one look at the server; False when the program says that something failed
holdings()   {(mailbox, message): what it has of it}: equal before and after when nothing was removed, changed, or
             downloaded again"""
import hashlib
import imaplib
import os
import poplib
import re
import shutil
import subprocess

import pytest

from platform_under_test import PASSWORD, ok, uids


ACCOUNT_SECONDS = 60


class MaildirClient:
    """What it holds are files: their names, contents and times."""
    program = None

    def __init__(self, folder, address):
        if not shutil.which(self.program):
            pytest.skip(f"{self.program} is not installed")
        self.folder, self.address = folder / self.program, address
        self.mail = self.folder / "Mail"
        self.mail.mkdir(parents=True)
        self.output = ""

    def holdings(self):
        found = {}
        for path in self.mail.rglob("*"):
            if path.parent.name in ("cur", "new") and path.is_file():
                data = path.read_bytes()
                box = str(path.parent.parent.relative_to(self.mail))
                found[box, path.name] = hashlib.sha256(data).hexdigest(), path.stat().st_mtime_ns
        return found

    def run(self, *words):
        result = subprocess.run(words, capture_output=True, text=True, errors="replace", timeout=ACCOUNT_SECONDS,
                                stdin=subprocess.DEVNULL, env=dict(os.environ, HOME=str(self.folder)))
        self.output = result.stdout + result.stderr
        return result.returncode == 0


class Mbsync(MaildirClient):
    program = "mbsync"

    def sync(self, port):
        (self.folder / "state").mkdir(exist_ok=True)
        rc = self.folder / "rc"
        rc.write_text(f"""MaildirStore local
Path "{self.mail}/"
Inbox "{self.mail}/INBOX"
SubFolders Verbatim

IMAPStore far
Host 127.0.0.1
Port {port}
User {self.address}
Pass "{PASSWORD}"
SSLType None
AuthMechs LOGIN

Channel all
Far :far:
Near :local:
Patterns *
Create Both
Remove Both
Expunge Both
CopyArrivalDate yes
SyncState "{self.folder}/state/"
""")
        # A mailbox that cannot be selected is to it one that is not there: it warns, unless its own is empty.
        return self.run("mbsync", "-c", str(rc), "all") and "cannot be opened" not in self.output


class OfflineImap(MaildirClient):
    program = "offlineimap"

    def sync(self, port):
        rc = self.folder / "rc"
        rc.write_text(f"""[general]
metadata = {self.folder}/state
accounts = all
ui = basic
socktimeout = 30

[Account all]
localrepository = local
remoterepository = far

[Repository local]
type = Maildir
localfolders = {self.mail}
sep = /

[Repository far]
type = IMAP
remotehost = 127.0.0.1
remoteport = {port}
remoteuser = {self.address}
remotepass = {PASSWORD}
ssl = no
starttls = no
auth_mechanisms = LOGIN
""")
        return self.run("offlineimap", "-c", str(rc), "-o") and "ERROR" not in self.output


class ImapAccess:
    """What a Scripted client sees of an account by IMAP. An access by POP3 has the same three: one folder, UIDLs."""
    name = "imap"

    def __init__(self, port, address):
        self.imap = imaplib.IMAP4("127.0.0.1", port, timeout=30)
        self.imap.login(address, PASSWORD)

    def folders(self):
        lines = ok(self.imap.list())
        return [re.fullmatch(rb'\([^)]*\) "/" "?(.*?)"?', line).group(1).decode() for line in lines]

    def messages(self, folder):
        """[(id, ...)]: what tells messages apart for ever: UIDVALIDITY and UID."""
        ok(self.imap.select(f'"{folder}"', readonly=True))
        validity = int(self.imap.response("UIDVALIDITY")[1][0])
        return [(validity, uid) for uid in uids(self.imap)]

    def fetch(self, folder, message):
        for part in ok(self.imap.uid("FETCH", str(message[1]), "(BODY.PEEK[])")):
            if isinstance(part, tuple):
                return part[1]
        raise AssertionError(f"{folder} {message} is shown, and FETCH gives nothing")

    def close(self):
        self.imap.logout()


class Pop3Access:
    """One folder; UIDLs tell messages apart (RFC 1939, 7). Nothing is ever deleted on the server."""
    name = "pop3"

    def __init__(self, port, address):
        poplib._MAXLINE = 1 << 20  # RFC 1939 sets no limit to lines of messages, and these tests have long ones
        self.pop3 = poplib.POP3("127.0.0.1", port, timeout=30)
        try:
            self.pop3.user(address)
            self.pop3.pass_(PASSWORD)
        except poplib.error_proto as error:
            self.pop3.close()
            raise AssertionError(str(error)) from error
        self.numbers = {}

    def folders(self):
        return ["INBOX"]

    def messages(self, folder):
        lines = [line.decode().split(" ", 1) for line in self.pop3.uidl()[1]]
        self.numbers = {uidl: int(number) for number, uidl in lines}
        assert len(self.numbers) == len(lines)
        return list(self.numbers)

    def fetch(self, folder, message):
        return b"\r\n".join(self.pop3.retr(self.numbers[message])[1])

    def close(self):
        self.pop3.quit()


class Scripted:
    """The crudest client there is: what the server does not show, it forgets at once, a folder as well as a message; and
    it logs each download. Only an error makes it leave alone what the error is about."""

    def __init__(self, folder, address, access=ImapAccess):
        self.address, self.access = address, access
        self.copies = {}  # folder: {message: bytes}
        self.downloads = []

    def sync(self, port):
        try:
            server = self.access(port, self.address)
            folders = server.folders()
        except (OSError, imaplib.IMAP4.error, AssertionError):
            return False
        good = True
        for folder in set(self.copies) - set(folders):
            del self.copies[folder]
        for folder in folders:
            try:
                self.sync_folder(server, folder)
            except (AssertionError, imaplib.IMAP4.error, poplib.error_proto):
                good = False
        server.close()
        return good

    def sync_folder(self, server, folder):
        there = server.messages(folder)
        held = self.copies.setdefault(folder, {})
        for message in set(held) - set(there):
            del held[message]
        for message in there:
            if message not in held:
                held[message] = server.fetch(folder, message)
                self.downloads.append((folder, message))

    def holdings(self):
        return {(folder, message): (hashlib.sha256(data).hexdigest(), self.downloads.count((folder, message)))
                for folder, held in self.copies.items() for message, data in held.items()}
