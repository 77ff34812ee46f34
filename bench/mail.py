"""Messages modelled on real mail: headers as they arrive after three hops, plain text, HTML beside it, attachments,
threads, addresses and words that repeat as they do in language. The same seed gives the same messages."""
import base64
import os
import random
import time

SYLLABLES = ("ba be bo ca ce co da de di do fa fe fi ga ge go ha he hi la le li lo ma me mi mo na ne ni no pa pe po ra re ri ro "
             "sa se si so ta te ti to va ve vi za").split()
COMMON = ("the of and to in a is that for it as was with be by on not he his but at are this have from or had an they which one "
          "you were her all their there would we him been has when who will more no if out so said what up its about into than "
          "them can only other new some could time these two may then do first any my now such like our over me even most made "
          "after also did many before must through back years where much your way well down should because each just those").split()
FIRST = "Anna Ben Clara David Emma Felix Greta Hugo Ida Jonas Karin Lars Marta Nils Olga Paul Rosa Sven Tina Viktor".split()
LAST = "Adler Berg Costa Dubois Eriksen Fischer Garcia Hansen Ivanova Jansen Keller Lindqvist Moreau Novak Olsen Petrov".split()
HOSTS = "example.org example.net mail.example.org lists.example.net shop.example.org example.com".split()
NEEDLE = "needlexyzzy"


