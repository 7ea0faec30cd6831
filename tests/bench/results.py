"""Reads what runs wrote, and answers medians of it.

A file of results has a JSON object in every line, with a "record": "run" (machine and versions), "answer" (what
time_loader.py printed, and for which case), "failed", "left out" (a case), "without" (a loader), "differs" (a
checksum), "compared" (checksums of which loaders). Each names its run.
"""

import json
import statistics

from loaders import LOADERS

MIB = 1 << 20


def read(paths):
    """All records of some files, in order; a line that was cut off is passed over."""
    records = []
    for path in paths:
        with open(path, encoding="utf-8") as file:
            for line in file:
                try:
                    records.append(json.loads(line))
                except ValueError:
                    continue
    return records


class Results:
    """Records by case and loader. Of a loader that was run over a case several times, the last run counts."""

    def __init__(self, records):
        self.records = records
        self._answers = {}
        latest = {}
        for record in records:
            if record["record"] in ("answer", "failed", "differs"):
                key = record["case"], record["loader"]
                if latest.setdefault(key, record["run"]) != record["run"]:
                    latest[key] = record["run"]
                    self._answers.pop(key, None)
            if record["record"] == "answer":
                self._answers.setdefault(key, []).append(record)
        self._latest = latest

    def of_kind(self, kind):
        """Records of one kind, less those that a later run replaced, of any loader that they name."""
        return [record for record in self.records if record["record"] == kind and self._counts(record)]

    def _counts(self, record):
        named = record.get("loaders", [record.get("loader")])
        runs = {self._latest.get((record.get("case"), loader), record["run"]) for loader in named}
        return runs == {record["run"]}

    def machines(self):
        """What every run says of its machine, each once; a commit is none of its business."""
        found = {}
        for record in self.of_kind("run"):
            state = {name: value for name, value in record["machine"].items() if name not in ("commit", "versions")}
            found.setdefault(json.dumps(state, sort_keys=True), record["machine"])
        return list(found.values())

    def loaders(self, case=None):
        """Those with answers, in the order of the table."""
        found = {loader for name, loader in self._answers if case in (None, name)}
        return [loader for loader in LOADERS if loader in found]

    def answers(self, case, loader, point=None):
        """Of one loader over one case; of one point of a row of growth."""
        return [a for a in self._answers.get((case, loader), []) if point is None or a["point"] == point]

    def runs(self, case):
        """The runs that a row's figures come from."""
        return {answer["run"] for loader in self.loaders(case) for answer in self.answers(case, loader)}

    def seconds(self, case, loader, which, point=None):
        """The median over all opens that count; None without one.

        `which` is "first" or "later" (opens of a process), "open" (the call that opens alone, of later opens)
        or "boot" (Java's start).
        """
        found = [value for answer in self.answers(case, loader, point) for value in _seconds(answer, which)]
        return statistics.median(found) if found else None

    def python_microseconds(self, case, loader):
        """What Python takes for a tensor, of later opens: the median; None for loaders that do not tell how long they
        wait for bytes."""
        found = [
            seconds / answer["tensors"] * 1e6
            for answer in self.answers(case, loader) for seconds in answer.get("python_seconds", [])[1:]
            if seconds is not None and answer["tensors"]
        ]  # fmt: skip
        return statistics.median(found) if found else None

    def gigabytes_per_second(self, case, loader, which):
        seconds = self.seconds(case, loader, which)
        return None if seconds is None else self.answers(case, loader)[0]["bytes"] / seconds / 1e9

    def pinned_rate(self, loader=None):
        """L, GB/s: the highest that a process found, since what disturbs it only lowers it."""
        found = [
            answer["pinned_rate"] for (_, who), answers in self._answers.items() for answer in answers
            if loader in (None, who) and answer["pinned_rate"] is not None
        ]  # fmt: skip
        return max(found, default=None)

    def ratio(self, case, loader, which):
        """The median rate over L."""
        rate, limit = self.gigabytes_per_second(case, loader, which), self.pinned_rate()
        return rate / limit if rate and limit else None

    def memory(self, case, loader, what):
        """MiB, the largest of all answers: "device", "slabs", "pinned", "resident" (growth, less what is pinned)."""
        found = [_memory(answer["memory"], what) for answer in self.answers(case, loader) if answer.get("memory")]
        found = [value for value in found if value is not None]
        return max(found) / MIB if found else None

    def settled(self, case, loader):
        """Requests in flight at a storage at most, once the load had settled; None where no load took so long."""
        found = [answer["storage"]["settled_most"] for answer in self.answers(case, loader) if answer.get("storage")]
        return max((most for most in found if most is not None), default=None)

    def growth(self, case, loader):
        """(bytes, tensors, seconds) of every point of a row of growth."""
        points = sorted({answer["point"] for answer in self.answers(case, loader)})
        found = []
        for point in points:
            answer = self.answers(case, loader, point)[0]
            found.append((answer["bytes"], answer["tensors"], self.seconds(case, loader, "later", point)))
        return [one for one in found if one[2] is not None]


def _seconds(answer, which):
    if which == "boot":
        return [] if answer["boot_seconds"] is None else [answer["boot_seconds"]]
    if which == "open":
        return answer["open_seconds"][1:]
    return {"first": answer["seconds"][:1], "later": answer["seconds"][1:]}[which]


def _memory(memory, what):
    if what != "resident":
        return memory[{"device": "device_bytes", "slabs": "slab_bytes", "pinned": "pinned_bytes"}[what]]
    counted = memory["pinned_bytes"] if memory["pinned_is_resident"] and memory["pinned_bytes"] else 0
    return memory["resident"]["all"] - counted
