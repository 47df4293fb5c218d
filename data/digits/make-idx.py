#!/usr/bin/env python3
"""Turns scikit-learn's digits.csv.gz into the two IDX files of this folder.

    make-idx.py digits.csv.gz OUTPUT_FOLDER

Every line of the CSV has 64 pixels (0 to 16, row by row) and the label. IDX is the format of the MNIST files, so that
one reader does for both: two zero bytes, the type (8: unsigned byte), the number of dimensions, each dimension as a
big-endian 32-bit integer, then the elements in row-major order.
"""
import gzip
import pathlib
import struct
import sys


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    source, folder = sys.argv[1], pathlib.Path(sys.argv[2])
    with gzip.open(source, "rt") as lines:
        rows = [[int(float(field)) for field in line.split(",")] for line in lines]
    if len(rows) != 1797 or any(len(row) != 65 or max(row) > 16 or min(row) < 0 for row in rows):
        sys.exit(f"{source}: not the 1,797 rows of 64 pixels and a label that were expected")
    pixels = b"".join(bytes(row[:64]) for row in rows)
    labels = bytes(row[64] for row in rows)
    (folder / "images-idx3-ubyte").write_bytes(struct.pack(">BBBBIII", 0, 0, 8, 3, len(rows), 8, 8) + pixels)
    (folder / "labels-idx1-ubyte").write_bytes(struct.pack(">BBBBI", 0, 0, 8, 1, len(rows)) + labels)


main()
