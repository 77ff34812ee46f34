"""Random IMAP scripts, the same for two servers, and what of their answers must be alike.

A script is a list of steps (session, command); `%T` in a command stands for a folder that is new for every run. A script is
made from its seed alone. Before each step the session asks NOOP, so that both servers tell what other sessions did."""
import datetime
import random
import re
import socket

SESSIONS = 2
FLAGS = ["\\Seen", "\\Answered", "\\Flagged", "\\Deleted", "\\Draft", "$Forwarded", "Work"]
BOXES = ["A", "B", "B/C", "D"]
OPENED = ["A", "B"]        # which are not deleted or renamed: what their sessions are told is the server's choice (RFC 2180, 3)
CHANGED = ["B/C", "D"]  # SUBSCRIBE is for the others: that of a name that is not there may be refused (RFC 3501, 6.3.6)
MIXED = ("Content-Type: multipart/mixed; boundary=\"=b1\"\r\nMIME-Version: 1.0\r\n\r\npreamble\r\n--=b1\r\n"
         "Content-Type: text/plain; charset=utf-8; format=flowed\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
         "Gr=C3=BC=C3=9Fe to all\r\n--=b1\r\nContent-Type: application/octet-stream; name=\"a b.bin\"\r\n"
         "Content-Disposition: attachment; filename=\"a b.bin\"\r\nContent-Transfer-Encoding: base64\r\nContent-ID: <p@x>\r\n"
         "Content-Description: some bytes\r\nContent-Language: en, de\r\n\r\nAAECAwQFBgc=\r\n--=b1\r\nContent-Type: message/rfc822\r\n\r\n"
         "From: inner@example.org\r\nSubject: inside\r\nDate: Mon, 4 Mar 2024 10:00:00 +0000\r\n\r\ninner body\r\n--=b1--\r\nepilogue\r\n")
ALTERNATIVE = ("MIME-Version: 1.0\r\nContent-Type: multipart/alternative; boundary=xx\r\n\r\n--xx\r\n\r\nplain words\r\n--xx\r\n"
               "Content-Type: text/html\r\n\r\n<p>hyper</p>\r\n--xx--\r\n")
PLAIN = "\r\nhello world, apples and pears\r\n"


def pool():
    subjects = ["apple", "Re: apple", "Fwd: [list] Apple", "=?utf-8?Q?Gr=C3=BC=C3=9Fe?=", "zebra (fwd)", "Re[2]: zebra", "", "b _ c"]
    senders = ["Ada <ada@example.com>", "\"Doe, Jane\" <jane@example.net>", "bob@example.org (Bob)", "=?iso-8859-1?Q?J=FCrgen?= <j@x.de>"]
    bodies = [PLAIN, MIXED, ALTERNATIVE, "\r\n", "Content-Type: text/plain\r\n\r\nline one\r\n.\r\nline three\r\n", PLAIN * 20]
    made = []
    for i in range(24):
        head = f"From: {senders[i % 4]}\r\nTo: one@example.com, Two <two@example.com>\r\nSubject: {subjects[i * 5 % 8]}\r\n"
        head += f"Date: {'Tue, 5' if i % 2 else 'Wed, 6'} Mar 2024 {i % 24:02}:{i * 7 % 60:02}:00 +0{i % 4}00\r\n"
        if i % 7:
            head += f"Message-ID: <m{i}@x>\r\n"
        if i % 3 == 1:
            head += f"References: <m{i - 1}@x>\r\n" if i % 2 else f"In-Reply-To: <m{i // 2}@x>\r\n"
        if i % 6 == 2:
            head += "Cc: cc@example.com, group: g1@x.org, g2@x.org;\r\nReply-To: reply@example.com\r\n"
        if i % 8 == 3:
            head += "X-Long: " + "word " * 14 + "\r\n\tfolded\r\n"
        made.append((head + bodies[i % 6]).encode())
    return made


MESSAGES = pool()


# ---- Scripts ----

