"""The offsets and line counts of parts, compared with those that MimeKit's tests state for its mbox files."""
import json
import os
import subprocess
import tarfile

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.environ.get("STERNPOST_BUILD", os.path.join(ROOT, "build"))
CORPUS = os.environ.get("SP_CORPUS", os.path.join(os.path.dirname(ROOT), "shared", "corpus"))
PROGRAM = os.path.join(BUILD, "src", "mime", "mime_offsets")


@pytest.fixture(scope="module")
def corpus():
    """The files of MimeKit's test data, by their paths."""
    archive = os.path.join(CORPUS, "mimekit.tar.xz")
    if not os.path.exists(archive):
        pytest.skip(f"{archive} is not there")
    if not os.path.exists(PROGRAM):
        pytest.skip("mime_offsets is not built")
    with tarfile.open(archive, "r:xz") as tar:
        return {member.name: tar.extractfile(member).read() for member in tar.getmembers() if member.isfile()}


def parts_of(message):
    """What our parser says: (depth, type, header, body, end, lines) of each part, in pre-order."""
    out = subprocess.run([PROGRAM], input=message, stdout=subprocess.PIPE, check=True).stdout
    rows = []
    for line in out.decode("latin-1").splitlines():
        depth, rest = line.split(" ", 1)
        mime_type, *numbers = rest.rsplit(" ", 4)
        rows.append((int(depth), mime_type.lower(), *map(int, numbers)))
    return rows


def parts_stated(entity, begin, message, depth=0):
    """What MimeKit says of the same, where its idea of a part is another one put right."""
    header, body, end = (entity[key] - begin for key in ("beginOffset", "headersEndOffset", "endOffset"))
    lines = entity["lines"]
    # MimeKit counts a last line that has no end (its line end is the boundary's). The RFCs do not say; we count
    # line ends, as the counts of nested parts then add up.
    if body < end and message[end - 1:end] != b"\n":
        lines -= 1
    # RFC 2046's grammar gives a blank line right before a boundary to the boundary. To us it ends the header all the
    # same, for RFC 3501 wants a blank line after every header. The body is empty either way.
    if body == end and message[:body].endswith(b"\n") and not message[:body].endswith((b"\n\n", b"\n\r\n")):
        blank = b"\r\n" if message[body:].startswith(b"\r\n") else b"\n"
        assert message[body:].startswith(blank + b"--")
        body = end = body + len(blank)
    rows = [(depth, entity["mimeType"].lower(), header, body, end, lines)]
    for child in entity.get("children", []):
        rows += parts_stated(child, begin, message, depth + 1)
    if "message" in entity:
        rows += parts_stated(entity["message"]["body"], begin, message, depth + 1)
    return rows


@pytest.mark.parametrize("name,messages", [("issue1189", 4), ("content-length", 29)])
@pytest.mark.parametrize("system", ["unix", "dos"])
def test_offsets(corpus, name, messages, system):
    mbox = corpus[f"mimekit/mbox/{name}.mbox.txt"]
    if system == "dos":
        mbox = mbox.replace(b"\n", b"\r\n")
    stated = json.loads(corpus[f"mimekit/mbox/{name}.{system}-offsets.json"].decode("utf-8-sig"))
    assert len(stated) == messages
    for entry in stated:
        begin = entry["beginOffset"]
        message = mbox[begin:entry["endOffset"]]
        assert parts_of(message) == parts_stated(entry["body"], begin, message)


def test_line_ends(corpus):
    """LF and CRLF make the same trees with the same lines, and bytes that differ by just the line ends."""
    names = [name for name in corpus if name.startswith("mimekit/messages/") and not name.endswith("/")]
    assert names
    for name in names:
        lf = corpus[name].replace(b"\r\n", b"\n")
        for unix, dos in zip(parts_of(lf), parts_of(lf.replace(b"\n", b"\r\n")), strict=True):
            assert unix[:2] + unix[5:] == dos[:2] + dos[5:], name
            for here, there in zip(unix[2:5], dos[2:5]):
                assert there == here + lf.count(b"\n", 0, here), name
