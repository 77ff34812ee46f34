"""A strict reader of Prometheus' text exposition format 0.0.4, and what its conventions ask of names."""
import re

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\\\|\\"|\\n)*)"'
SAMPLE = re.compile(rf"({NAME})(?:\{{({LABEL}(?:,{LABEL})*)\}})? (\S+)")
TYPES = {"counter", "gauge", "histogram"}
UNITS = ("seconds", "bytes", "ratio")


class Broken(Exception):
    pass


def number(text):
    if text in ("+Inf", "-Inf", "NaN"):
        return float(text.replace("Inf", "inf"))
    if not re.fullmatch(r"-?\d+(\.\d+)?(e[+-]?\d+)?", text):
        raise Broken(f"not a number: {text}")
    return float(text)


class Metrics:
    """families: name -> type; samples: (name, frozenset of labels) -> value."""

    def __init__(self, text):
        self.families, self.help, self.samples = {}, {}, {}
        self.family, self.finished = None, set()
        if not text.endswith("\n"):
            raise Broken("the last line does not end")
        for line in text[:-1].split("\n"):
            if line.startswith("# HELP "):
                self.take_help(line)
            elif line.startswith("# TYPE "):
                self.take_type(line)
            else:
                self.take_sample(line)
        self.check_histograms()

    def take_help(self, line):
        match = re.fullmatch(rf"# HELP ({NAME}) ((?:[^\\\n]|\\\\|\\n)+)", line)
        if not match or match.group(1) in self.help:
            raise Broken(line)
        self.help[match.group(1)] = match.group(2)

    def take_type(self, line):
        match = re.fullmatch(rf"# TYPE ({NAME}) (\w+)", line)
        if not match or match.group(2) not in TYPES:
            raise Broken(line)
        name, kind = match.groups()
        if name in self.families or name not in self.help:
            raise Broken(f"{name}: type given twice, or no help")
        self.family = name
        self.families[name] = kind
        if (kind == "counter") != name.endswith("_total"):
            raise Broken(f"{name}: a counter ends in _total, and nothing else does")

    def take_sample(self, line):
        match = SAMPLE.fullmatch(line)
        if not match:
            raise Broken(f"not a sample: {line!r}")
        name, labels, value = match.group(1), match.group(2) or "", number(match.groups()[-1])
        allowed = {self.family}
        if self.families.get(self.family) == "histogram":
            allowed = {self.family + suffix for suffix in ("_bucket", "_sum", "_count")}
        if name not in allowed:
            raise Broken(f"{name} stands under {self.family}")
        pairs = re.findall(LABEL, labels)
        if len({key for key, _ in pairs}) != len(pairs):
            raise Broken(f"a label twice: {line}")
        key = (name, frozenset(pairs))
        if key in self.samples:
            raise Broken(f"twice: {line}")
        if self.families[self.family] != "gauge" and not value >= 0:
            raise Broken(f"negative: {line}")
        self.samples[key] = value

    def check_histograms(self):
        for family in (name for name, kind in self.families.items() if kind == "histogram"):
            series = {}
            for (name, labels), value in self.samples.items():
                if name == family + "_bucket":
                    rest = frozenset(pair for pair in labels if pair[0] != "le")
                    series.setdefault(rest, []).append((number(dict(labels)["le"]), value))
            for rest, buckets in series.items():
                if buckets != sorted(buckets) or [v for _, v in buckets] != sorted(v for _, v in buckets):
                    raise Broken(f"{family}: buckets do not ascend")
                if buckets[-1][0] != float("inf") or buckets[-1][1] != self.samples[(family + "_count", rest)]:
                    raise Broken(f"{family}: +Inf is not the count")
                if (family + "_sum", rest) not in self.samples:
                    raise Broken(f"{family}: no sum")

    def get(self, name, **labels):
        """The one sample with these labels among its own."""
        wanted = set(labels.items())
        found = [v for (n, have), v in self.samples.items() if n == name and wanted <= have]
        if len(found) != 1:
            raise KeyError(f"{name} {labels}: {len(found)} samples")
        return found[0]

    def sum(self, name, **labels):
        wanted = set(labels.items())
        return sum(v for (n, have), v in self.samples.items() if n == name and wanted <= have)