class Maker:
    def __init__(self, seed):
        self.r = random.Random(seed)

    def some(self, items, low=1, high=3):
        return self.r.sample(items, self.r.randint(low, min(high, len(items))))

    def number(self):
        return self.r.choice(["1", "2", "3", "*", str(self.r.randint(1, 5))])

    def set(self):
        r = self.r
        return r.choice(["1:*", "1", "*", self.number(), f"{self.number()}:{self.number()}",
                         f"{self.r.randint(1, 4)},{self.r.randint(1, 4)}", "2:3"])

    def box(self, names=BOXES):
        return "%T/" + self.r.choice(names)

    def flags(self, low=0):
        return "(" + " ".join(self.some(FLAGS, low)) + ")"

    def text(self):
        return self.r.choice(["apple", "APPLE", "example", "hello", "\"Gr\"", "zebra", "nothing", "ada", "inner"])

    def date(self):
        return self.r.choice(["4-Mar-2024", "5-Mar-2024", "6-Mar-2024", "1-Jan-2020", "1-Feb-2023"])

    def key(self, depth=0):
        r = self.r
        if depth < 2 and r.random() < 0.3:
            return r.choice([f"NOT {self.key(2)}", f"OR {self.key(depth + 1)} {self.key(depth + 1)}",
                             f"({self.key(depth + 1)} {self.key(depth + 1)})"])
        return r.choice([
            "ALL", "SEEN", "UNSEEN", "ANSWERED", "UNANSWERED", "FLAGGED", "UNFLAGGED", "DELETED", "UNDELETED", "DRAFT", "UNDRAFT",
            "KEYWORD Work", "UNKEYWORD Work", "KEYWORD $Forwarded", f"FROM {self.text()}", f"TO {self.text()}", f"CC {self.text()}",
            f"SUBJECT {self.text()}", f"BODY {r.choice(['apples', 'HELLO', 'zebra', 'pears', 'words', 'nothing'])}", f"TEXT {self.text()}",
            f"BEFORE {self.date()}", f"ON {self.date()}",
            f"SINCE {self.date()}", f"SENTBEFORE {self.date()}", f"SENTON {self.date()}", f"SENTSINCE {self.date()}",
            f"LARGER {r.choice([100, 300, 600])}", f"SMALLER {r.choice([100, 300, 600])}", f"UID {self.set()}",
            f"HEADER Message-ID {r.choice(['m', 'm3', 'zz'])}", "HEADER Cc \"\"", "1:*", "OLDER 100", "YOUNGER 100"])

    def keys(self):
        return " ".join(self.key() for _ in range(self.r.randint(1, 3)))

    def section(self):
        r = self.r
        part = r.choice(["", "1", "2", "3", "3.1", "4"])
        tail = r.choice(["", "HEADER", "TEXT", "MIME", "HEADER.FIELDS (Subject From)", "HEADER.FIELDS.NOT (To Date)"])
        if tail == "MIME" and not part:
            tail = "HEADER"
        partial = r.choice(["", "", f"<{r.choice([0, 5, 10000])}.{r.choice([1, 20, 5000])}>"])
        return f"BODY{r.choice(['', '.PEEK'])}[{'.'.join(x for x in (part, tail) if x)}]{partial}"

    def items(self):
        items = ["FLAGS", "UID", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE", "BODYSTRUCTURE", "BODY", "RFC822.HEADER", "RFC822.TEXT",
                 self.section(), self.section()]
        return self.r.choice(["ALL", "FAST", "FULL"]) if self.r.random() < 0.1 else f"({' '.join(self.some(items))})"

    def sort(self):
        keys = ["ARRIVAL", "CC", "DATE", "FROM", "SIZE", "SUBJECT", "TO"]
        return " ".join(self.r.choice(["", "REVERSE "]) + k for k in self.some(keys, 1, 2))

    def status(self):
        return "(" + " ".join(self.some(["MESSAGES", "UIDNEXT", "UNSEEN", "UIDVALIDITY"])) + ")"

    def append(self, box=None):
        r = self.r
        when = r.choice(["", f"\" 5-Mar-2024 {r.randint(10, 23)}:30:00 +0100\"", "\" 4-Mar-2024 15:30:00 -0500\""])
        given = when or f"\"{r.randint(10, 28)}-Feb-2023 12:00:00 +0000\""
        return f"APPEND {box or self.box()} {self.flags()} {given} {{MESSAGE {r.randrange(len(MESSAGES))}}}"

    def command(self):
        r, uid = self.r, self.r.choice(["", "UID "])
        kinds = [
            (12, lambda: f"{uid}FETCH {self.set()} {self.items()}"),
            (10, lambda: f"{uid}STORE {self.set()} {r.choice(['', '+', '-'])}FLAGS{r.choice(['', '.SILENT'])} {self.flags()}"),
            (12, lambda: f"{uid}SEARCH {self.keys()}"),
            (4, lambda: f"{uid}SEARCH RETURN ({' '.join(self.some(['MIN', 'MAX', 'ALL', 'COUNT']))}) {self.keys()}"),
            (6, lambda: f"{uid}SORT ({self.sort()}) UTF-8 {self.keys()}"),
            (4, lambda: f"{uid}THREAD {r.choice(['REFERENCES', 'ORDEREDSUBJECT'])} UTF-8 {r.choice(['ALL', self.key()])}"),
            (5, lambda: f"{uid}COPY {self.set()} {self.box()}"), (4, lambda: f"{uid}MOVE {self.set()} {self.box()}"),
            (6, self.append), (4, lambda: "EXPUNGE"), (2, lambda: f"UID EXPUNGE {self.set()}"), (1, lambda: "CLOSE"),
            (1, lambda: "UNSELECT"), (4, lambda: f"{r.choice(['SELECT', 'SELECT', 'EXAMINE'])} {self.box(OPENED)}"),
            (3, lambda: f"STATUS {self.box()} {self.status()}"), (2, lambda: f"CREATE {self.box(CHANGED)}"),
            (2, lambda: f"DELETE {self.box(CHANGED)}"),
            (2, lambda: f"RENAME {self.box(CHANGED)} {self.box(CHANGED)}"), (2, lambda: f"SUBSCRIBE {self.box(OPENED)}"),
            (1, lambda: f"UNSUBSCRIBE {self.box(OPENED)}"), (3, lambda: f"LIST \"\" %T/{r.choice(['%', '*', '%/%', 'B*', '%C'])}"),
            (1, lambda: f"LSUB \"\" %T/{r.choice(['%', '*'])}"),
            (2, lambda: f"LIST {r.choice(['', '(SUBSCRIBED) '])}\"\" %T/* RETURN ({r.choice(['SUBSCRIBED', 'CHILDREN', 'STATUS (MESSAGES)'])})")]
        return r.choices([k for _, k in kinds], [w for w, _ in kinds])[0]()

    def script(self):
        r = self.r
        steps = [(0, "CREATE %T/A"), (0, "CREATE %T/B")]
        steps += [(0, self.append("%T/A")) for _ in range(r.randint(1, 6))]
        steps += [(s, "SELECT %T/A") for s in range(SESSIONS)]
        return steps + [(r.randrange(SESSIONS), self.command()) for _ in range(r.randint(5, 20))]


