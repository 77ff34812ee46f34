"""The source tree is as the documents say; and what says so can be made to say no."""
import pathlib
import subprocess
import sys

import pytest

CHECK = pathlib.Path(__file__).with_name("check_layers.py")
TABLE = """\
| folder | is | may use |
| --- | --- | --- |
| `src/cmd` | verbs | everything |
| `src/web` | HTTP | `net`, `mail` and below |
| `src/net` | sockets | `proto`, `mail` |
| `src/proto` | sessions | `base`, `mime`, `src/mail/request.h`, nothing else |
| `src/guard` | checks | `mail`, `store`, `unit`, `format` |
| `src/mail` | requests | `store` and below |
| `src/store` | volumes | `unit`, `format` |
| `src/recover` | recovery | `unit`, `format`, `mime` |
| `src/unit` | disks | `base` |
| `src/format` | bytes | `base` |
| `src/mime` | messages | `base` |
| `src/base` | slices | libraries |
"""


def check(root=None):
    """Exit status and the lines that are printed."""
    arguments = [sys.executable, CHECK, *([root] if root else [])]
    result = subprocess.run(arguments, capture_output=True, text=True, timeout=60)
    assert not result.stderr, result.stderr
    return result.returncode, result.stdout.splitlines()


def write(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.fixture
def tree(tmp_path):
    """A small tree in which everything is as it should be."""
    for layer in ("base", "cmd", "format", "guard", "mail", "mime", "net", "proto", "recover", "store", "unit", "web"):
        (tmp_path / "src" / layer).mkdir(parents=True)
    write(tmp_path, {
        "README.md": "Read [the architecture](docs/architecture.md#layers), then `src/base/slice.h`.\n",
        "docs/architecture.md": TABLE + "`src/*/*.c`, `docs/`, `build/sternpost -c x`, [a site](https://example.org).\n",
        "docs/decisions/001-a.md": "`./src/mail/mail.c` and [back](../architecture.md).\n\n```\ntests/none.py\n```\n",
        "src/base/slice.h": "/* Slices. */\n",
        "src/mail/request.h": "/* Requests. */\n#include \"base/slice.h\"\n",
        "src/mail/mail.c": "#include \"store/volume.h\"\n#include <time.h>\n",
        "src/proto/session.h": "/* Sessions. */\n#include \"mail/request.h\"\n",
        "src/proto/smtp/smtp.c": "#include \"proto/session.h\"\n/* not strcpy(a, b) */\n"
                                 "const char *text = \"sprintf(\\\"\"; int x = snprintf(a, 1, \"/*\");\n",
        "src/store/volume.h": "/* Volumes. */\n",
    })
    return tmp_path


def test_this_tree():
    status, violations = check()
    assert (status, violations) == (0, [])


def test_sound_tree(tree):
    assert check(tree) == (0, [])


@pytest.mark.parametrize("name, text, expected", [
    ("src/base/log.c", '\n#include "store/volume.h"\n', 'src/base/log.c:2: base may not include "store/volume.h"'),
    ("src/store/read.c", '#  include "recover/scan.h"\n', 'src/store/read.c:1: store may not include "recover/scan.h"'),
    ("src/recover/scan.c", '#include "store/index.h"\n', 'src/recover/scan.c:1: recover may not include "store/index.h"'),
    ("src/proto/smtp/a.c", '#include "mail/mail.h"\n', 'src/proto/smtp/a.c:1: proto may not include "mail/mail.h"'),
    ("src/proto/smtp/a.c", '#include "proto/imap/imap.h"\n',
     'src/proto/smtp/a.c:1: proto/smtp may not include "proto/imap/imap.h"'),
    ("src/proto/smtp/a.c", "#include <time.h>\n", "src/proto/smtp/a.c:1: proto is pure: it may not include <time.h>"),
    ("src/mail/a.c", '#include "../net/loop.h"\n',
     'src/mail/a.c:1: includes "../net/loop.h": a path from src/ is wanted'),
    ("src/wap/a.c", "\n", "src/wap/a.c:1: is in no layer that tests/check_layers.py knows"),
    ("README.md", "See\n`src/base/gone.h`.\n", "README.md:2: names src/base/gone.h, which does not exist"),
    ("README.md", "`src/*/gone_*.c`\n", "README.md:1: names src/*/gone_*.c, which does not exist"),
    ("docs/a.md", "[rfc](rfc.md)\n", "docs/a.md:1: links to rfc.md, which does not exist"),
    ("docs/decisions/2.md", "\n\n`tests/gone.py --all`\n",
     "docs/decisions/2.md:3: names tests/gone.py, which does not exist"),
    ("src/base/a.c", "/*\n*/ int x = '\"';\nstrcpy(a, b);\n",
     "src/base/a.c:3: strcpy is banned: use memcpy with a length, or sp_buf_add"),
    ("src/base/a.c", "x = alloca (3);\n", "src/base/a.c:1: alloca is banned: use struct sp_arena"),
    ("src/base/a.h", "#ifndef A\n", "src/base/a.h:1: a header opens with a comment that says what the module is"),
])
def test_violation_is_found(tree, name, text, expected):
    write(tree, {name: text})
    assert check(tree) == (1, [expected])


def test_long_file(tree):
    write(tree, {"src/base/a.c": "\n" * 900})
    assert check(tree) == (0, [])
    write(tree, {"src/base/a.c": "\n" * 901})
    assert check(tree) == (1, ["src/base/a.c:901: has 901 lines, 900 is the limit"])


def test_table_is_compared(tree):
    document = tree / "docs/architecture.md"
    document.write_text(TABLE.replace("volumes | `unit`, `format`", "volumes | `unit`, `format`, `mime`"))
    assert check(tree) == (1, ["docs/architecture.md:9: tests/check_layers.py lets store include base, format, unit"])
    document.write_text(TABLE.replace("| `src/mime` | messages | `base` |\n", ""))
    assert check(tree) == (1, ["docs/architecture.md:1: the table of layers has no row for src/mime"])
