"""docs/log-events.md names every event of the source, with its level, and none that is not there; and every line is
logfmt that reads, whatever is in its values."""
import os
import re
import shutil
import time
from pathlib import Path

from platform_under_test import message

ROOT = Path(__file__).resolve().parent.parent
EVENT = r'"([a-z_]+\.[a-z_]+)"'
VALUE = r'"(?:[^"\\\x00-\x1f]|\\["\\]|\\x[0-9a-f]{2})*"|[^\s"]*'
LINE = re.compile(rf"[a-z_0-9]+=(?:{VALUE})(?: [a-z_0-9]+=(?:{VALUE}))*")


def calls(text, name):
    """The arguments of each call: the text up to the parenthesis that closes it."""
    for match in re.finditer(rf"(?<!\w){name}\(", text):
        depth, at, quoted = 1, match.end(), False
        while depth:
            char = text[at]
            if char == "\\" and quoted:
                at += 1
            elif char == '"':
                quoted = not quoted
            elif not quoted:
                depth += (char == "(") - (char == ")")
            at += 1
        yield text[match.end():at - 1]


def events_of_source():
    found = {}
    for path in sorted((ROOT / "src").rglob("*.c")):
        if path.name.startswith(("test_", "fuzz_")):
            continue
        text = path.read_text()
        for name in ("sp_log", "log_outcome"):
            for call in calls(text, name):
                levels = {level.lower() for level in re.findall(r"SP_LOG_(DEBUG|INFO|WARN|ERROR)", call)} or {"info"}
                if name == "sp_log":
                    call = re.split(r'"[^"]*=', call)[0]  # up to the format
                for event in re.findall(EVENT, call):
                    found.setdefault(event, set()).update(levels)
    return found


def test_every_event_is_documented():
    rows = re.findall(r"^\| `([a-z_.]+)` \| (\w+) \| (.*?) \|", (ROOT / "docs/log-events.md").read_text(), re.M)
    documented = {event: level for event, level, _ in rows}
    assert len(rows) == len(documented), "an event has two rows"
    source = events_of_source()
    assert len(source) > 40
    assert set(documented) == set(source)
    for event, level in documented.items():
        assert level in source[event], f"{event}: {level} is said, {source[event]} is logged"


def test_events_about_units_name_them():
    for path in sorted((ROOT / "src" / "store").glob("*.c")):
        if path.name.startswith("test_"):
            continue
        for call in calls(path.read_text(), "sp_log"):
            keys = set(re.findall(r"(\w+)=%?", call))
            # The index does not know whose it is.
            assert "volume" in keys or '"index.' in call, f"{path.name}: {call}"
            if re.search(r'"(unit|segment|read)\.', call):
                assert "unit" in keys, f"{path.name}: {call}"
                assert keys & {"lsn", "why"}, f"{path.name}: {call}"


def test_values_cannot_break_lines(new_platform, tmp_path):
    """Names with quotes, blanks and escapes, through the events that tell of them."""
    platform = new_platform(start=False)
    odd = platform.folder / 'b "odd\\ name" x=y'
    os.rename(platform.folder / "b", odd)
    text = platform.config.read_text()
    platform.config.write_text(re.sub(r"(?m)^path = b$", lambda _: f"path = {odd}", text))
    platform.start()
    with platform.smtp() as client:
        client.sendmail('"a b\\"c"@example.net', ["user@example.org"], message())
    shutil.move(odd, tmp_path / "away")
    deadline = time.monotonic() + 20
    while "event=unit.eject" not in platform.log_text() and time.monotonic() < deadline:
        time.sleep(0.1)
    with platform.smtp() as client:
        client.sendmail("s@example.net", ["user@example.org"], message())
    platform.stop()
    platform.start()
    platform.stop()
    lines = platform.log_text().splitlines()
    assert any("event=unit.eject" in line and "unit=b" in line for line in lines)
    assert any("event=unit.absent" in line and "odd" in line for line in lines)
    for line in lines:
        assert LINE.fullmatch(line), line
