#!/usr/bin/env python3
"""Times backup tools side by side on the same folders and writes a table and a plot.

usage: compare.py [--rounds N] [--data DIR] [--work DIR] [--out FILE.json] [--publish] [--workloads A,B]
                  [--steps A,B] [TOOL=PATH...]

Tools are refloat, restic, rustic and borg; those not given are looked for on PATH, and one given
as an empty path is left out. DIR of --data holds one folder for each workload; those that are missing are generated
(`workloads.py`). Steps: first, unchanged, restore, changed (1 % of the files), ls, find (a name, in all points),
check (all data read), copy (of all points into an empty repository of another key, which the tool then checks; borg has
none), prune (of all but the last point, after a tenth of the tree was rewritten and backed up; at most 5 % may
stay unused. The size is that of the repository after it, which must be smaller and pass the tool's check).

Peers take turns in another order each round; refloat's begins when the source is a minute old (SETTLED_SECONDS). What a
step reads, source or repository, is read before it: some tools leave it in the page cache, refloat writes past it, borg
drops it. Free memory is touched before steps that need much. The disk is synchronised before each run and, timed by itself, after it: refloat and borg end when
what they wrote is on disk, others before. Each restored tree is compared with its source. FILE.json is written anew
after each workload, and the table and the plot beside it at the end; with --publish they take the place of those in
docs/performance.md, of all workloads and steps. Run as root, so that owners can be restored.
"""
import argparse
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import time

import commands
import report
import space
import workloads

WORKLOADS = ("large", "small", "source", "one", "duplicates", "sparse", "media")
STEPS = ("first", "unchanged", "restore", "changed", "ls", "find", "check", "copy", "prune")
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# On disk, which /tmp is not everywhere.
PLACE = "/var/tmp/refloat-bench"
BACKUPS = ("first", "unchanged", "changed")
# ext4 passes over inodes that were freed up to a minute ago, and over those of a block that is dirty up to
# five minutes more: a restore soon after another tree was deleted measures mostly that.
INODES_REST_SECONDS = 361
# refloat reads a file again that was changed less than a minute before the run before began, since its times need not tell of
# a second change; restic and rustic believe them. The source has to be older, or "unchanged" is a step in which all is read.
SETTLED_SECONDS = 61
# More than any tool takes but for what it writes.
MEMORY_TOOL_BYTES = 1 << 30


