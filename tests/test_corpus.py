"""Real mail, with all the ways in which it breaks the rules, goes in by SMTP and comes out by IMAP byte for byte."""
import collections
import email
import email.policy
import os
import random
import re
import shutil
import subprocess
import tarfile
import threading
from pathlib import Path

import pytest
from platform_under_test import Platform, fetch_all, ok, without_added

CORPUS = Path(os.environ.get("SP_CORPUS", Path(__file__).resolve().parent.parent.parent / "shared" / "corpus"))
ARCHIVE = CORPUS / "spamassassin.tar.xz"
ACCOUNT, BY_BDAT, BY_SWAKS, BY_APPEND = (f"{name}@example.org" for name in ("corpus", "bdat", "swaks", "append"))
CONNECTIONS = 4
# A few sections of every so many-th message are fetched: all of them would take minutes.
SAMPLE_STEP = 8
ADDRESS = re.compile(r"[A-Za-z0-9_+=-]+(\.[A-Za-z0-9_+=-]+)*@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+")

Mail = collections.namedtuple("Mail", "name sender data")


# ---- Where messages come from ----


def from_corpus():
    with tarfile.open(ARCHIVE) as archive:
        for member in archive:
            if not member.isfile():
                continue
            data, sender = archive.extractfile(member).read(), "sender@example.net"
            if data.startswith(b"From "):  # mbox's, not the message's
                line, data = data.split(b"\n", 1)
                found = ADDRESS.fullmatch(line.split()[1].decode("latin-1"))
                sender = found.group(0) if found else sender
            yield Mail(member.name, sender, re.sub(rb"(?<!\r)\n", b"\r\n", data))


