#!/usr/bin/env python3
"""Times backup tools side by side on the same folders and writes a table and a plot.

usage: compare.py [--rounds N] [--data DIR] [--work DIR] [--out FILE.json] [--workloads A,B]
                  [--steps A,B] [TOOL=PATH...]

Tools are refloat, restic, rustic and borg; those not given are looked for on PATH, and one given
as an empty path is left out. DIR holds one folder for each workload; those that are missing are generated
(`workloads.py`). Steps: first,
unchanged, changed (1 % of the files), restore, ls, check (all data read), copy (of all points into an
empty repository of another key, which the tool then checks; borg has none), prune (of all but the
last). Peers take turns in another order each round. What a step reads, source or repository, is read before it:
some tools leave it in the page cache, refloat writes past it, borg drops it. Free memory is touched before steps
that need much. The disk is synchronised before each run and, timed by itself, after it: refloat and borg end when
what they wrote is on disk, others before. Each restored tree is compared with its source. FILE.json is written anew
after each workload. `report.py` turns the results into the table and the plot of docs/performance.md. Run as root,
so that owners can be restored.
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

import workloads

TOOLS = ("refloat", "restic", "rustic", "borg")
WORKLOADS = ("large", "small", "source", "one", "duplicates", "sparse", "media")
STEPS = ("first", "unchanged", "restore", "changed", "ls", "check", "copy", "prune")
BACKUPS = ("first", "unchanged", "changed")
PASSWORD = "benchmark"
# ext4 passes over inodes that were freed up to a minute ago, and over those of a block that is dirty up to
# five minutes more: a restore soon after another tree was deleted measures mostly that.
INODES_REST_SECONDS = 361
# More than any tool takes but for what it writes.
MEMORY_TOOL_BYTES = 1 << 30
# Trees of more files are kept until all rounds of a workload are over; larger ones would fill the disk.
FILES_MANY = 10_000


def environment():
    names = ("RESTIC_PASSWORD", "RESTIC_FROM_PASSWORD", "RUSTIC_PASSWORD", "BORG_PASSPHRASE", "REFLOAT_PASSWORD",
             "REFLOAT_OTHER_PASSWORD")
    borg = {"BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes", "BORG_RELOCATED_REPO_ACCESS_IS_OK": "yes"}
    return {**os.environ, **borg, **dict.fromkeys(names, PASSWORD)}


def commands(tool, program, repository, source, target, cache):
    """The command of each step, init among them; a step that a tool has not is left out."""
    other = other_repository(repository)
    if tool == "refloat":
        base = [program, "--quiet", "-r", repository]
        into = [program, "--quiet", "-r", other]
        backup = base + ["backup", "--source", "files:" + source]
        return {"init": base + ["init"], "first": backup, "unchanged": backup, "changed": backup,
                "restore": base + ["restore", "latest", "--target", target],
                "ls": base + ["ls", "latest", "--recursive"],
                "check": base + ["check", "--read-data"],
                "other": into + ["init"], "copy": base + ["copy", "--to", other], "copied": into + ["check"],
                "prune": base + ["forget", "--keep-last", "1", "--prune", "--yes"]}
    if tool == "restic":
        base = [program, "-q", "-r", repository, "--cache-dir", cache]
        into = [program, "-q", "-r", other, "--cache-dir", cache]
        backup = base + ["backup", source]
        return {"init": base + ["init"], "first": backup, "unchanged": backup, "changed": backup,
                "restore": base + ["restore", "latest", "--target", target],
                "ls": base + ["ls", "latest"],
                "check": base + ["check", "--read-data"],
                "other": into + ["init"], "copy": into + ["copy", "--from-repo", repository],
                "copied": into + ["check"],
                "prune": base + ["forget", "--keep-last", "1", "--prune"]}
    if tool == "rustic":
        rest = ["--cache-dir", cache, "--no-progress", "--log-level", "error"]
        base, into = [program, "-r", repository, *rest], [program, "-r", other, *rest]
        # Targets are profiles, which it looks for in the current folder.
        copy = ["sh", "-c", f"cd '{other}.profile' && exec \"$@\"", "rustic", *base, "copy", "--target", "other"]
        backup = base + ["backup", source]
        return {"init": base + ["init"], "first": backup, "unchanged": backup, "changed": backup,
                "restore": base + ["restore", "latest", target],
                "ls": base + ["ls", "latest"],
                "check": base + ["check", "--read-data"],
                # It copies only between repositories of one chunker, which no option of `init` says.
                "other": copy + ["--init", "--filter-host", "nobody"], "copied": into + ["check"], "copy": copy,
                "prune": base + ["forget", "--keep-last", "1", "--prune", "--instant-delete"]}
    create = [program, "create", "-C", "zstd,3"]
    return {"init": [program, "init", "-e", "repokey-blake2", repository],
            "first": create + [repository + "::a", source], "unchanged": create + [repository + "::b", source],
            "changed": create + [repository + "::c", source],
            "restore": ["sh", "-c", f"mkdir -p '{target}' && cd '{target}' && exec '{program}' extract '{repository}::b'"],
            "ls": [program, "list", repository + "::b"],
            "check": [program, "check", "--verify-data", repository],
            "prune": ["sh", "-c", f"'{program}' prune --keep-last 1 '{repository}' && exec '{program}' compact '{repository}'"]}


def other_repository(repository):
    """Where a repository is copied to."""
    return repository + ".other"


def make_other(steps, repository, log):
    """Makes the empty repository that a copy goes to, and the profile by which rustic finds it."""
    other = other_repository(repository)
    os.makedirs(other + ".profile")
    with open(other + ".profile/other.toml", "w") as file:
        file.write(f'[repository]\nrepository = "{other}"\npassword = "{PASSWORD}"\n')
    if run(steps["other"], log)[0] != 0:
        sys.exit(f"cannot make {other}: see {log}")


def run(command, log):
    """Runs a command. Its status, wall seconds, those until what it wrote is on disk, CPU seconds, peak memory in MiB."""
    os.sync()
    start = time.monotonic()
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    null = os.open(os.devnull, os.O_WRONLY)
    actions = [(os.POSIX_SPAWN_DUP2, null, 1), (os.POSIX_SPAWN_DUP2, output, 2)]
    child = os.posix_spawnp(command[0], command, environment(), file_actions=actions)
    _, status, usage = os.wait4(child, 0)
    os.close(output)
    os.close(null)
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


def one_turn(tool, program, source, options, tag):
    """All steps of one tool on one workload; a result for each."""
    place = os.path.join(options.work, tag)
    repository, target, cache = (os.path.join(place, part) for part in ("repo", "out", "cache"))
    os.makedirs(place, exist_ok=True)
    steps = commands(tool, program, repository, source, target, cache)
    log = os.path.join(options.work, "errors.log")
    name = os.path.basename(source)
    results = {}
    for step in ["init", *(s for s in STEPS if (s in options.steps or s == "first") and s in steps)]:
        written = repository
        if step == "copy":
            make_other(steps, repository, log)
            written = other_repository(repository)
        if step == "changed":
            # Changes are to a copy that has been backed up once, under the same path.
            workloads.change(source)
        for read in (source,) if step in BACKUPS else (repository, cache):
            warm(read)
        if step in ("first", "restore", "check", "copy"):
            touch_memory(held_bytes(source) + MEMORY_TOOL_BYTES)
        status, wall, durable, cpu, memory = run(steps[step], log)
        good = status == 0
        if step == "restore":
            good = good and digest(restored(target, name)) == options.digests[name]
        if step == "copy":
            # rustic says that it failed, and its exit status that it did not.
            is_whole = size_mib(written) > size_mib(repository) * 0.9
            good = good and is_whole and run(steps["copied"], log)[0] == 0
        if step != "init":
            results[step] = {"wall": wall, "durable": durable, "cpu": cpu, "memory": memory, "size": size_mib(written), "good": good}
        elif not good:
            sys.exit(f"{tool} cannot make a repository: see {log}")
    return results


def files_in(folder):
    return sum(len(files) for _, _, files in os.walk(folder))


def measure(options, tools, keep):
    """Calls `keep` with all results so far after each workload."""
    rows, freed = {}, None
    for number, name in enumerate(options.workloads):
        original = os.path.join(options.data, name)
        workloads.make(options.data, [name])
        places, many = [], files_in(original) > FILES_MANY
        if many and freed and "restore" in options.steps:
            time.sleep(max(0, freed + INODES_REST_SECONDS - time.monotonic()))
        for turn in range(options.rounds):
            start = (turn + number) % len(tools)
            order = list(tools)[start:] + list(tools)[:start]
            for tool in order:
                tag, source = f"{name}-{turn}-{tool}", original
                if "changed" in options.steps:
                    source = os.path.join(options.work, tag, "source", name)
                    os.makedirs(source)
                    subprocess.run(["cp", "-a", original + "/.", source], check=True)
                if name not in options.digests:
                    options.digests[name] = digest(source)
                for step, result in one_turn(tool, tools[tool], source, options, tag).items():
                    rows.setdefault((name, step, tool), []).append(result)
            places += [os.path.join(options.work, f"{name}-{turn}-{tool}") for tool in order]
            if not many or turn == options.rounds - 1:
                for place in places:
                    shutil.rmtree(place)
                places = []
                os.sync()
                freed = time.monotonic() if many else freed
        for (workload, step, tool), results in rows.items():
            if workload == name:
                middle = {key: statistics.median(r[key] for r in results) for key in ("wall", "durable", "cpu", "memory", "size")}
                bad = "" if all(r["good"] for r in results) else "  FAILED"
                print(f"{workload:11}{step:10}{tool:8}{middle['wall']:9.2f} s"
                      f"{middle['durable'] - middle['wall']:+6.2f} s{middle['cpu']:9.2f} s CPU"
                      f"{middle['memory']:7.0f} MiB{middle['size']:8.0f} MiB{bad}", flush=True)
        keep(rows)


def versions(tools):
    def ask(program):
        answer = subprocess.run([program, "--version"], capture_output=True, text=True)
        if answer.returncode != 0:
            answer = subprocess.run([program, "version"], capture_output=True, text=True)
        return answer.stdout.split("\n")[0]

    return {tool: ask(program) for tool, program in tools.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--data", default="/tmp/refloat-bench/data")
    parser.add_argument("--work", default="/tmp/refloat-bench/work")
    parser.add_argument("--out", default="results.json")
    parser.add_argument("--workloads", type=lambda text: text.split(","), default=list(WORKLOADS))
    parser.add_argument("--steps", type=lambda text: text.split(","), default=list(STEPS))
    parser.add_argument("tools", nargs="*", metavar="TOOL=PATH")
    options = parser.parse_args()
    options.data, options.work = os.path.abspath(options.data), os.path.abspath(options.work)
    options.digests = {}
    given = dict(tool.split("=", 1) for tool in options.tools)
    found = {tool: given.get(tool, shutil.which(tool)) for tool in TOOLS}
    tools = {tool: path for tool, path in found.items() if path}
    if not tools or set(given) - set(TOOLS) or set(options.steps) - set(STEPS):
        parser.error("no tools, or an unknown tool or step")
    os.makedirs(options.work, exist_ok=True)
    load, asked = os.getloadavg(), versions(tools)

    def keep(rows):
        results = {"versions": asked, "processors": os.cpu_count(), "rounds": options.rounds,
                   "load": [load, os.getloadavg()],
                   "rows": [{"workload": w, "step": s, "tool": t, "runs": r} for (w, s, t), r in rows.items()]}
        with open(options.out + ".new", "w") as file:
            json.dump(results, file, indent=1)
        os.replace(options.out + ".new", options.out)

    measure(options, tools, keep)
    print(f"results are in {options.out}; report.py makes a table and a plot of them")


if __name__ == "__main__":
    main()