# ---- Answers ----

class Closed(Exception):
    pass


class Session:
    def __init__(self, port, user, password):
        self.socket = socket.create_connection(("127.0.0.1", port), 30)
        self.file = self.socket.makefile("rb")
        self.count = 0
        self.file.readline()
        self.ask(f"LOGIN {user} {password}")

    def close(self):
        self.file.close()
        self.socket.close()

    def line(self):
        """One answer, its literals in place."""
        whole = b""
        while True:
            try:
                part = self.file.readline()
            except ConnectionError:
                part = b""
            if not part:
                raise Closed
            whole += part
            literal = re.search(rb"\{(\d+)\}\r\n$", part)
            if not literal:
                return whole[:-2]
            whole += self.file.read(int(literal.group(1)))

    def ask(self, command, message=None):
        """(the tagged answer without its tag, the untagged ones)."""
        self.count += 1
        tag = f"t{self.count}".encode()
        try:
            self.send(tag, command, message)
        except ConnectionError:
            raise Closed from None
        return self.answers(tag)

    def send(self, tag, command, message):
        if message is None:
            self.socket.sendall(tag + b" " + command.encode() + b"\r\n")
        else:
            self.socket.sendall(tag + b" " + command.encode() + b" {%d+}\r\n" % len(message) + message + b"\r\n")

    def answers(self, tag):
        untagged = []
        while True:
            line = self.line()
            if line.startswith(tag + b" "):
                return line[len(tag) + 1:], untagged
            if line.startswith(b"* "):
                untagged.append(line[2:])


