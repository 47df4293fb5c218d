#!/usr/bin/env python3
"""make-csv.py SKLEARN STATSMODELS: makes the files beside it from two wheels of Python packages, scikit-learn and statsmodels.

A header with the columns' names, then a line for each row, numbers as they are in the source; the last column is what is to be
predicted. Of doctor-visits every tenth row, and of the visits, 0 to 77, log(1 + visits) to 4 digits."""
import math
import pathlib
import sys
import zipfile

FLOWER = ["sepal length", "sepal width", "petal length", "petal width"]
WINE = ["alcohol", "malic acid", "ash", "alcalinity", "magnesium", "phenols", "flavanoids", "nonflavanoids", "proanthocyanins",
        "colour", "hue", "dilution", "proline"]
CELL = ["radius", "texture", "perimeter", "area", "smoothness", "compactness", "concavity", "concave points", "symmetry", "fractal dimension"]


def write(name, columns, rows):
    lines = [",".join(columns)] + [",".join(row) for row in rows]
    pathlib.Path(__file__).with_name(f"{name}.csv").write_text("\n".join(lines) + "\n")
    print(name, len(rows), "rows")


def rows(wheel, path):
    with zipfile.ZipFile(wheel) as file:
        return [line.split(",") for line in file.read(path).decode().splitlines()[1:]]


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    for name, path, columns in [
            ("iris", "iris", FLOWER), ("wine", "wine_data", WINE),
            ("breast-cancer", "breast_cancer", [f"{part} {c}" for part in ("mean", "error of", "worst") for c in CELL])]:
        write(name, columns + ["class"], rows(sys.argv[1], f"sklearn/datasets/data/{path}.csv"))
    visits = rows(sys.argv[2], "statsmodels/datasets/randhie/randhie.csv")[::10]
    columns = ["coinsurance", "deductible", "participation", "expenditure", "limitation", "diseases", "good", "fair", "poor", "log visits"]
    write("doctor-visits", columns, [row[1:] + [f"{math.log1p(int(row[0])):.4f}"] for row in visits])


main()
