"""python build.py OUTPUT [VARIANT]: compile the native launcher, with the standard library alone.

CC names another C compiler than cc. Variants: plain is what is installed; strict is that, and warnings are
errors; sanitized finds misuse of memory and undefined behaviour while it runs; forking makes children that
have memory of their own, since valgrind follows no others.
"""

import glob
import os
import shlex
import shutil
import subprocess
import sys

FOLDER = os.path.dirname(os.path.abspath(__file__))

_COMMON = ["-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra"]
_STRICT = [
    "-g", "-Werror", "-pedantic", "-Wshadow", "-Wconversion", "-Wstrict-prototypes", "-Wmissing-prototypes",
    "-Wold-style-definition", "-Wformat=2", "-Wvla", "-Wcast-qual", "-Wcast-align", "-Wundef",
    "-Wwrite-strings", "-Wpointer-arith", "-Wnull-dereference", "-Wdouble-promotion", "-Wswitch-enum",
    "-Wimplicit-fallthrough", "-Wframe-larger-than=4096",
]  # fmt: skip
_HARDENED = [
    "-O2", "-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=2", "-fstack-protector-strong", "-fstack-clash-protection",
    "-fPIE", "-pie", "-Wl,-z,relro,-z,now,-z,noexecstack",
]  # fmt: skip
_BY_MACHINE = {"x86_64": ["-fcf-protection=full"], "aarch64": ["-mbranch-protection=standard"]}
_SANITIZED = ["-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"]

VARIANTS = {
    "plain": _HARDENED,
    "strict": [*_HARDENED, *_STRICT],
    "sanitized": [*_SANITIZED, *_STRICT],
    "forking": ["-O1", "-DUCSPID_FORKS", *_STRICT],
}


class CannotBuildError(Exception):
    """The launcher in C cannot be compiled here; the text says why."""


def build(output: str, variant: str = "plain") -> None:
    """Compile. Raises CannotBuildError."""
    compiler = shlex.split(os.environ.get("CC", "cc"))
    if not compiler or shutil.which(compiler[0]) is None:
        raise CannotBuildError("there is no C compiler (cc)")
    flags = [*_COMMON, *VARIANTS[variant]]
    if "-O2" in flags:
        flags += _BY_MACHINE.get(_run([*compiler, "-dumpmachine"]).partition("-")[0], [])
    sources = sorted(glob.glob(os.path.join(FOLDER, "*.c")))
    made = f"{output}.{os.getpid()}"
    try:
        _run([*compiler, *flags, *sources, "-o", made])
        os.replace(made, output)  # one that runs is not written over
    finally:
        if os.path.exists(made):
            os.unlink(made)


def _run(command: list[str]) -> str:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        lines = [line for line in result.stderr.splitlines() if "error" in line] or [f"{command[0]} failed"]
        raise CannotBuildError(lines[0])
    return result.stdout


if __name__ == "__main__":
    try:
        build(*sys.argv[1:])
    except CannotBuildError as problem:
        sys.exit(f"the native launcher cannot be built: {problem}")