def parse(line):
    """Lists, bytes, and None for NIL. A string and an atom of the same octets are alike."""
    at, stack = 0, [[]]
    while at < len(line):
        c = line[at:at + 1]
        if c == b" ":
            at += 1
        elif c == b"(":
            stack.append([])
            at += 1
        elif c == b")":
            done = stack.pop()
            stack[-1].append(done)
            at += 1
        elif c == b'"':
            end, text = at + 1, bytearray()
            while line[end] != 34:
                end += line[end] == 92
                text.append(line[end])
                end += 1
            stack[-1].append(bytes(text))
            at = end + 1
        elif literal := re.compile(rb"\{(\d+)\}\r\n").match(line, at):
            at = literal.end() + int(literal.group(1))
            stack[-1].append(line[literal.end():at])
        else:
            atom = re.compile(rb"(?:BODY|BINARY)\[[^\]]*\](?:<\d+>)?|[^ ()]+", re.I).match(line, at)
            stack[-1].append(None if atom.group().upper() == b"NIL" else atom.group())
            at = atom.end()
    return stack[0]


# ---- What must be alike. Each rule names why it lets servers differ. ----

KEPT_ATTRIBUTES = {b"\\haschildren", b"\\hasnochildren", b"\\noselect", b"\\nonexistent", b"\\subscribed"}


def lower(tree):
    if tree == [b"charset", b"us-ascii"]:
        return None  # the default of text/plain (RFC 2046, 4.1.2), which some tell for all of text (RFC 6657)
    return [lower(x) if isinstance(x, list) else x.lower() if isinstance(x, bytes) else x for x in tree]


def flags(tree):
    """RFC 9051, appendix E: \\Recent is given up. The order of flags means nothing."""
    return sorted(f.lower() for f in tree if f.lower() != b"\\recent")


def numbers(text):
    found = set()
    for part in text.split(b","):
        first, _, last = part.partition(b":")
        found |= set(range(int(first), int(last or first) + 1))
    return sorted(found)