def run(command, log, output=os.devnull):
    """Runs a command; what it prints goes to `output`. Its status, wall seconds, those until what it wrote is on disk, CPU seconds, peak memory in MiB."""
    os.sync()
    start = time.monotonic()
    errors = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    printed = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    actions = [(os.POSIX_SPAWN_DUP2, printed, 1), (os.POSIX_SPAWN_DUP2, errors, 2)]
    child = os.posix_spawnp(command[0], command, commands.environment(), file_actions=actions)
    _, status, usage = os.wait4(child, 0)
    os.close(errors)
    os.close(printed)
    wall = time.monotonic() - start
    os.sync()
    durable = time.monotonic() - start
    return status, wall, durable, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def touch_memory(length):
    """Makes so much free memory the machine's own: one that is virtual gives pages back to its host when they are
    free for seconds, and whoever takes them next waits for the host. A restore that was the first took twice the time."""
    with open("/proc/meminfo") as file:
        free = next(int(line.split()[1]) for line in file if line.startswith("MemFree")) * 1024
    # Not more: that would push out what the tool is to find in the page cache.
    length = min(length, free * 9 // 10)
    code = f"import mmap; mmap.mmap(-1, {length}, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE)"
    subprocess.run([sys.executable, "-c", code], check=True)


def size_mib(path):
    return sum(os.path.getsize(os.path.join(d, f)) for d, _, files in os.walk(path) for f in files) / 2**20


def held_bytes(root):
    """What the files below a folder take without their holes."""
    return sum(os.lstat(os.path.join(d, f)).st_blocks * 512 for d, _, files in os.walk(root) for f in files)


def digest(root):
    """One hash over paths, links and bytes below a folder."""
    total = hashlib.sha256()
    for folder, folders, files in os.walk(root):
        folders.sort()
        for name in sorted(files):
            path = os.path.join(folder, name)
            total.update(os.path.relpath(path, root).encode("utf-8", "surrogateescape") + b"\0")
            if os.path.islink(path):
                total.update(os.readlink(path).encode("utf-8", "surrogateescape"))
                continue
            with open(path, "rb") as file:
                while block := file.read(1 << 20):
                    total.update(block)
    return total.hexdigest()


def warm(root):
    """Brings all files below a folder into the page cache; holes are passed over."""
    for folder, _, files in os.walk(root):
        for name in files:
            path = os.path.join(folder, name)
            if os.path.islink(path):
                continue
            with open(path, "rb", buffering=0) as file:
                end, at = os.fstat(file.fileno()).st_size, 0
                while at < end:
                    try:
                        at = os.lseek(file.fileno(), at, os.SEEK_DATA)
                    except OSError:
                        break
                    file.seek(at)
                    at += len(file.read(1 << 20))


def restored(target, name):
    """Tools restore the whole path or its last part: finds the folder `name`."""
    return next((os.path.join(d, name) for d, folders, _ in os.walk(target) if name in folders), target)


class Turn:
    """One tool on one folder: its commands, and what they write."""

    def __init__(self, tool, program, source, place, log):
        shutil.rmtree(place, ignore_errors=True)
        os.makedirs(place)
        self.source, self.place, self.log = source, place, log
        self.repository, self.target, self.cache, self.found = (
            os.path.join(place, part) for part in ("repo", "out", "cache", "found"))
        self.other = commands.other_repository(self.repository)
        self.wanted = max(name for _, _, files in os.walk(source) for name in files)
        self.commands = commands.steps(tool, program, place, source, self.wanted)
        self.size_before = 0

    def must(self, step):
        if run(self.commands[step], self.log)[0] != 0:
            sys.exit(f"{' '.join(self.commands[step])} failed: see {self.log}")

    def prepare(self, step, held):
        """What a step needs and is not timed. `held` are the bytes of the source."""
        if step == "copy":
            # The profile is how rustic finds it.
            os.makedirs(self.other + ".profile")
            with open(self.other + ".profile/other.toml", "w") as file:
                file.write(f'[repository]\nrepository = "{self.other}"\npassword = "{commands.PASSWORD}"\n')
            self.must("other")
        if step == "changed":
            workloads.change(self.source)
        if step == "prune":
            workloads.rewrite(self.source)
            self.must("again")
        self.size_before = size_mib(self.repository) if os.path.exists(self.repository) else 0
        for read in (self.source,) if step in BACKUPS else (self.repository, self.cache):
            warm(read)
        if step in ("first", "restore", "check", "copy"):
            touch_memory(held + MEMORY_TOOL_BYTES)

    def is_good(self, step, expected):
        """Whether a step did what it said. `expected` is the digest of the source."""
        if step == "restore":
            return digest(restored(self.target, os.path.basename(self.source))) == expected
        if step == "copy":
            # rustic says that it failed, and its exit status that it did not.
            is_whole = size_mib(self.other) > size_mib(self.repository) * 0.9
            return is_whole and run(self.commands["copied"], self.log)[0] == 0
        if step == "find":
            with open(self.found, errors="replace") as file:
                return self.wanted in file.read()
        if step == "prune":
            return size_mib(self.repository) < self.size_before and run(self.commands["sound"], self.log)[0] == 0
        return True

    def take(self, step, held, expected):
        """Runs a step and says what it took."""
        self.prepare(step, held)
        output = self.found if step in ("find", "points") else os.devnull
        status, wall, durable, cpu, memory = run(self.commands[step], self.log, output)
        good = status == 0 and self.is_good(step, expected)
        size = size_mib(self.other if step == "copy" else self.repository)
        return {"wall": wall, "durable": durable, "cpu": cpu, "memory": memory, "size": size, "good": good}

    def drop(self, *paths):
        for path in paths:
            shutil.rmtree(path, ignore_errors=True)


def one_turn(tool, program, source, place, options):
    """All steps of one tool on one workload; a result for each. Of many files the restored ones stay there."""
    turn = Turn(tool, program, source, place, options.log)
    held, expected = held_bytes(source), options.digests[os.path.basename(source)]
    many = files_in(source) > workloads.FILES_MANY
    turn.must("init")
    results = {}
    for step in STEPS:
        if step in turn.commands and (step in options.steps or step == "first"):
            results[step] = turn.take(step, held, expected)
        if step == "restore" and not many:
            turn.drop(turn.target)
        if step == "copy":
            turn.drop(turn.other, turn.other + ".profile")
    turn.drop(*((turn.repository, turn.cache) if many else (place,)))
    return results


def files_in(folder):
    return sum(len(files) for _, _, files in os.walk(folder))


def source_of(original, options):
    """The folder that is backed up: where it is changed a copy, the same for all turns and as the original before each.
    Its files are written over and none deleted: freed inodes would be in the way of restores."""
    if not set(options.steps) & set(workloads.CHANGING):
        return original
    name = os.path.basename(original)
    copy = os.path.join(options.work, name + "-source", name)
    os.makedirs(copy, exist_ok=True)
    subprocess.run(["cp", "-a", original + "/.", copy], check=True)
    return copy


def settle(folder):
    """Waits until everything below a folder is old enough for refloat to believe its times."""
    newest = max(os.lstat(os.path.join(d, f)).st_ctime for d, _, files in os.walk(folder) for f in files)
    time.sleep(max(0, newest + SETTLED_SECONDS - time.time()))


def show(rows, name):
    for (workload, step, tool), results in rows.items():
        if workload == name:
            middle = {key: statistics.median(r[key] for r in results) for key in ("wall", "durable", "cpu", "memory", "size")}
            bad = "" if all(r["good"] for r in results) else "  FAILED"
            print(f"{workload:12}{step:10}{tool:8}{middle['wall']:9.2f} s"
                  f"{middle['durable'] - middle['wall']:+6.2f} s{middle['cpu']:9.2f} s CPU"
                  f"{middle['memory']:7.0f} MiB{middle['size']:8.0f} MiB{bad}", flush=True)


def in_turn(tools, number):
    """The tools, of which another is the first each time."""
    start = number % len(tools)
    return list(tools)[start:] + list(tools)[:start]


def measure(options, tools, keep):
    """Calls `keep` with all results so far after each workload."""
    rows, freed = {}, None
    for number, name in enumerate(options.workloads):
        original = os.path.join(options.data, name)
        workloads.make(options.data, [name])
        many, places = files_in(original) > workloads.FILES_MANY, [os.path.join(options.work, name + "-source")]
        if many and freed and "restore" in options.steps:
            time.sleep(max(0, freed + INODES_REST_SECONDS - time.monotonic()))
        for turn in range(options.rounds):
            for tool in in_turn(tools, turn + number):
                source = source_of(original, options)
                if tool == "refloat":
                    settle(source)
                if name not in options.digests:
                    options.digests[name] = digest(source)
                place = os.path.join(options.work, f"{name}-{turn}-{tool}")
                places.append(place)
                for step, result in one_turn(tool, tools[tool], source, place, options).items():
                    rows.setdefault((name, step, tool), []).append(result)
        for place in places:
            shutil.rmtree(place, ignore_errors=True)
        os.sync()
        freed = time.monotonic() if many else freed
        show(rows, name)
        keep(rows)


def arguments(description):
    """Options that grow.py takes as well."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--data", type=os.path.abspath, default=os.path.join(PLACE, "data"), metavar="DIR")
    parser.add_argument("--work", type=os.path.abspath, default=os.path.join(PLACE, "work"), metavar="DIR")
    parser.add_argument("tools", nargs="*", metavar="TOOL=PATH")
    return parser


def prepared(parser, options):
    """Makes the folders of a run, if there is room for it; the tools that are there."""
    given = dict(tool.partition("=")[::2] for tool in options.tools)
    found = {tool: given.get(tool, shutil.which(tool)) for tool in commands.TOOLS}
    tools = {tool: path for tool, path in found.items() if path}
    if not tools or set(given) - set(commands.TOOLS):
        parser.error("no tools, or an unknown one")
    options.digests, options.log = {}, os.path.join(options.work, "errors.log")
    for folder in (options.data, options.work, os.path.dirname(options.out)):
        os.makedirs(folder, exist_ok=True)
    space.require(options, len(tools))
    return tools


def main():
    parser = arguments(__doc__)
    parser.add_argument("--out", type=os.path.abspath, default=os.path.join(ROOT, "bench/out/report.json"), metavar="FILE.json")
    parser.add_argument("--publish", action="store_true")
    parser.add_argument("--workloads", type=lambda text: text.split(","), default=list(WORKLOADS), metavar="A,B")
    parser.add_argument("--steps", type=lambda text: text.split(","), default=list(STEPS), metavar="A,B")
    options = parser.parse_intermixed_args()
    if set(options.steps) - set(STEPS) or set(options.workloads) - set(workloads.ALL):
        parser.error(f"an unknown step or workload; there are {', '.join(STEPS)} and {', '.join(workloads.ALL)}")
    tools = prepared(parser, options)
    load, asked = os.getloadavg(), commands.versions(tools)

    def keep(rows):
        results = {"versions": asked, "processors": os.cpu_count(), "rounds": options.rounds,
                   "load": [load, os.getloadavg()],
                   "rows": [{"workload": w, "step": s, "tool": t, "runs": r} for (w, s, t), r in rows.items()]}
        with open(options.out + ".new", "w") as file:
            json.dump(results, file, indent=1)
        os.replace(options.out + ".new", options.out)

    measure(options, tools, keep)
    stem = os.path.join(ROOT, "docs/performance") if options.publish else os.path.splitext(options.out)[0]
    report.write([options.out], stem + ".md", stem + ".svg")
    print(f"results are in {options.out}, a table and a plot of them in {stem}.md and {stem}.svg")


if __name__ == "__main__":
    main()
