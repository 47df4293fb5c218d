"""A point on the line between two weights files: blend.py BEFORE AFTER PART OUT. Clamped to the ranges of both."""
import sys

import numpy as np

import rule
import weights as files


def main():
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    (before, _), (after, metadata), part = files.read(sys.argv[1]), files.read(sys.argv[2]), float(sys.argv[3])
    both = rule.split(((1 - part) * before + part * after).astype(np.float32))
    ranges = [rule.split(th)["statistics_ranges"] for th in (before, after)]
    both["statistics_ranges"][:] = np.stack([np.maximum(ranges[0][0], ranges[1][0]), np.minimum(ranges[0][1], ranges[1][1])])
    files.write(sys.argv[4], rule.join(both), dict(metadata, blend=f"{part} of these and {1 - part} of those they began with"))


if __name__ == "__main__":
    main()