class Answer:
    """One answer as it is compared. It knows what UIDVALIDITYs stand for, which are the server's own (RFC 3501, 2.3.1.1)."""

    def __init__(self, folder, command, tagged, untagged):
        self.folder, self.command = folder.encode(), command
        self.found = {"": self.status(tagged)}
        for line in untagged:
            self.add(line)
        if "SEARCH" in command and "RETURN" not in command and self.found[""].startswith(b"OK"):
            self.found.setdefault("SEARCH", [])  # RFC 3501, 7.2.5: one with nothing found may be empty or left out

    def status(self, tagged):
        """OK, NO or BAD, and the codes that say what happened. The text is for people (RFC 3501, 7.1)."""
        code = re.match(rb"(\w+) \[(APPENDUID|COPYUID|TRYCREATE)([^\]]*)\]", tagged)
        if not code:
            return tagged.split(b" ")[0]
        words = code.group(3).split()
        return b" ".join([code.group(1), code.group(2)] + [b",".join(b"%d" % n for n in numbers(w)) for w in words[1:]])

    def name(self, name):
        return (name or b"NIL").replace(self.folder, b"%T")

    def add(self, line):
        words = line.split(b" ", 2)
        kind = words[0].upper()
        if kind in (b"OK", b"NO", b"BAD"):
            code = re.match(rb"\w+ \[(UIDNEXT|UNSEEN|COPYUID)([^\]]*)\]", line, re.I)
            if code and code.group(1).upper() == b"COPYUID":  # RFC 6851, 4.3: untagged for MOVE
                self.found["COPYUID"] = [numbers(w) for w in code.group(2).split()[1:]]
            elif code:
                self.found[code.group(1).decode()] = code.group(2)
        elif kind == b"BYE":
            self.found["BYE"] = True
        elif kind in (b"SEARCH", b"SORT"):
            result = [int(n) for n in line.split()[1:] if n.isdigit()]
            self.found[kind.decode()] = sorted(result) if kind == b"SEARCH" else result
        elif kind == b"THREAD":
            self.found["THREAD"] = parse(line)[1:]
        elif kind == b"ESEARCH":
            tree = parse(line)[1:]
            tree = [x for x in tree if not isinstance(x, list) and x.upper() != b"UID"]
            self.found["ESEARCH"] = sorted((k.upper(), tuple(numbers(v))) for k, v in zip(tree[::2], tree[1::2]))
        elif kind in (b"LIST", b"LSUB"):
            tree = parse(line)
            kept = tuple(f for f in flags(tree[1]) if f in KEPT_ATTRIBUTES)
            if "RETURN" in self.command and "CHILDREN" not in self.command:
                # Not asked for, and may be told (RFC 5258, 4).
                kept = tuple(f for f in kept if not f.startswith(b"\\has"))
            self.found.setdefault(kind.decode(), {})[self.name(tree[3])] = (kept, tree[2])
        elif kind == b"STATUS":
            tree = parse(line)
            pairs = {k.upper(): v for k, v in zip(tree[2][::2], tree[2][1::2])}
            pairs.pop(b"UIDVALIDITY", None)
            self.found.setdefault("STATUS", {})[self.name(tree[1])] = pairs
        elif kind.isdigit() and words[1].upper() == b"EXISTS":
            self.found["EXISTS"] = int(kind)
        elif kind.isdigit() and words[1].upper() == b"EXPUNGE":
            self.found.setdefault("EXPUNGE", []).append(int(kind))
        elif kind.isdigit() and words[1].upper() == b"FETCH":
            tree = parse(words[2])[0]
            message = self.found.setdefault("FETCH", {}).setdefault(int(kind), {})
            for key, value in zip(tree[::2], tree[1::2]):
                key = key.upper()
                if key == b"FLAGS":
                    value = flags(value)
                elif key in (b"BODYSTRUCTURE", b"BODY"):
                    value = lower(value)  # RFC 2045, 5.1, 6.1: types, names and encodings in any case
                elif key == b"INTERNALDATE":  # the same moment in any zone (RFC 3501, 2.3.3)
                    value = datetime.datetime.strptime(value.decode().strip(), "%d-%b-%Y %H:%M:%S %z").timestamp()
                elif key.startswith(b"BODY[") and not value:
                    value = b""  # a part that is not there is NIL or empty: an nstring (RFC 3501, 7.4.2)
                if key != b"MODSEQ":
                    message[key] = value

    def settled(self):
        """EXPUNGEs as the set of messages that went: their order is the server's (RFC 3501, 7.4.1)."""
        found = dict(self.found)
        gone, result = [], []
        for n in found.get("EXPUNGE", []):
            for before in sorted(gone):
                n += before <= n
            gone.append(n)
            result.append(n)
        if result:
            found["EXPUNGE"] = sorted(result)
        if "FETCH" in found and not re.search("FETCH", self.command):
            # What was not asked for says flags; the UID may stand beside them (RFC 3501, 7.4.2).
            found["FETCH"] = {n: m.get(b"FLAGS") for n, m in found["FETCH"].items()}
        elif "FETCH" in found and not self.command.startswith("UID"):
            asked = self.command.upper()
            for message in found["FETCH"].values():
                if "UID" not in asked:
                    message.pop(b"UID", None)
        return found


