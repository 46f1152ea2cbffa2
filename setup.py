"""Builds the extension `workerpool._core`. All that is constant stands in pyproject.toml.

The environment decides how it is built:

    CC, CFLAGS, LDFLAGS         as usual
    WORKERPOOL_WITH_LIBFFI      1: libffi is required, 0: it is not used; by default where it is found
    WORKERPOOL_DEBUG            1: no optimisation, all debugging information, assertions
    WORKERPOOL_SANITIZE         address,undefined or thread: build with these sanitizers
    WORKERPOOL_PORTABLE_WAIT    1: mutexes and condition variables also where the system has futexes
    WORKERPOOL_WERROR           1: a compiler warning ends the build
"""

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from glob import glob
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build import build
from setuptools.command.build_ext import build_ext

HEADERS = ["csrc/include/workerpool.h", "csrc/include/workerpool_api.h"]
INCLUDE_DIRS = ["csrc/core", "csrc/native", "csrc/include", "csrc/python"]

PROBE_LIBC = "#include <pthread.h>\n#include <stdio.h>\nint main(void) { return 0; }\n"
PROBE_LIBFFI = """\
#include <ffi.h>
int main(void)
{
    ffi_cif cif;
    return ffi_prep_cif(&cif, FFI_DEFAULT_ABI, 0, &ffi_type_void, 0) == FFI_OK ? 0 : 1;
}
"""


class Missing(SystemExit):
    """Something the build needs is not there. Ends the build with one line and no traceback."""

    def __init__(self, what: str, packages: str) -> None:
        super().__init__(f"workerpool: {what}; on Debian and Ubuntu: apt install {packages}")


def is_on(name: str) -> bool:
    return os.environ.get(name, "") not in {"", "0"}


def compiler() -> list[str]:
    """The C compiler that setuptools will call, with the arguments that are part of its name."""
    return shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")


def links(source: str, *flags: str) -> bool:
    """Whether a program can be compiled and linked."""
    with tempfile.TemporaryDirectory() as folder:
        probe = Path(folder, "probe.c")
        probe.write_text(source)
        environment = [shlex.split(os.environ.get(name, "")) for name in ("CFLAGS", "LDFLAGS")]
        command = [*compiler(), *environment[0], str(probe), "-o", f"{folder}/probe", *environment[1], *flags]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0


def need_toolchain() -> None:
    """Names what the build lacks, before setuptools and the compiler fail over it at length."""
    if os.name != "posix":
        raise SystemExit("workerpool: only Linux and macOS are supported, because it needs POSIX threads")
    name = compiler()[0]
    if shutil.which(name) is None:
        raise Missing(f"the C compiler {name!r} was not found", "gcc")
    if not links(PROBE_LIBC, "-pthread"):
        raise Missing(f"{name!r} cannot build a C program that includes <pthread.h>", "libc6-dev")
    folders = {sysconfig.get_path("include"), sysconfig.get_path("platinclude")}
    if not any(Path(folder, "Python.h").is_file() for folder in folders):
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        packages = f"python3-dev (or python{version}-dev)"
        raise Missing(f"Python.h of Python {version} was not found in {folders.pop()}", packages)


def find_libffi() -> list[str] | None:
    """The flags to build with libffi, None where it is not to be used."""
    wanted = os.environ.get("WORKERPOOL_WITH_LIBFFI", "")
    if wanted == "0":
        return None
    candidates = [["-lffi"]]
    pkg_config = shutil.which(os.environ.get("PKG_CONFIG", "pkg-config"))
    if pkg_config is not None:
        command = [pkg_config, "--cflags", "--libs", "libffi"]
        asked = subprocess.run(command, capture_output=True, text=True, check=False)
        if asked.returncode == 0:
            candidates.insert(0, shlex.split(asked.stdout))
    for flags in candidates:
        if links(PROBE_LIBFFI, *flags):
            return flags
    if wanted:
        raise Missing("WORKERPOOL_WITH_LIBFFI is set and libffi was not found", "libffi-dev")
    return None


def optimisation() -> list[str]:
    if is_on("WORKERPOOL_DEBUG"):
        return ["-O0", "-g3", "-UNDEBUG"]
    # A loop over a C function is some 26 bytes: across two cache lines it takes a fifth longer, and where it comes to
    # lie is else up to what stands before it.
    return ["-falign-loops=32", *([] if "-O" in os.environ.get("CFLAGS", "") else ["-O2"])]


def compile_flags() -> list[str]:
    flags = ["-std=c11", "-pthread", "-fvisibility=hidden", "-Wall", "-Wextra", *optimisation()]
    if is_on("WORKERPOOL_WERROR"):
        flags.append("-Werror")
    if is_on("WORKERPOOL_PORTABLE_WAIT"):
        flags.append("-DWP_PORTABLE_WAIT")
    return flags


def sanitizer_flags() -> list[str]:
    sanitizers = os.environ.get("WORKERPOOL_SANITIZE", "")
    if not sanitizers:
        return []
    return [f"-fsanitize={sanitizers}", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer", "-g"]


class Build(build):
    def run(self) -> None:
        need_toolchain()
        super().run()


class BuildExt(build_ext):
    def build_extensions(self) -> None:
        need_toolchain()  # An editable installation comes here without a `build`.
        libffi = find_libffi()
        for extension in self.extensions:
            if libffi is not None:
                extension.define_macros.append(("WP_HAVE_LIBFFI", None))
                extension.extra_compile_args += [flag for flag in libffi if flag.startswith(("-I", "-D"))]
                extension.extra_link_args += [flag for flag in libffi if not flag.startswith(("-I", "-D"))]
        super().build_extensions()

    def run(self) -> None:
        """Builds, and puts the headers for C code beside the extension, wherever that goes."""
        super().run()
        folder = Path(self.get_ext_fullpath("workerpool._core")).parent / "include"
        self.mkpath(str(folder))
        for header in HEADERS:
            self.copy_file(header, str(folder))


core = Extension(
    "workerpool._core",
    sources=sorted(glob("csrc/core/*.c") + glob("csrc/native/*.c") + glob("csrc/python/*.c")),
    depends=sorted(glob("csrc/*/*.h")),
    include_dirs=INCLUDE_DIRS,
    extra_compile_args=compile_flags() + sanitizer_flags(),
    extra_link_args=["-pthread", "-ldl", *sanitizer_flags()],  # libdl is part of newer C libraries, empty there.
)

if __name__ == "__main__":
    setup(ext_modules=[core], cmdclass={"build": Build, "build_ext": BuildExt})
