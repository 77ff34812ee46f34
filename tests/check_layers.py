#!/usr/bin/env python3
"""Checks what the documents promise about the source tree; prints each violation as file:line: what.

usage: check_layers.py [ROOT]

1. No layer includes upwards. LAYERS below says what each may include; it says the same as the table in
   docs/architecture.md, which is compared with it. Layers that are pure include nothing that reads a file or a clock.
2. Every path of the tree that README.md or a document names exists.
3. No file of src/ calls a function that has a safer one beside it.
4. Every header opens with a comment: what the module is.
5. No file of src/ is too long to be read.

Exits 0 if all is well, 1 if not.
"""

import pathlib
import re
import sys

# Layer -> what it may include. "mail/request.h" is a file, everything else a layer. base is open to all above it.
LAYERS = {
    "base": {"base"},
    "mime": {"mime", "base"},
    "format": {"format", "base"},
    "unit": {"unit", "base"},
    "recover": {"recover", "unit", "format", "mime", "base"},
    "store": {"store", "unit", "format", "base"},
    "mail": {"mail", "store", "unit", "format", "mime", "base"},
    "guard": {"guard", "mail", "store", "unit", "format", "base"},
    "proto": {"proto", "mail/request.h", "mime", "base"},
    "net": {"net", "proto", "mail", "base"},
    "web": {"web", "net", "proto", "mail", "store", "unit", "format", "mime", "base"},
    "cmd": {"cmd", "web", "net", "proto", "guard", "mail", "store", "recover", "unit", "format", "mime", "base"},
}

# These do no I/O, read no clock and know no thread (their tests may).
PURE = {"format", "mime", "proto"}
IMPURE = re.compile(
    r"^\s*#\s*include\s*<((sys|net|netinet|arpa|linux)/.*|(fcntl|poll|pthread|threads|time|unistd)\.h)>")

# What to use instead is said beside each.
BANNED = {
    **dict.fromkeys(("strcpy", "strncpy", "stpcpy", "stpncpy"), "memcpy with a length, or sp_buf_add"),
    **dict.fromkeys(("strcat", "strncat"), "sp_buf_add"),
    **dict.fromkeys(("sprintf", "vsprintf"), "snprintf or sp_buf_addf"),
    "gets": "struct sp_slice and its functions",
    **dict.fromkeys(("strtok", "strtok_r"), "sp_slice_find"),
    **dict.fromkeys(("atoi", "atol", "atoll", "atof"), "sp_slice_u64"),
    **dict.fromkeys(("alloca", "strdupa", "strndupa"), "struct sp_arena"),
    **dict.fromkeys(("gmtime", "localtime", "ctime", "ctime_r", "asctime", "asctime_r"), "sp_unix_to_civil"),
    **dict.fromkeys(("mktemp", "tmpnam", "tempnam"), "mkstemp"),
}

LINES_MAX = 900

# A path in a document: its first part is one of these. Build folders (build/, build-test/) are not among them.
TOP = {"src", "docs", "tests", "tools", "bench", "fuzz", ".ci"}
TOP_FILES = {"README.md", "LICENSE", "dev", "meson.build", "meson_options.txt", ".clang-format"}