class Runner:
    """A server with sessions on it."""

    def __init__(self, name, port, user, password):
        self.name, self.login = name, (port, user, password)
        self.sessions = []
        self.runs = 0

    def connect(self):
        for session in self.sessions:
            session.close()
        self.sessions = [Session(*self.login) for _ in range(SESSIONS)]

    def ask(self, session, command, folder):
        text, message = command.replace("%T", folder), None
        if given := re.search(r" \{MESSAGE (\d+)\}$", text):
            text, message = text[:given.start()], MESSAGES[int(given.group(1))]
        tagged, untagged = self.sessions[session].ask(text, message)
        return Answer(folder, text, tagged, untagged).settled()

    def run(self, script):
        """For each step three answers: that of a NOOP before it, its own, and which messages and flags there are behind it."""
        self.runs += 1
        folder = f"t{self.runs}"
        if not self.sessions:
            self.connect()
        answers = []
        for session, command in script:
            try:
                answers.append([self.ask(session, text, folder) for text in ("NOOP", command, "UID FETCH 1:* FLAGS")])
            except Closed:
                answers.append([{}, {"": b"closed"}, {}])
                self.connect()
        self.clean(folder)
        return answers

    def clean(self, folder):
        try:
            for session in range(SESSIONS):
                self.sessions[session].ask("UNSELECT")
            for name in ["B/C", "D/C", "A/C", "A", "B", "D", ""]:
                full = f"{folder}/{name}".rstrip("/")
                self.sessions[0].ask(f"UNSUBSCRIBE {full}")
                self.sessions[0].ask(f"DELETE {full}")
        except Closed:
            self.connect()


def alike(command, read_only, one, two):
    """Whether the answers to a step are: what each rule lets differ shows in the state behind the step, if it matters."""
    mine, other = dict(one[1]), dict(two[1])
    if "STORE" in command and "SILENT" not in command:
        # Flags that stay as they are: RFC 3501, 6.4.6 wants them told, and not every server does.
        told = [a.pop("FETCH", {}) for a in (mine, other)]
        if any(told[0][n] != told[1][n] for n in set(told[0]) & set(told[1])):
            return False
    if {mine[""], other[""]} == {b"OK", b"BAD"} and not (one[2].get("FETCH") or two[2].get("FETCH")):
        # Sequence numbers of an empty mailbox: BAD is what it should be, no more (RFC 3501, 9, seq-number).
        mine[""] = other[""] = b"OK"
        mine.pop("SEARCH", 0), other.pop("SEARCH", 0)
    if command.startswith("UID ") and {mine[""], other[""]} == {b"OK", b"NO TRYCREATE"}:
        # No such UIDs, which is no error (RFC 3501, 6.4.8), to a mailbox that is not there, which is one (6.4.7).
        mine[""] = other[""] = b"OK"
    if read_only and re.match("(UID )?(STORE|EXPUNGE|MOVE)", command) and b"COPYUID" not in mine[""] + other[""]:
        mine[""] = other[""] = b"NO"  # refused, or left undone, in a mailbox that EXAMINE opened (RFC 3501, 6.3.2)
    return mine == other and one[0] == two[0] and one[2] == two[2]


def first_difference(script, runners):
    """(index of the step, the answers) or None."""
    answers = [runner.run(script) for runner in runners]
    read_only = set()
    for i, (session, command) in enumerate(script):
        if command.startswith(("SELECT", "EXAMINE")):
            (read_only.add if command.startswith("E") else read_only.discard)(session)
        if answers[1][i][1].get("") == b"closed" != answers[0][i][1].get(""):
            return None  # the peer ended the session: nothing to compare with
        if session in read_only and "MOVE" in command and "COPYUID" in answers[1][i][1] and answers[0][i][1][""] == b"NO":
            return None  # Dovecot moves out of a mailbox that EXAMINE opened, which changes it (RFC 3501, 6.3.2)
        if not alike(command, session in read_only, answers[0][i], answers[1][i]):
            return i, [a[i] for a in answers]
    return None


def shrink(script, runners):
    """A script as short as leaving steps out makes it, that still shows a difference in its last step."""
    index, _ = first_difference(script, runners) or (len(script) - 1, None)
    script = script[:index + 1]
    at = len(script) - 2
    while at >= 0:
        shorter = script[:at] + script[at + 1:]
        found = first_difference(shorter, runners)
        if found and shorter[found[0]] == script[-1]:
            script = shorter[:found[0] + 1]
        at = min(at, len(script) - 1) - 1
    return script
