"""python -m lopt --cflags --libs: what a C or C++ compiler is to be told."""

import argparse
import os
import shlex

from . import __version__, include_dir, library_dir


def main():
    parser = argparse.ArgumentParser(
        prog="python -m lopt", description="Flags for programs in C and C++: cc prog.c $(python -m lopt --cflags --libs)"
    )
    parser.add_argument("--cflags", action="store_true", help="where lopt.h, lopt.hpp and the other headers are")
    parser.add_argument("--libs", action="store_true", help="the shared library; the program finds it where it is now")
    parser.add_argument("--static", action="store_true", help="with --libs: liblopt.a, which becomes part of the program")
    parser.add_argument("--version", action="version", version=__version__)
    arguments = parser.parse_args()
    flags = []
    if arguments.cflags:
        flags.append("-I" + include_dir())
    if arguments.libs and arguments.static:
        flags += [os.path.join(library_dir(), "liblopt.a"), "-lm", "-pthread"]
    elif arguments.libs:
        flags += ["-L" + library_dir(), "-llopt", "-Wl,-rpath," + library_dir()]
    if not flags:
        parser.error("--cflags, --libs or both")
    print(" ".join(shlex.quote(flag) for flag in flags))


if __name__ == "__main__":
    main()
