#!/usr/bin/env python3
"""make-idx.py FOLDER: makes the files beside it from the files of Fashion-MNIST in FOLDER, as Debian's package
dataset-fashion-mnist has them in /usr/share/datasets/fashion-mnist: the first 5,000 training images, 28x28, each 2x2 pixels
averaged (rounded to the nearest, halves up), and their labels, as IDX files."""
import gzip
import pathlib
import sys

COUNT, SIDE = 5000, 28


def read(path, header):
    with gzip.open(path) as file:
        return file.read()[header:]


def idx(kind, shape, values):
    return bytes([0, 0, 8, kind]) + b"".join(n.to_bytes(4, "big") for n in shape) + values


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    source, target = pathlib.Path(sys.argv[1]), pathlib.Path(__file__).resolve().parent
    images = read(source / "train-images-idx3-ubyte.gz", 16)
    labels = read(source / "train-labels-idx1-ubyte.gz", 8)[:COUNT]
    half = SIDE // 2
    small = bytearray()
    for i in range(COUNT):
        image = images[i * SIDE * SIDE:(i + 1) * SIDE * SIDE]
        for y in range(0, SIDE, 2):
            top, bottom = image[y * SIDE:(y + 1) * SIDE], image[(y + 1) * SIDE:(y + 2) * SIDE]
            small += bytes((top[x] + top[x + 1] + bottom[x] + bottom[x + 1] + 2) // 4 for x in range(0, SIDE, 2))
    (target / "images-idx3-ubyte").write_bytes(idx(3, (COUNT, half, half), bytes(small)))
    (target / "labels-idx1-ubyte").write_bytes(idx(1, (COUNT,), labels))


main()
