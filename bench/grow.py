#!/usr/bin/env python3
"""Times what grows with files, bytes and points once small and once large, and says by what factor it grew.

usage: grow.py [--rounds N] [--data DIR] [--work DIR] [--out FILE.json] [--kinds A,B] [--points FEW,MANY] [TOOL=PATH...]

Kinds: files (`small` and `million`, ten times as many), bytes (`large_tenth` and `large`, ten times as many), points
(one repository with 10 and one with 1,000 points of 100 files of which each point changes one; making the large ones takes each
tool a quarter of an hour). Of the points each tool lists all of them, makes one more, checks without
reading all data, and drops all but the last (`forget` with `prune`). Blobs are what the synthetic test of
docs/performance.md is for. Turns, warmth and the check of results are those of compare.py; FILE.json gets all
figures, and FILE.md beside it the table: a factor below that of the work is what is wanted.
"""
import json
import os
import random
import shutil
import statistics
import subprocess

import commands
import compare
import workloads

KINDS = {"files": ("small", "million"), "bytes": ("large_tenth", "large"), "points": ()}
# What grows: `prune` and `copy` are of the same data, and take long.
STEPS = ("first", "unchanged", "restore", "changed", "ls", "find", "check")
POINT_STEPS = ("points", "changed", "sound", "prune")
POINT_FILES, POINT_FILE_BYTES = 100, 20_000


def make_tree(folder):
    rng, text = random.Random("points"), workloads.Text("points")
    for number in range(POINT_FILES):
        workloads.put(f"{folder}/{number:02}.log", [text.write(rng, POINT_FILE_BYTES)])


def make_points(turn, count):
    """A repository of so many points, each with another file changed."""
    turn.must("init")
    for number in range(count):
        with open(f"{turn.source}/{number % POINT_FILES:02}.log", "r+b") as file:
            file.write(f"{number:08}\n".encode())
        turn.must("first" if number == 0 else "again")
        if number % 100 == 99:
            print(f"{turn.place}: {number + 1} points", flush=True)


def points_turn(turn, count, held):
    """The steps on a repository of so many points; each leaves what it should, or it did not do it."""
    results = {}
    for step in POINT_STEPS:
        results[step] = turn.take(step, held, None)
        if step == "points":
            with open(turn.found) as file:
                results[step]["good"] &= len(file.read().splitlines()) >= count
    return results


def measure_points(options, tools, rows):
    for count in options.points:
        turns, name = {}, f"points_{count}"
        for tool, program in tools.items():
            place = os.path.join(options.work, f"{name}-{tool}")
            source = os.path.join(options.work, f"{name}-{tool}-source")
            shutil.rmtree(source, ignore_errors=True)
            make_tree(source)
            turn = turns[tool] = compare.Turn(tool, program, source, place, options.log)
            make_points(turn, count)
            turn.drop(place + ".made", source + ".made")
            os.rename(place, place + ".made")
            shutil.copytree(source, source + ".made")
        for number in range(options.rounds):
            for tool in compare.in_turn(tools, number):
                turn = turns[tool]
                # Its cache goes along, so that no tool finds a repository older than what it remembers.
                for path in (turn.place, turn.source):
                    os.makedirs(path, exist_ok=True)
                    subprocess.run(["cp", "-a", path + ".made/.", path], check=True)
                for step, result in points_turn(turn, count, compare.held_bytes(turn.source)).items():
                    rows.setdefault((name, step, tool), []).append(result)
                turn.drop(turn.place)
        for turn in turns.values():
            turn.drop(turn.place + ".made", turn.source + ".made", turn.source)
        compare.show(rows, name)


def table(rows, options, versions):
    """A row for each kind, step and tool."""
    pairs = [(kind, KINDS[kind], 10) for kind in ("files", "bytes") if kind in options.kinds]
    if "points" in options.kinds:
        few, many = options.points
        pairs.append(("points", (f"points_{few}", f"points_{many}"), many / few))
    lines = [f"# What grows with the work\n\n{os.cpu_count()} processors; {', '.join(versions.values())}; "
             f"rounds: {options.rounds}, the middle ones. Seconds until all is on disk; peak MiB.\n",
             "| what grows | step | tool | seconds at 1 × | seconds at N × | N | factor | MiB at 1 × | MiB at N × |",
             "|---|---|---|---|---|---|---|---|---|"]
    for kind, (small, large), times in pairs:
        for (name, step, tool), runs in rows.items():
            if name != small or (large, step, tool) not in rows:
                continue
            both = (runs, rows[large, step, tool])
            seconds = [statistics.median(run["durable"] for run in found) for found in both]
            memory = [statistics.median(run["memory"] for run in found) for found in both]
            mark = "" if all(run["good"] for found in both for run in found) else " **failed**"
            lines.append(f"| {kind} | {step} | {tool} | {seconds[0]:.2f} | {seconds[1]:.2f}{mark} | {times:.0f} "
                         f"| {seconds[1] / seconds[0]:.1f} | {memory[0]:.0f} | {memory[1]:.0f} |")
    return "\n".join(lines) + "\n"


def main():
    parser = compare.arguments(__doc__)
    parser.add_argument("--out", type=os.path.abspath, default=os.path.join(compare.ROOT, "bench/out/grow.json"), metavar="FILE.json")
    parser.add_argument("--kinds", type=lambda text: text.split(","), default=list(KINDS), metavar="A,B")
    parser.add_argument("--points", type=lambda text: [int(n) for n in text.split(",")], default=[10, 1000], metavar="FEW,MANY")
    parser.set_defaults(rounds=1)
    options = parser.parse_intermixed_args()
    if set(options.kinds) - set(KINDS) or len(options.points) != 2 or not 1 < options.points[0] < options.points[1]:
        parser.error(f"an unknown kind (there are {', '.join(KINDS)}), or not two numbers of points, the smaller one first")
    options.steps = list(STEPS)
    options.workloads = [name for kind in KINDS if kind in options.kinds for name in KINDS[kind]]
    tools = compare.prepared(parser, options)
    versions, all_rows = commands.versions(tools), {}
    place = os.path.splitext(options.out)[0] + ".md"

    def keep(rows):
        all_rows.update(rows)
        with open(options.out, "w") as file:
            json.dump([{"workload": w, "step": s, "tool": t, "runs": r} for (w, s, t), r in all_rows.items()], file, indent=1)
        with open(place, "w") as file:
            file.write(table(all_rows, options, versions))

    compare.measure(options, tools, keep)
    if "points" in options.kinds:
        rows = {}
        measure_points(options, tools, rows)
        keep(rows)
    print(f"a table is in {place}, all figures in {options.out}")


if __name__ == "__main__":
    main()
