#!/usr/bin/env python3
"""compare.py BASE NOW [FACTOR]: two files of `make bench BENCH_ARGS="--json FILE"`, row by row, by the ratio to AdamW, which the
speed of the machine touches least. Ends with 1 if a row has become more than FACTOR (1.15) times as slow, with 2 if there is
nothing to compare."""
import json
import sys


def rows(path):
    with open(path) as file:
        report = json.load(file)
    kept = {}
    for row in report["results"]:
        if "hidden" in row:  # of lopt, not of torch
            kept[row["problem"], row["rule"], row["threads"], row["cold"]] = row
    return report, kept


def main(arguments):
    if len(arguments) not in (2, 3):
        sys.exit(__doc__)
    factor = float(arguments[2]) if len(arguments) == 3 else 1.15
    (base, before), (now, after) = rows(arguments[0]), rows(arguments[1])
    if base["isa"] != now["isa"] or base["cpu"] != now["cpu"]:
        print(f"{base['cpu']}, {base['isa']} against {now['cpu']}, {now['isa']}: of little worth")
    common = [key for key in after if key in before]
    if not common:
        print("no row is in both files")
        return 2
    slower = 0
    print(f"{'problem':12} {'rule':18} {'thr':>3} {'cache':5} {'before':>7} {'now':>7} {'change':>7}")
    for key in common:
        problem, rule, threads, cold = key
        a, b = before[key]["ratio"], after[key]["ratio"]
        mark = ""
        if b > factor * a:
            slower += 1
            mark = "  slower"
        print(f"{problem:12} {rule:18} {threads:3} {'cold' if cold else 'warm':5} {a:7.2f} {b:7.2f} {b / a:7.2f}{mark}")
    print(f"{slower} of {len(common)} rows more than {factor} times as slow, relative to AdamW")
    return 1 if slower else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