class Generator:
    """Messages of many shapes; the same for the same seed."""
    CHARSETS = ("us-ascii", "utf-8", "iso-8859-1", "koi8-r", "gb2312", "x-unknown", '"utf-8"', "=?x?=")
    ENCODINGS = ("7bit", "8bit", "base64", "quoted-printable", "binary", "x-uuencode", "BASE64", "")
    TYPES = ("text/plain", "TEXT/HTML", "image/gif", "application/octet-stream", "text", "/", "text/", "a/b/c", "")
    BODIES = (
        b"", b"\r\n", b"one line", b"a\r\nb\r\n", b".\r\n", b"..\r\n.x\r\n..y\r\n.", b".\r\n.\r\n", b" \r\n\t\r\n",
        b"From here on\r\n>From there\r\n", b"trailing \t\r\n", b"caf\xc3\xa9\r\n", b"\xff\xfe\x80\r\n",
        b"\x01\x7f\x1b[m\r\n", b"--\r\n-- \r\n----\r\n", b"x" * 998 + b"\r\n", b"y" * 5000 + b"\r\n",
        b"." * 3000 + b"\r\n", b"z" * 70000, b"line of text\r\n" * 2000, b"0123456789abcde\r\n" * 20000,
        b"=\r\n=3D=\r\n", b"QUJD\r\n", b"\r\n" * 300,
    )

    def __init__(self, seed):
        self.random = random.Random(seed)

    def parameters(self):
        choice = self.random.choice
        return "".join(part for part in (
            f"; charset={choice(self.CHARSETS)}", '; name="a \\"b\\".txt"', "; name*0*=utf-8''%e2%82; name*1*=%ac",
            "; x=y; x=z", ";", "; =", '; open="', "; format=flowed (comment (nested))") if self.random.random() < 0.2)

    def part(self, depth):
        """Header fields about the content, the empty line, and the body."""
        r = self.random
        kind = r.random()
        if depth < 4 and kind < 0.3:
            return self.multipart(depth)
        if depth < 4 and kind < 0.4:
            return b"Content-Type: message/rfc822\r\n\r\n" + self.message(depth + 1)
        head = ""
        if r.random() < 0.8:
            head += f"Content-Type: {r.choice(self.TYPES)}{self.parameters()}\r\n"
        if r.random() < 0.6:
            head += f"Content-Transfer-Encoding: {r.choice(self.ENCODINGS)}\r\n"
        if r.random() < 0.3:
            head += 'Content-Disposition: attachment;\r\n\tfilename="f.bin"\r\nContent-ID: <1@x>\r\n'
        return head.encode() + b"\r\n" + r.choice(self.BODIES)

    def multipart(self, depth):
        r = self.random
        boundary = r.choice(("b", "=_next", "a b", "'()+_,-./:=?", "x" * 70)) + str(r.randrange(10 ** 6))
        kind = r.choice(("mixed", "alternative", "digest", "related", "report", "MIXED"))
        data = b'Content-Type: multipart/%s; boundary="%s"\r\n\r\n' % (kind.encode(), boundary.encode())
        data += r.choice((b"", b"preamble\r\n"))
        for _ in range(r.choice((0, 1, 2, 2, 3, 5))):
            data += b"--" + boundary.encode() + r.choice((b"", b"", b" \t")) + b"\r\n" + self.part(depth + 1) + b"\r\n"
        if r.random() < 0.8:  # otherwise cut off, as real mail sometimes is
            data += b"--" + boundary.encode() + b"--" + r.choice((b"", b"\r\n", b"\r\nepilogue\r\n"))
        return data

    FIELDS = (
        "From: A <a@example.net>", "From: a@example.net (A)", 'From: "A \\" B" <a@b.example>', "From:", "From: <>",
        "To: b@example.org, C <c@example.org>", "To: list: b@example.org, c@example.org;",
        "To: undisclosed-recipients:;", "To: <@relay.example,@other:b@example.org>", "To: b@[127.0.0.1]",
        "Cc: ,,x@y.example,,", "Cc: a@b@c <d", "Bcc: x", "Sender: (only a comment)",
        "Reply-To: =?utf-8?q?J=C3=BCrgen?= <j@example.org>", "Subject: plain",
        "Subject: =?iso-8859-1?q?Gr=FC=DFe?=\r\n =?utf-8?b?w6Q=?=", "Subject: folded\r\n \r\n\tagain", "Subject:",
        "Subject: " + "long " * 300, 'Subject: "quoted" \\ {3}', "Date: Thu, 22 Aug 2002 12:36:23 +0000",
        "Date: yesterday", "Message-ID: <1@example.net>", "Message-Id: no brackets", "In-Reply-To: <0@example.net>",
        "References: <0@example.net>\r\n\t<00@example.net>", "Received: from x by y; today", "X-Empty:",
        "no colon here", "Bad Name : x", ": no name", "Return-Path: <old@example.net>", "Received: (again)",
        "Subject : blank before colon", "X-Raw: caf\u00e9", "MIME-Version: 1.0",
    )

    def message(self, depth=0):
        r = self.random
        fields = r.sample(self.FIELDS, r.choice((0, 1, 3, 6, 10, 20)))
        head = b"".join(field.encode(r.choice(("utf-8", "latin-1"))) + b"\r\n" for field in fields)
        kind = r.random()
        if kind < 0.04:
            return head or b"X: header alone\r\n"
        if kind < 0.06:
            return head + b"".join(b"X-%d: %s\r\n" % (i, b"v" * r.randrange(200)) for i in range(1000)) + b"\r\n"
        if kind < 0.6:
            return head + self.multipart(depth)
        return head + self.part(depth)

    def mails(self, count):
        senders = ("a@example.net", "x+y=z@sub.example.net", "MAILER-DAEMON@example.net", "", '"a b"@example.net',
                   "gr\u00fc\u00dfe@example.net", "u@xn--bcher-kva.example")
        for i in range(count):
            data = self.message()
            # One message in ten has been through hands that break line ends.
            if i % 10 == 9:
                at = self.random.randrange(len(data))
                data = data[:at] + self.random.choice((b"\r", b"\n", b"\r\r\n")) + data[at:]
            yield Mail(f"generated {i}", self.random.choice(senders), data)


def lone(data):
    """Whether there is a CR or LF that is not part of a CRLF."""
    return re.search(rb"\r(?!\n)|(?<!\r)\n", data) is not None


@pytest.fixture(scope="module")
def mails():
    """(those for DATA, those that DATA must refuse)"""
    found = list(Generator(2014).mails(400))
    if ARCHIVE.exists():
        found += from_corpus()
        assert len(found) > 4000
    sound = [mail for mail in found if not lone(mail.data)]
    broken = [mail for mail in found if lone(mail.data)]
    assert len(sound) >= 350 and len(broken) >= 20
    return sound, broken


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    platform = Platform(tmp_path_factory.mktemp("corpus") / "platform").init()
    for address in (ACCOUNT, BY_BDAT, BY_SWAKS, BY_APPEND):
        platform.add_account(address)
    platform.start()
    yield platform
    assert platform.stop() == 0


