"""How much disk a run of compare.py or grow.py takes, and whether it is there."""
import os
import shutil
import subprocess
import sys

import workloads

MIB = 1 << 20
# What a repository may have more than its source: what changed, indexes, what no prune has reclaimed yet, caches.
REPOSITORY_SHARE = 1.3
# What the machine needs besides, in MiB.
SPARE_MIB = 1024


def of_data(options):
    """MiB of the workloads that are still to be made."""
    return sum(workloads.SIZES[name][0] for name in options.workloads
               if not os.path.exists(os.path.join(options.data, name)))


def of_work(options, tools):
    """The most that is there at once in the work folder, in MiB: places go as soon as nothing needs them any more, but
    trees of many files stay until all rounds are over."""
    def of(name):
        held, long, files = workloads.SIZES[name]
        # Some write holes out.
        restored = max(held, long) if "restore" in options.steps else 0
        copied = held * REPOSITORY_SHARE if "copy" in options.steps else 0
        changed = held if set(workloads.CHANGING) & set(options.steps) else 0
        trees = restored * options.rounds * tools + copied if files > workloads.FILES_MANY else max(restored, copied)
        return changed + held * REPOSITORY_SHARE + trees

    return max(map(of, options.workloads), default=0)


def require(options, tools):
    """Ends the program if a folder is in memory or there is too little room. `tools` is their number."""
    needs = {options.data: of_data(options), options.work: of_work(options, tools)}
    for folder in needs:
        kind = subprocess.run(["stat", "-f", "-c", "%T", folder], capture_output=True, text=True, check=True).stdout.strip()
        if kind in ("tmpfs", "ramfs"):
            sys.exit(f"{folder} is in memory ({kind}): say a folder on disk by --data and --work")
    if os.stat(options.data).st_dev == os.stat(options.work).st_dev:
        needs = {options.work: sum(needs.values())}
    for folder, need in needs.items():
        free = shutil.disk_usage(folder).free // MIB
        print(f"up to {need / 1024:.0f} GiB will be used at once below {folder}, {free / 1024:.0f} GiB are free")
        if need + SPARE_MIB > free:
            sys.exit("too little: take fewer --workloads, --rounds or --steps, or other disks by --data and --work")
