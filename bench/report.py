"""Figures, claims, and the tables they are printed in."""
import json
import os
import platform
import statistics
import time


def shown(value):
    if value is None:
        return "-"
    if value == 0:
        return "0"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"


class Row:
    """One thing measured, for each server: a list of figures from its rounds, of which the median counts."""

    def __init__(self, what, unit, more_is_better=True):
        self.what, self.unit, self.more_is_better = what, unit, more_is_better
        self.figures, self.claims = {}, []

    def add(self, server, value):
        self.figures.setdefault(server, []).append(value)

    def median(self, server):
        values = self.figures.get(server)
        return statistics.median(values) if values else None

    def claim(self, text, ours, theirs, at_least):
        """That ours is so many times as good as the best of theirs."""
        own = self.median(ours)
        rivals = {name: self.median(name) for name in theirs if self.median(name)}
        if not own or not rivals:
            return
        best = (max if self.more_is_better else min)(rivals, key=rivals.get)
        ratio = own / rivals[best] if self.more_is_better else rivals[best] / own
        self.claims.append({"text": text, "ours": ours, "best": best, "ratio": ratio, "target": at_least, "reached": ratio >= at_least})

    def limit(self, text, ours, at_most):
        """That ours is at most so much."""
        own = self.median(ours)
        if own is not None:
            self.claims.append({"text": text, "ours": ours, "value": own, "limit": at_most, "ratio": at_most / own if own > 0 else 1e9,
                                "target": 1.0, "reached": own <= at_most})

    def facts(self):
        return {"what": self.what, "unit": self.unit, "more_is_better": self.more_is_better, "figures": self.figures,
                "medians": {name: self.median(name) for name in self.figures}, "claims": self.claims}


class Table:
    def __init__(self, name, title):
        self.name, self.title = name, title
        self.rows, self.notes, self.seconds = [], [], 0.0

    def row(self, *args, **more):
        row = Row(*args, **more)
        self.rows.append(row)
        return row

    def note(self, text):
        self.notes.append(text)

    def print(self):
        servers = list(dict.fromkeys(name for row in self.rows for name in row.figures))
        lines = [["", *servers]]
        for row in self.rows:
            lines.append([f"{row.what} ({row.unit})", *(shown(row.median(s)) for s in servers)])
        widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
        print(f"\n{self.name}: {self.title}\n")
        for n, line in enumerate(lines):
            print("  " + "  ".join(cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(line, widths))))
            if n == 0:
                print("  " + "  ".join("-" * w for w in widths))
        print()
        for row in self.rows:
            for claim in row.claims:
                print("  " + verdict(row, claim))
        for text in self.notes:
            print(f"  note: {text}")
        print(f"  took {self.seconds:.0f} s", flush=True)

    def facts(self):
        return {"title": self.title, "seconds": round(self.seconds, 1), "notes": self.notes, "rows": [row.facts() for row in self.rows]}


def verdict(row, claim):
    word = "reached" if claim["reached"] else "MISSED "
    if "limit" in claim:
        got = f"{shown(claim['value'])} {row.unit}, allowed {shown(claim['limit'])}"
    else:
        got = f"{claim['ratio']:.2f} x {claim['best']}, wanted {claim['target']:.2f} x"
    return f"{word}  {row.what}: {claim['text']}: {got}"


def summary(tables):
    claims = [(table, row, claim) for table in tables for row in table.rows for claim in row.claims]
    missed = [c for c in claims if not c[2]["reached"]]
    print(f"\nsummary: {len(claims) - len(missed)} of {len(claims)} claims reached")
    for table, row, claim in sorted(missed, key=lambda c: c[2]["ratio"] / c[2]["target"]):
        print(f"  {table.name}: {verdict(row, claim)}")
    return not missed


def machine():
    cpu = next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), platform.machine())
    return {"cpu": cpu, "processors": os.cpu_count(), "kernel": platform.release(), "load_before": os.getloadavg()[0],
            "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}


def write_json(path, tables, machine_facts, versions):
    with open(path, "w") as file:
        json.dump({"machine": machine_facts, "versions": versions, "benchmarks": {t.name: t.facts() for t in tables}}, file, indent=1)
        file.write("\n")