# ---- In ----


def options_for(mail):
    options = []
    if not mail.data.isascii():
        options.append("BODY=8BITMIME")
    head = mail.data.split(b"\r\n\r\n", 1)[0]
    if not head.isascii() or not mail.sender.isascii():
        options.append("SMTPUTF8")
    return options


def in_threads(work, items):
    """work(part) on CONNECTIONS threads; the first exception is raised."""
    failures = []

    def run(part):
        try:
            work(part)
        except Exception as failure:
            failures.append(failure)
    threads = [threading.Thread(target=run, args=(items[i::CONNECTIONS],)) for i in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def by_data(server, mails, to):
    with server.smtp() as smtp:
        for mail in mails:
            try:
                smtp.sendmail(mail.sender, [to], mail.data, mail_options=options_for(mail))
            except Exception as problem:
                raise AssertionError(f"{mail.name}: {problem!r}") from problem


def by_bdat(server, mails, to):
    """In pieces that cut wherever they like, also between CR and LF."""
    with server.smtp() as smtp:
        smtp.ehlo()
        for number, mail in enumerate(mails):
            options = options_for(mail)
            smtp.command_encoding = "utf-8" if "SMTPUTF8" in options else "ascii"
            assert smtp.mail(mail.sender, options)[0] == 250, mail.name
            assert smtp.rcpt(to)[0] == 250
            size = (1, 7, 1000, 65536, len(mail.data) + 1)[number % 5]
            size = max(size, len(mail.data) // 50)
            pieces = [mail.data[at:at + size] for at in range(0, len(mail.data), size)]
            for i, piece in enumerate(pieces):
                last = b" LAST" if i == len(pieces) - 1 and number % 2 else b""
                smtp.send(b"BDAT %d%s\r\n" % (len(piece), last) + piece)
                assert smtp.getreply()[0] == 250, (mail.name, i)
            if not number % 2:
                smtp.send(b"BDAT 0 LAST\r\n")
                assert smtp.getreply()[0] == 250, mail.name


def stored_mails(server, address):
    imap = server.imap(address)
    found = fetch_all(imap)
    imap.logout()
    return found


def compare(sent, stored):
    """Both as they are: what is in one and not in the other is named."""
    names = {mail.data: mail.name for mail in sent}
    missing = collections.Counter(mail.data for mail in sent) - collections.Counter(stored)
    extra = collections.Counter(stored) - collections.Counter(mail.data for mail in sent)
    assert not missing and not extra, (f"{sum(missing.values())} of {len(sent)} are not as they were sent, such as "
                                       f"{[names[data] for data in missing][:10]}; "
                                       f"instead: {[data[:300] for data in extra][:2]}")


def as_data_gives(mail):
    """DATA cannot say that a message ends without a line end."""
    return mail if mail.data.endswith(b"\r\n") else mail._replace(data=mail.data + b"\r\n")


@pytest.fixture(scope="module")
def delivered(server, mails):
    """{uid: stored bytes} of all sound messages, sent by SMTP."""
    in_threads(lambda part: by_data(server, part, ACCOUNT), mails[0])
    return stored_mails(server, ACCOUNT)


def test_all_by_data(mails, delivered):
    compare([as_data_gives(mail) for mail in mails[0]], [without_added(data) for data in delivered.values()])


def test_senders_are_kept(mails, delivered):
    sent = collections.Counter(f"Return-Path: <{mail.sender}>\r\n".encode() for mail in mails[0])
    assert collections.Counter(data[:data.index(b"\n") + 1] for data in delivered.values()) == sent


def test_sample_by_bdat(server, mails):
    """BDAT counts bytes, so that the end needs no line end."""
    sample = mails[0][::25]
    sample += [mail for mail in mails[0] if not mail.data.endswith(b"\r\n")][:50]
    in_threads(lambda part: by_bdat(server, part, BY_BDAT), sample)
    compare(sample, [without_added(data) for data in stored_mails(server, BY_BDAT).values()])


@pytest.mark.skipif(not shutil.which("swaks"), reason="swaks is not installed")
def test_sample_by_swaks(server, mails, tmp_path):
    # swaks fills in %WORD%, and takes a final dot for the end of DATA.
    fit = [mail for mail in mails[0] if mail.data.endswith(b"\r\n") and mail.data.isascii() and mail.sender and
           not re.search(rb"%[A-Z_]+%|(?s:\.\r\n\Z)", mail.data) and ADDRESS.fullmatch(mail.sender)]
    sample = random.Random(7).sample([mail for mail in fit if re.search(rb"(?m)^\.", mail.data)], 3)
    sample += random.Random(8).sample(fit, 5)
    for mail in sample:
        path = tmp_path / "mail"
        path.write_bytes(mail.data[:-2])  # swaks adds the last line end
        subprocess.run(["swaks", "--server", "127.0.0.1", "--port", str(server.ports["smtp"]), "--from", mail.sender,
                        "--to", BY_SWAKS, "--helo", "client.example.net", "--data", f"@{path}", "--silent", "2"],
                       check=True, timeout=60)
    compare(sample, [without_added(data) for data in stored_mails(server, BY_SWAKS).values()])


def test_lone_line_ends_are_refused_by_data_and_taken_by_append(server, mails):
    """To repair them would change a signed message, to take them would let mail be smuggled; but a copy from another
    server must be possible."""
    broken = mails[1]
    with server.smtp() as smtp:
        smtp.ehlo()
        for mail in broken:
            assert smtp.mail("a@example.net", ["BODY=8BITMIME"])[0] == 250
            assert smtp.rcpt(BY_APPEND)[0] == 250
            assert smtp.docmd("DATA")[0] == 354
            smtp.send(re.sub(rb"(\A|\r\n)\.", rb"\1..", mail.data) + b"\r\n.\r\n")
            code, text = smtp.getreply()
            assert code == 550 and text.startswith(b"5.6.11"), (mail.name, code, text)
    imap = server.imap(BY_APPEND)
    for mail in broken:
        ok(imap_append(imap, "INBOX", mail.data))
    ok(imap.noop())
    compare(broken, fetch_all(imap).values())
    imap.logout()


def imap_append(imap, box, data):
    """imaplib's append() makes CRLF of every line end; this sends the bytes as they are."""
    imap.literal = data
    return imap._simple_command("APPEND", box)


# ---- Out ----


class Expression:
    """Reads what IMAP writes (RFC 3501, 9): lists, strings, literals, atoms, NIL (as None), numbers."""

    def __init__(self, data):
        self.data, self.at = data, 0

    ATOM = re.compile(rb'[^\s(){%*"\\\[\]\x00-\x1f\x7f-\xff]+(\[[^\]]*\](<\d+>)?)?')
    QUOTED = re.compile(rb'"((?:[^"\\\r\n\0]|\\["\\])*)"')
    LITERAL = re.compile(rb"~?\{(\d+)\}\r\n")

    def value(self):
        first = self.data[self.at:self.at + 1]
        if first == b"(":
            return self.list()
        if first == b'"':
            found = self.take(self.QUOTED)
            return re.sub(rb"\\(.)", rb"\1", found.group(1))
        if first in b"~{":
            size = int(self.take(self.LITERAL).group(1))
            assert self.at + size <= len(self.data)
            self.at += size
            return self.data[self.at - size:self.at]
        if first == b"\\":
            self.at += 1
            return "\\" + self.take(self.ATOM).group(0).decode()
        word = self.take(self.ATOM).group(0).decode()
        return None if word == "NIL" else int(word) if word.isdigit() else word

    def take(self, pattern):
        found = pattern.match(self.data, self.at)
        assert found, (pattern.pattern, self.at, self.data[max(0, self.at - 100):self.at + 200])
        self.at = found.end()
        return found

    def list(self):
        values = []
        self.at += 1
        while self.data[self.at:self.at + 1] != b")":
            # One blank between values, none where lists meet.
            if values and self.data[self.at:self.at + 1] == b" ":
                self.at += 1
            values.append(self.value())
        self.at += 1
        return values


def fetched(imap, uids, items):
    """{uid: {item: value}}"""
    answers, pending = {}, b""
    for part in ok(imap.uid("FETCH", uids, items)):
        pending += b"\r\n".join(part) if isinstance(part, tuple) else part
        if isinstance(part, tuple):
            continue
        expression = Expression(pending[pending.index(b" ") + 1:])
        values = expression.value()
        assert expression.at == len(expression.data), pending[-200:]
        assert len(values) % 2 == 0
        answer = dict(zip(values[::2], values[1::2]))
        answers[answer["UID"]] = answer
        pending = b""
    assert not pending
    return answers


@pytest.fixture(scope="module")
def structures(server, delivered):
    imap = server.imap(ACCOUNT)
    found = fetched(imap, "1:*", "(UID RFC822.SIZE ENVELOPE BODYSTRUCTURE BODY)")
    imap.logout()
    assert found.keys() == delivered.keys()
    return found


def is_text(value):
    return value is None or isinstance(value, bytes)


def check_envelope(envelope):
    assert isinstance(envelope, list) and len(envelope) == 10
    for i in (0, 1, 8, 9):
        assert is_text(envelope[i])
    for addresses in envelope[2:8]:
        assert addresses is None or addresses
        for address in addresses or []:
            assert len(address) == 4 and all(map(is_text, address)), address


def check_parameters(value):
    assert value is None or value and len(value) % 2 == 0 and all(isinstance(word, bytes) for word in value), value


def check_extension(fields):
    """Disposition, language, location; what may follow."""
    disposition, language, location = (list(fields) + [None] * 3)[:3]
    if disposition is not None:
        assert len(disposition) == 2 and isinstance(disposition[0], bytes)
        check_parameters(disposition[1])
    assert is_text(language) or all(isinstance(word, bytes) for word in language)
    assert is_text(location)


def check_structure(body, extended, number=""):
    """Yields (section, structure) of each leaf."""
    parts = [part for part in body if isinstance(part, list)]
    if isinstance(body[0], list):
        parts = []
        for part in body:
            if not isinstance(part, list):
                break
            parts.append(part)
        assert isinstance(body[len(parts)], bytes)
        if extended:
            check_parameters(body[len(parts) + 1])
            check_extension(body[len(parts) + 2:])
        else:
            assert len(body) == len(parts) + 1
        for i, part in enumerate(parts, 1):
            yield from check_structure(part, extended, f"{number}.{i}" if number else str(i))
        return
    kind, subtype, parameters, content_id, description, encoding, octets = body[:7]
    assert isinstance(kind, bytes) and isinstance(subtype, bytes) and isinstance(encoding, bytes)
    check_parameters(parameters)
    assert is_text(content_id) and is_text(description) and isinstance(octets, int)
    at = 7
    yield number or "1", body
    if kind.lower() == b"message" and subtype.lower() in (b"rfc822", b"global") and isinstance(body[7], list):
        envelope, inner, lines = body[7:10]
        check_envelope(envelope)
        assert isinstance(lines, int)
        at = 10
        # A multipart inside takes no number of its own; a single part is part 1 of what encloses it.
        inside = number or "1"
        yield from check_structure(inner, extended, inside if isinstance(inner[0], list) else inside + ".1")
    elif kind.lower() == b"text":
        assert isinstance(body[7], int)
        at = 8
    if extended:
        assert len(body) == at or is_text(body[at])
        check_extension(body[at + 1:])
    else:
        assert len(body) == at


def shape(structure):
    """Types of the tree, as lists."""
    if isinstance(structure[0], list):
        parts = [part for part in structure if isinstance(part, list)]
        count = next(i for i, part in enumerate(structure) if not isinstance(part, list))
        return [structure[count].lower().decode("latin-1")] + [shape(part) for part in parts[:count]]
    kind = f"{structure[0].decode('latin-1')}/{structure[1].decode('latin-1')}".lower()
    if kind == "message/rfc822" and isinstance(structure[7], list):
        return [kind, shape(structure[8])]
    return kind


def test_envelopes_and_structures_parse(delivered, structures):
    for uid, answer in structures.items():
        try:
            assert answer["RFC822.SIZE"] == len(delivered[uid])
            check_envelope(answer["ENVELOPE"])
            leaves = list(check_structure(answer["BODYSTRUCTURE"], True))
            plain = list(check_structure(answer["BODY"], False))
            assert [(number, leaf[:7]) for number, leaf in plain] == [(number, leaf[:7]) for number, leaf in leaves]
            assert sum(leaf[6] for _, leaf in leaves if b"message" != leaf[0].lower()) <= len(delivered[uid])
        except (AssertionError, ValueError, IndexError, TypeError) as problem:
            raise AssertionError(f"uid {uid}: {problem!r}: {delivered[uid][:1500]}: {answer}") from problem


def raw_fields(data, name):
    """The unfolded values of a header field."""
    head = re.split(rb"(?:\A|\r\n)\r\n", data, maxsplit=1)[0] + b"\r\n"
    unfolded = re.sub(rb"\r\n(?=[ \t])", b"", head)
    return [value.strip(b" \t") for value in re.findall(rb"(?im)^%s[ \t]*:([^\n]*)\r$" % name, unfolded)]


@pytest.mark.parametrize("position, name", [(0, b"date"), (1, b"subject"), (8, b"in-reply-to"), (9, b"message-id")])
def test_envelope_fields_are_those_of_the_header(delivered, structures, position, name):
    compared = 0
    for uid, data in delivered.items():
        fields = raw_fields(data, name)
        # The first of several is as good as the last; what is not ASCII may be shown as it is or replaced.
        if len(fields) > 1 or not all(field.isascii() for field in fields):
            continue
        compared += bool(fields)
        shown = structures[uid]["ENVELOPE"][position]
        assert (shown or b"").split() == (fields[0] if fields else b"").split(), (uid, data[:2000])
    assert compared > 10


def test_envelope_addresses_are_those_of_the_header(delivered, structures):
    """Where the header has one plain address there is no room for opinions."""
    compared = 0
    for uid, data in delivered.items():
        fields = raw_fields(data, rb"from")
        if len(fields) != 1 or not re.fullmatch(rb"[\w.-]+@[\w.-]+\w|\w[\w ]* <[\w.-]+@[\w.-]+\w>", fields[0]):
            continue
        [address] = structures[uid]["ENVELOPE"][2]
        name, _, mailbox = fields[0].rpartition(b"<")
        assert address[0] == (name.strip() or None), (uid, fields, address)
        assert b"@".join(address[2:]) == mailbox.strip(b">"), (uid, fields, address)
        compared += 1
    assert compared > 10


def python_shape(message):
    kind = message.get_content_type()
    if message.is_multipart():
        inner = [python_shape(part) for part in message.get_payload()]
        return [kind if kind == "message/rfc822" else message.get_content_subtype()] + inner
    return kind


def has_defects(message):
    return any(part.defects for part in message.walk()) or any(
        part.get_content_maintype() == "multipart" and not part.is_multipart() for part in message.walk())


def test_structures_are_what_python_finds(mails, delivered, structures):
    """Where a message has no defects two parsers must agree."""
    compared = 0
    for uid, data in delivered.items():
        message = email.message_from_bytes(data, policy=email.policy.compat32)
        # Python takes message/* other than rfc822 apart too, and has its own mind about types that are none.
        if has_defects(message) or any(
                part.get_content_maintype() == "message" and part.get_content_subtype() != "rfc822" or
                part.get("content-type") and not re.match(r"[\w-]+/[\w.+-]+ *(;|$)", str(part["content-type"])) or
                len(part.get_all("content-type", [])) > 1 for part in message.walk()):
            continue
        found = python_shape(message)
        assert shape(structures[uid]["BODYSTRUCTURE"]) == found, (uid, data[:3000])
        compared += 1
    assert compared > len(delivered) // 8


def test_sections_have_the_sizes_that_the_structure_says(server, delivered, structures):
    sample = list(delivered)[::SAMPLE_STEP]

    def check(uids):
        imap = server.imap(ACCOUNT)
        for uid in uids:
            whole, leaves = delivered[uid], list(check_structure(structures[uid]["BODYSTRUCTURE"], True))[:20]
            items = "".join(f" BODY.PEEK[{number}] BODY.PEEK[{number}.MIME]" for number, _ in leaves)
            answer = fetched(imap, str(uid), f"(UID BODY.PEEK[HEADER] BODY.PEEK[TEXT]{items})")[uid]
            assert answer["BODY[HEADER]"] + answer["BODY[TEXT]"] == whole
            for number, leaf in leaves:
                bytes_, context = answer[f"BODY[{number}]"] or b"", (uid, number, leaf[:7], whole[:1500])
                assert len(bytes_) == leaf[6], context
                assert (answer[f"BODY[{number}.MIME]"] or b"") + bytes_ in whole, context
                if leaf[0].lower() == b"text":
                    # Whether a last line without its end is a line is left open.
                    assert 0 <= leaf[7] - bytes_.count(b"\n") <= 1, context
        imap.logout()
    in_threads(check, sample)