class Writer:
    def __init__(self, seed=1):
        self.rnd = random.Random(seed)
        words = set()
        while len(words) < 12000:
            words.add("".join(self.rnd.choice(SYLLABLES) for _ in range(self.rnd.choice((2, 2, 3, 3, 4)))))
        self.words = COMMON + sorted(words, key=lambda w: self.rnd.random())
        total, self.weights = 0.0, []
        for rank in range(len(self.words)):
            total += 1 / (rank + 2.7)  # Zipf's law, as Mandelbrot corrected it
            self.weights.append(total)
        self.subjects = {}
        self.binary = self.rnd.randbytes(1 << 20)  # what compresses no further, as pictures and PDFs do

    def text(self, count):
        return self.rnd.choices(self.words, cum_weights=self.weights, k=count)

    def paragraphs(self, size):
        """About so many octets of sentences, in lines of up to 76."""
        lines, line, total = [], "", 0
        words = self.text(size // 4 + 8)
        for i, word in enumerate(words):
            if i % 13 == 0:
                word = word.capitalize()
            elif i % 13 == 12:
                word += "."
            if len(line) + len(word) > 75:
                lines.append(line)
                total += len(line) + 2
                line = word
                if total >= size:
                    break
                if self.rnd.random() < 0.12:
                    lines.append("")
                    total += 2
            else:
                line = f"{line} {word}" if line else word
        return lines

    def html(self, size):
        out = ["<!DOCTYPE html>", '<html><head><meta charset="utf-8"><style>body{font-family:sans-serif;font-size:14px}</style></head><body>']
        total = sum(map(len, out)) + 4
        while total < size:
            block = ['<table width="600" cellpadding="0" cellspacing="0" border="0"><tr>', '<td style="padding:12px 8px;color:#333333">',
                     *self.paragraphs(240),
                     f'<a href="https://shop.example.org/t/{self.rnd.getrandbits(64):016x}">{self.text(1)[0]}</a></td></tr></table>']
            out += block
            total += sum(len(line) + 2 for line in block)
        return out + ["</body></html>"]

    def attachment(self, size):
        start = self.rnd.randrange(len(self.binary) - 1)
        raw = (self.binary[start:] + self.binary)[:max(size * 57 // 78, 57)]
        text = base64.b64encode(raw).decode()
        return [text[i:i + 76] for i in range(0, len(text), 76)]

    def person(self):
        first, last = self.rnd.choice(FIRST), self.rnd.choice(LAST)
        return f"{first} {last} <{first.lower()}.{last.lower()}{self.rnd.randrange(40)}@{self.rnd.choice(HOSTS)}>"

    def headers(self, number, message_id):
        rnd = self.rnd
        at = 1690000000 + number * 377
        date = time.strftime("%a, %d %b %Y %H:%M:%S +0000", time.gmtime(at))
        out = [f"Received: from mx{rnd.randrange(4)}.example.net (mx.example.net [192.0.2.{rnd.randrange(1, 255)}])",
               f"\tby mail.example.com with ESMTPS id {rnd.getrandbits(60):015x}", f"\tfor <user@example.com>; {date}",
               f"Received: from [10.{rnd.randrange(255)}.{rnd.randrange(255)}.7] (unknown [198.51.100.{rnd.randrange(1, 255)}])",
               f"\t(using TLSv1.3 with cipher TLS_AES_256_GCM_SHA384 (256/256 bits))",
               f"\tby mx.example.net (MTA) with ESMTPSA id {rnd.getrandbits(44):011X}; {date}"]
        if rnd.random() < 0.7:
            sig = base64.b64encode(rnd.randbytes(256)).decode()
            out += [f"DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=example.org; s=s{rnd.randrange(9)};",
                    "\th=from:to:subject:date:message-id:mime-version; t=%d;" % at,
                    "\tbh=%s;" % base64.b64encode(rnd.randbytes(32)).decode(),
                    *(("\tb=" if i == 0 else "\t ") + sig[i:i + 72] for i in range(0, len(sig), 72))]
        reply = number > 20 and rnd.random() < 0.45
        parent = number - rnd.randrange(1, 20) if reply else None
        if reply:
            subject = self.subjects.get(parent, f"Message {parent}")
        else:
            subject = " ".join(self.text(rnd.randrange(2, 8))).capitalize() + (f" number {number}" if number % 3 == 0 else "")
        self.subjects[number] = subject
        self.subjects.pop(number - 40, None)
        shown = f"Re: {subject}" if reply else subject
        if rnd.random() < 0.1:
            shown = "=?utf-8?B?" + base64.b64encode((shown[:30] + " für später").encode()).decode() + "?="
        out += [f"From: {self.person()}", "To: User <user@example.com>" + (f",\r\n\t{self.person()}" if rnd.random() < 0.3 else "")]
        if rnd.random() < 0.25:
            out.append(f"Cc: {self.person()}, {self.person()}")
        out += [f"Subject: {shown}", f"Date: {date}"]
        if message_id:
            out.append(f"Message-ID: <{number}.{number * 7919}@example.org>")
        if reply:
            out += [f"In-Reply-To: <{parent}.{parent * 7919}@example.org>",
                    f"References: <{parent}.{parent * 7919}@example.org>"]
        if rnd.random() < 0.3:
            out += ["List-Id: <announce.lists.example.net>", "List-Unsubscribe: <https://lists.example.net/u/%x>" % rnd.getrandbits(40),
                    "Precedence: list"]
        return out + ["MIME-Version: 1.0"]

    def message(self, number, size, message_id=True):
        """A message of about so many octets, with CRLF. No line begins with a dot."""
        out = self.headers(number, message_id)
        room = max(size - sum(len(line) + 2 for line in out) - 100, 200)
        kind = self.rnd.random()
        mark = f"=_{self.rnd.getrandbits(64):016x}"
        if size > 16384 and kind < 0.6 or kind < 0.15:  # text and a file
            text = min(room // 4, 3000)
            file = max(room - text - 420, 57)
            out += [f'Content-Type: multipart/mixed; boundary="{mark}"', "", f"--{mark}", "Content-Type: text/plain; charset=utf-8", "",
                    *self.paragraphs(text), f"--{mark}", f'Content-Type: application/pdf; name="document-{number}.pdf"',
                    "Content-Transfer-Encoding: base64", f'Content-Disposition: attachment; filename="document-{number}.pdf"', "",
                    *self.attachment(file), f"--{mark}--"]
        elif size > 16384 or kind < 0.45:  # text and the same in HTML
            text = min(room // 3, 4000)
            out += [f'Content-Type: multipart/alternative; boundary="{mark}"', "", f"--{mark}", "Content-Type: text/plain; charset=utf-8", "",
                    *self.paragraphs(text), f"--{mark}", "Content-Type: text/html; charset=utf-8", "",
                    *self.html(max(room - text - 300, 200)), f"--{mark}--"]
        else:
            out += ["Content-Type: text/plain; charset=utf-8", "", *self.paragraphs(room)]
        if number % 1000 == 7 and not kind < 0.45:
            out.append(NEEDLE)
        return ("\r\n".join(out) + "\r\n").encode()


def pool(path, size, count, seed=1):
    """Messages for `load deliver`, which gives each a Message-ID of its own."""
    writer = Writer(seed)
    with open(path, "wb") as file:
        for i in range(count):
            message = writer.message(i, size, message_id=False)
            file.write(b"%d\n" % len(message) + message)
    return path


def maildir(path, size, count, seed=2):
    """A Maildir of so many messages, all seen by the server before (in cur) and read by nobody."""
    writer = Writer(seed)
    for sub in ("cur", "new", "tmp"):
        os.makedirs(f"{path}/{sub}")
    for i in range(count):
        message = writer.message(i, size)
        # Maildir keeps the line ends of the system.
        local = message.replace(b"\r\n", b"\n")
        with open(f"{path}/cur/{1690000000 + i * 377}.M{i:06d}P1.bench,S={len(local)},W={len(message)}:2,", "wb") as file:
            file.write(local)
    return path