INCLUDE = re.compile(r'^\s*#\s*include\s*"([^"]+)"')
BANNED_CALL = re.compile(r"(?<![\w.>])(" + "|".join(BANNED) + r")\s*\(")
# Comments, strings and characters; the longest first, so that "/*" in a string opens nothing.
NOT_CODE = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.DOTALL)
CODE_SPAN = re.compile(r"(`+)(.+?)\1", re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
FENCE = re.compile(r"^(```|~~~).*?^\1[^\n]*$", re.DOTALL | re.MULTILINE)


def blank(match):
    """The same number of lines, and nothing in them."""
    return "\n" * match.group().count("\n")


def line_of(text, position):
    return text.count("\n", 0, position) + 1


class Tree:
    def __init__(self, root):
        self.root = pathlib.Path(root)
        self.violations = []

    def complain(self, path, line, what):
        self.violations.append(f"{path.relative_to(self.root)}:{line}: {what}")

    def sources(self, *suffixes):
        return sorted(p for p in (self.root / "src").rglob("*") if p.suffix in suffixes and p.is_file())

    # 1

    def check_includes(self):
        for path in self.sources(".c", ".h"):
            parts = path.relative_to(self.root / "src").parts
            if len(parts) < 2 or parts[0] not in LAYERS:
                self.complain(path, 1, "is in no layer that tests/check_layers.py knows")
                continue
            for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
                match = INCLUDE.match(line)
                if match:
                    self.check_include(path, number, parts, match.group(1))
                elif parts[0] in PURE and not path.name.startswith(("test_", "fuzz_")) and IMPURE.match(line):
                    self.complain(path, number, f"{parts[0]} is pure: it may not {line.strip().removeprefix('#')}")

    def check_include(self, path, line, parts, included):
        layer, target = parts[0], included.split("/")
        if ".." in target or "." in target or len(target) < 2:
            self.complain(path, line, f'includes "{included}": a path from src/ is wanted')
        elif target[0] not in LAYERS[layer] and included not in LAYERS[layer]:
            self.complain(path, line, f'{layer} may not include "{included}"')
        elif layer == target[0] == "proto" and len(target) > 2 and target[1] != parts[1]:
            # One protocol knows nothing of another; what they share is directly below proto/.
            self.complain(path, line, f'proto/{parts[1]} may not include "{included}"')

    def check_table(self):
        """The table of docs/architecture.md says what LAYERS says."""
        path = self.root / "docs" / "architecture.md"
        if not path.is_file():
            return
        rows = {}
        for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
            match = re.match(r"\| `src/(\w+)` \|.*\|([^|]*)\|$", line)
            if match:
                rows[match.group(1)] = (number, match.group(2))
        for layer in sorted(LAYERS.keys() - rows.keys()):
            self.complain(path, 1, f"the table of layers has no row for src/{layer}")
        for layer, (number, text) in rows.items():
            if layer not in LAYERS:
                self.complain(path, number, f"src/{layer} is not a layer that tests/check_layers.py knows")
                continue
            named = {name.removeprefix("src/") for name in re.findall(r"`([^`]+)`", text)}
            if "everything" in text:
                named = set(LAYERS)
            elif "and below" in text:
                named |= set().union(*(LAYERS[name] for name in named)) | {"mime"}
            if named | {layer, "base"} != LAYERS[layer]:
                allowed = ", ".join(sorted(LAYERS[layer] - {layer}))
                self.complain(path, number, f"tests/check_layers.py lets {layer} include {allowed}")

    # 2

    def check_documents(self):
        documents = [self.root / "README.md", *sorted((self.root / "docs").rglob("*.md"))]
        for document in documents:
            if not document.is_file():
                continue
            text = FENCE.sub(blank, document.read_text(encoding="utf-8"))
            for match in CODE_SPAN.finditer(text):
                for word in match.group(2).split():
                    self.check_named(document, line_of(text, match.start()), word)
            for match in LINK.finditer(text):
                self.check_link(document, line_of(text, match.start()), match.group(1))

    def check_named(self, document, line, word):
        """A word between backticks: a path from the root, if it looks like one."""
        word = word.removeprefix("./").strip(",;:()")
        name = word.rstrip("/")
        if ("/" in word and word.split("/")[0] in TOP) or name in TOP_FILES:
            if not (any(self.root.glob(name)) if "*" in name else (self.root / name).exists()):
                self.complain(document, line, f"names {name}, which does not exist")

    def check_link(self, document, line, target):
        """A link: relative to the document."""
        if re.match(r"[a-z][a-z0-9+.-]*:", target) or target.startswith("#"):
            return
        name = target.partition("#")[0]
        if not (document.parent / name).exists():
            self.complain(document, line, f"links to {name}, which does not exist")

    # 3 to 5

    def check_banned(self):
        for path in self.sources(".c", ".h"):
            text = NOT_CODE.sub(blank, path.read_text(encoding="utf-8"))
            for match in BANNED_CALL.finditer(text):
                name = match.group(1)
                self.complain(path, line_of(text, match.start()), f"{name} is banned: use {BANNED[name]}")

    def check_headers(self):
        for path in self.sources(".h"):
            if not path.read_text(encoding="utf-8").startswith("/* "):
                self.complain(path, 1, "a header opens with a comment that says what the module is")

    def check_lengths(self):
        for path in self.sources(".c", ".h"):
            lines = path.read_bytes().count(b"\n")
            if lines > LINES_MAX:
                self.complain(path, LINES_MAX + 1, f"has {lines} lines, {LINES_MAX} is the limit")

    def check(self):
        if not (self.root / "src").is_dir():
            raise SystemExit(f"check_layers: {self.root} has no src/")
        self.check_includes()
        self.check_table()
        self.check_documents()
        self.check_banned()
        self.check_headers()
        self.check_lengths()
        return self.violations


def main():
    root = sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).resolve().parent.parent
    violations = Tree(root).check()
    for violation in violations:
        print(violation)
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
