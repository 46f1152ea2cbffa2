"""Builds one of the clients of the C API in the current folder, against the workerpool that is installed.

python build_client.py client.c
python build_client.py cython_client.pyx
"""

import sys
from pathlib import Path

from setuptools import Extension, setup

import workerpool

source = sys.argv.pop(1)
flags = ["-O1", "-g"] if source.endswith(".pyx") else ["-std=c11", "-O1", "-g", "-Wall", "-Wextra", "-Werror"]
extension = Extension(Path(source).stem, [source], include_dirs=[workerpool.get_include()], extra_compile_args=flags)
if source.endswith(".pyx"):
    import Cython
    from Cython.Build import cythonize

    # Without this, importing the module would turn the GIL on where it is off. Cython 3.0 does not know it.
    without_gil = {} if Cython.__version__.startswith("3.0") else {"freethreading_compatible": True}
    (extension,) = cythonize([extension], language_level=3, compiler_directives=without_gil)
setup(name=extension.name, script_args=["-q", "build_ext", "--inplace"], ext_modules=[extension])
