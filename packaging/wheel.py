"""python3 packaging/wheel.py VERSION MACHINE GLIBC LIBRARY ARCHIVE FOLDER: writes the wheel into FOLDER and prints its name.

A wheel has no symbolic links: the library is there by its SONAME, and liblopt.so, which compilers look for, is a linker script
that names it. The same input gives the same bytes; times are SOURCE_DATE_EPOCH."""

import base64
import hashlib
import os
import sys
import time
import zipfile

version, machine, glibc, library, archive, folder = sys.argv[1:]
soname = "liblopt.so." + version.split(".")[0]
tag = f"py3-none-manylinux_{glibc.replace('.', '_')}_{machine}"
name = f"lopt-{version}-{tag}.whl"
info = f"lopt-{version}.dist-info"
date = max(time.gmtime(int(os.environ["SOURCE_DATE_EPOCH"]))[:6], (1980, 1, 1, 0, 0, 0))


def read(path):
    with open(path, "rb") as file:
        return file.read()


files = {}
for source, target in (("bindings/python/lopt", "lopt"), ("include", "lopt/include")):
    for entry in os.listdir(source):
        if os.path.isfile(f"{source}/{entry}"):
            files[f"{target}/{entry}"] = read(f"{source}/{entry}")
files[f"lopt/lib/{soname}"] = read(library)
files["lopt/lib/liblopt.so"] = f"INPUT ( {soname} )\n".encode()
files["lopt/lib/liblopt.a"] = read(archive)
files[f"{info}/licenses/LICENSE"] = read("LICENSE")
files[f"{info}/WHEEL"] = f"Wheel-Version: 1.0\nGenerator: lopt\nRoot-Is-Purelib: false\nTag: {tag}\n".encode()
files[f"{info}/METADATA"] = f"""Metadata-Version: 2.1
Name: lopt
Version: {version}
Summary: Train with a learned optimizer: for PyTorch on the CPU, and for C, C++ and Fortran
License: Apache-2.0
Requires-Python: >=3.8
Description-Content-Type: text/markdown

{read("bindings/python/README.md").decode()}""".encode()

record = f"{info}/RECORD"
lines = []
for path in sorted(files):
    digest = base64.urlsafe_b64encode(hashlib.sha256(files[path]).digest()).rstrip(b"=").decode()
    lines.append(f"{path},sha256={digest},{len(files[path])}\n")
files[record] = ("".join(lines) + f"{record},,\n").encode()

with zipfile.ZipFile(f"{folder}/{name}", "w", zipfile.ZIP_DEFLATED, compresslevel=9) as wheel:
    for path in sorted(files, key=lambda path: (path.startswith(info), path == record, path)):
        entry = zipfile.ZipInfo(path, date)
        entry.compress_type = zipfile.ZIP_DEFLATED
        entry.external_attr = (0o755 if path.endswith(soname) else 0o644) << 16
        wheel.writestr(entry, files[path])
print(name)
