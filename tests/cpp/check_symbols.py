"""The libraries keep to torch's stable C ABI and export nothing, so that one binary loads under every torch and Python.

check_symbols.py LIB... [--isa-object PATH...] prints every offending symbol and exits with 1 if there is one.

Libraries: no C++ symbol of torch, none of Python and none of CUDA is needed or defined; operators register from static
constructors, so nothing has to be exported, and nothing is but what the compiler insists on: weak pieces of the C++
standard library.
ISA objects (or archives): no weak definition. The linker keeps one copy of each for the whole program; were it the one
compiled for a larger instruction set, any caller would crash on a smaller machine.
"""

import argparse
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FORBIDDEN = re.compile(r"(?<![\w:])(c10|at|torch|caffe2)::|^_?Py[A-Z_]|^_*cu(da)?[A-Z]")
# Itanium names of entities of std and __gnu_cxx: functions, statics and guards in them, RTTI, placement new.
STANDARD_LIBRARY = re.compile(r"_Z(T[VISTC]|GV)?Z*N?[KVr]*(St|S[absiod]|9__gnu_cxx)|_Zn[wa]mPv$")
# What the linker itself defines.
LINKER = {"_init", "_fini", "_edata", "_end", "__bss_start", "__data_start"}
WEAK_DEFINITIONS = "WVu"


@dataclass(frozen=True)
class Symbol:
    kind: str  # letter of nm
    mangled: str
    name: str

    @property
    def undefined(self) -> bool:
        return self.kind in "Uwv"


def symbols(path: Path, dynamic: bool) -> Iterator[Symbol]:
    # --no-sort: both listings come in the order of the table, line by line the same symbols.
    flags = ["--no-sort"] + (["--dynamic"] if dynamic else [])
    raw, demangled = (
        subprocess.run(["nm", *flags, *more, path], check=True, capture_output=True, text=True).stdout.splitlines()
        for more in ([], ["--demangle"])
    )
    line_of = re.compile(r"(?:[0-9a-fA-F]+| +) ([A-Za-z]) (.+)")
    for raw_line, demangled_line in zip(raw, demangled, strict=True):
        if match := line_of.match(raw_line):
            yield Symbol(match[1], match[2].split("@")[0], line_of.match(demangled_line)[2])


def library_offences(path: Path) -> Iterator[str]:
    for symbol in symbols(path, dynamic=True):
        if FORBIDDEN.search(symbol.name):
            yield f"{'needs' if symbol.undefined else 'defines'} {symbol.name}; the host may lack it or have another"
        elif not symbol.undefined and symbol.mangled not in LINKER and not is_standard_library(symbol):
            yield f"exports {symbol.name} ({symbol.kind}); nothing but weak pieces of the standard library may be"


def is_standard_library(symbol: Symbol) -> bool:
    return symbol.kind in WEAK_DEFINITIONS and bool(STANDARD_LIBRARY.match(symbol.mangled))


def isa_object_offences(path: Path) -> Iterator[str]:
    for symbol in symbols(path, dynamic=False):
        if symbol.kind in WEAK_DEFINITIONS:
            yield f"defines {symbol.name} weakly ({symbol.kind}); make it static or put it in an unnamed namespace"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("libraries", nargs="*", type=Path, metavar="LIB")
    parser.add_argument("--isa-object", nargs="+", type=Path, default=[], metavar="PATH", dest="isa_objects")
    args = parser.parse_args()
    if not args.libraries and not args.isa_objects:
        parser.error("at least one library or object must be given")
    checks = [(p, library_offences) for p in args.libraries] + [(p, isa_object_offences) for p in args.isa_objects]
    offences = [f"{path}: {offence}" for path, check in checks for offence in check(path)]
    print("\n".join(offences) or f"{len(checks)} files hold")
    return 1 if offences else 0


if __name__ == "__main__":
    sys.exit(main())
