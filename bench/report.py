#!/usr/bin/env python3
"""Turns results of compare.py into a Markdown table and a plot.

usage: report.py RESULTS.json... DOCUMENT.md PLOT.svg

Several results are of runs with other workloads or steps; each says for itself how many rounds it was.

In the document, what stands between the lines `<!-- table -->` and `<!-- end of table -->` is
replaced; one that is not there is made. The plot shows, for each workload and step, how many times as long each tool took as
refloat. Times that are compared are those until what was written is on disk.
"""
import json
import os
import statistics
import sys

from commands import TOOLS

BEGIN, END = "<!-- table -->\n", "<!-- end of table -->"
EMPTY = f"""# What a run of bench/run took

Each cell: wall seconds (and, after a plus, those until what was written is on disk), processor seconds, peak MiB,
repository MiB. docs/performance.md says how it is measured.

![times as multiples of refloat's](PLOT)

{BEGIN}{END}
"""
COLOURS = {"restic": "#4e79a7", "rustic": "#f28e2b", "borg": "#59a14f"}
# What a peer's figure must be at least, as a multiple of ours; all others 3.
GOALS = {("large", "first"): 2.0, ("one", "first"): 2.0, ("large", "unchanged"): None, ("one", "unchanged"): None}


def load(paths):
    """The runs, and the middle figures of each workload and step, of the run that says them first."""
    runs, rows = [], {}
    for path in paths:
        with open(path) as file:
            runs.append(json.load(file))
        rows_of_run = {}
        for row in runs[-1]["rows"]:
            middle = {key: statistics.median(run[key] for run in row["runs"]) for key in ("wall", "durable", "cpu", "memory", "size")}
            middle["good"] = all(run["good"] for run in row["runs"])
            rows_of_run.setdefault((row["workload"], row["step"]), {})[row["tool"]] = middle
        for key, tools in rows_of_run.items():
            rows.setdefault(key, tools)
    return runs, rows


def cell(figures):
    if figures is None:
        return "—"
    mark = "" if figures["good"] else " **failed**"
    wall, later = f"{figures['wall']:.2f}", figures["durable"] - figures["wall"]
    if later >= 0.05:
        wall += f" + {later:.2f}"
    return f"{wall}, {figures['cpu']:.2f}, {figures['memory']:.0f}, {figures['size']:.0f}{mark}"


def fastest(tools):
    peers = [(f["durable"], name) for name, f in tools.items() if name != "refloat" and f["good"]]
    return min(peers, default=None)


def conditions(run):
    names = ", ".join(dict.fromkeys(row["workload"] for row in run["rows"]))
    rounds = "one round" if run["rounds"] == 1 else f"{run['rounds']} rounds, the middle ones"
    before, after = (load[0] for load in run["load"])
    return f"{names}: {rounds}, load averages before and after {before:.1f} and {after:.1f}"


def table(runs, rows):
    versions = {tool: version for run in runs for tool, version in run["versions"].items()}
    tools = [tool for tool in TOOLS if tool in versions]
    lines = [
        f"{runs[0]['processors']} processors; " + ", ".join(versions[tool] for tool in tools) + ". "
        + "; ".join(conditions(run) for run in runs) + ".",
        "",
        "| workload | step | " + " | ".join(tools) + " | ratio | goal |",
        "|---|---|" + "---|" * len(tools) + "---|---|",
    ]
    for (workload, step), found in rows.items():
        best, ours = fastest(found), found.get("refloat")
        ratio = f"{best[0] / ours['durable']:.1f} × {best[1]}" if best and ours else "—"
        goal = GOALS.get((workload, step), 3.0)
        lines.append(f"| {workload} | {step} | " + " | ".join(cell(found.get(tool)) for tool in tools)
                     + f" | {ratio} | {f'{goal:.0f} ×' if goal else 'none'} |")
    return "\n".join(lines)


def plot(rows):
    """Bars: each peer's time until all is on disk divided by ours; the line at 1 is refloat, the one at 3 the goal."""
    bars = []
    for (workload, step), found in rows.items():
        ours = found.get("refloat")
        peers = [(tool, found[tool]["durable"] / ours["durable"]) for tool in COLOURS if ours and tool in found]
        bars.append((f"{workload}, {step}", peers))
    left, width, bar = 150, 560, 11
    longest = max((ratio for _, peers in bars for _, ratio in peers), default=1)
    scale = width / max(4, min(longest, 16))
    parts, y = [], 40
    for label, peers in bars:
        middle = y + bar * len(peers) / 2 + 4
        parts.append(f'<text x="{left - 8}" y="{middle:.0f}" text-anchor="end">{label}</text>')
        for tool, ratio in peers:
            length = min(ratio * scale, width)
            parts.append(f'<rect x="{left}" y="{y}" width="{length:.0f}" height="{bar - 2}" fill="{COLOURS[tool]}"/>')
            parts.append(f'<text x="{left + length + 4:.0f}" y="{y + 8}" class="n">{ratio:.1f}</text>')
            y += bar
        y += 8
    for times, text in ((1, "refloat"), (3, "3 ×")):
        x = left + times * scale
        parts.append(f'<line x1="{x:.0f}" x2="{x:.0f}" y1="34" y2="{y}" stroke="#888" stroke-dasharray="3 3"/>')
        parts.append(f'<text x="{x:.0f}" y="30" text-anchor="middle" class="n">{text}</text>')
    legend = "".join(f'<rect x="{left + 130 * i}" y="6" width="10" height="10" fill="{colour}"/>'
                     f'<text x="{left + 130 * i + 14}" y="15">{tool}</text>' for i, (tool, colour) in enumerate(COLOURS.items()))
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + width + 50}" height="{y + 10}" '
            'font-family="sans-serif" font-size="11"><style>.n{font-size:9px;fill:#555}</style>'
            '<rect width="100%" height="100%" fill="white"/>' + legend + "".join(parts) + "</svg>\n")


def write(results, place, picture):
    """Writes table and plot; a document without the lines between which the table goes is made anew."""
    runs, rows = load(results)
    document = EMPTY.replace("PLOT", os.path.basename(picture))
    if os.path.exists(place):
        with open(place) as file:
            found = file.read()
        document = found if BEGIN in found else document
    before, rest = document.split(BEGIN, 1)
    after = rest.split(END, 1)[1]
    with open(place, "w") as file:
        file.write(f"{before}{BEGIN}{table(runs, rows)}\n{END}{after}")
    with open(picture, "w") as file:
        file.write(plot(rows))


def main():
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    *results, place, picture = sys.argv[1:]
    write(results, place, picture)


if __name__ == "__main__":
    main()
