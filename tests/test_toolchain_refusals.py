"""What must not run without the interpreter is refused by native(), and so is what is no C function at all."""

from __future__ import annotations

import ctypes
import datetime as dt
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import workerpool as wp
from conftest import RunScenario

INT = ctypes.c_int


# ---- Code that takes the GIL ----


def test_ctypes_callbacks_of_python_code() -> None:
    callback = ctypes.CFUNCTYPE(INT, INT)(lambda x: x)
    recast = ctypes.cast(callback, ctypes.CFUNCTYPE(INT, INT))
    for function in (callback, recast):
        for signature in (None, "int (int)"):
            with pytest.raises(TypeError, match="takes the GIL on every call; submit the Python function itself"):
                wp.native(function, signature)


def test_functions_of_the_python_api() -> None:
    prototype = ctypes.PYFUNCTYPE(INT, INT)
    for function in (prototype(lambda x: x), prototype(1), ctypes.pythonapi.Py_IncRef):
        with pytest.raises(TypeError, match=r"needs the GIL .*submit it as a Python callable"):
            wp.native(function, "int (int)")
    with pytest.raises(TypeError, match="takes or returns Python objects, for which it needs the GIL"):
        wp.native(":PyObject_Str", "PyObject *(PyObject *)")
    with pytest.raises(TypeError, match="takes or returns Python objects"):
        wp.native(1, "int (struct _object *, PyTypeObject *)")


def test_cffi_callback(cffi: Any) -> None:
    callback = cffi.FFI().callback("int(int)", lambda x: x)
    for signature in (None, "int (int)"):
        with pytest.raises(TypeError, match="is a cffi callback into Python, which takes the GIL"):
            wp.native(callback, signature)


def test_cffi_extern_python(cffi_api: ModuleType) -> None:
    ffi, lib = cffi_api.ffi, cffi_api.lib
    for name in ("of_python", "of_python_and_c"):
        for function in (getattr(lib, name), ffi.addressof(lib, name), ffi.cast("int(*)(int)", getattr(lib, name))):
            with pytest.raises(TypeError, match=rf'{name} is an extern "Python" function of cffi, which takes the GIL'):
                wp.native(function)
    # Looking for them has not defined them, nor does it take other functions for such.
    assert wp.native(lib.variable)(7) == 7
    seen = []
    ffi.def_extern(name="of_python")(lambda x: seen.append(x) or x + 1)
    assert lib.of_python(3) == 4
    assert seen == [3]


def test_numba_functions_that_are_called_with_objects(numba: Any) -> None:
    for decorate in (numba.njit, numba.jit(nopython=True, nogil=True), numba.jit(forceobj=True)):
        function = decorate(lambda x: x)
        with pytest.raises(TypeError, match=r"make a C function of it with @numba\.cfunc\(signature\)"):
            wp.native(function, "int (int)")


def test_numba_function_that_runs_python(numba: Any) -> None:
    @numba.njit
    def length_of_text(x):
        with numba.objmode(y="float64"):
            y = float(len(str(x)))
        return y  # noqa: RET504

    assert length_of_text(1.5) == 3.0

    @numba.cfunc("float64(float64)")
    def outside(x):
        return length_of_text(x)

    with pytest.raises(TypeError, match=r"outside runs Python code \(objmode\), which takes the GIL"):
        wp.native(outside)


def test_numba_function_from_the_cache(run_scenario: RunScenario, tmp_path: Path, numba: Any) -> None:
    """It cannot be looked into, and nothing warns of that."""
    (tmp_path / "cached.py").write_text(
        "import numba\n@numba.cfunc('float64(float64)', cache=True)\ndef twice(x):\n    return 2 * x\n"
    )
    code = """
    import sys
    sys.path.insert(0, sys.argv[1])
    import warnings
    warnings.simplefilter("default")
    import cached
    warnings.simplefilter("error")
    import workerpool as wp
    assert wp.native(cached.twice)(1.5) == 3.0
    print(cached.twice.cache_hits)
    """
    environment = {"NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    for hits in ("0", "1"):
        done = run_scenario(code, timeout=60, args=[str(tmp_path)], env=environment, options=[])
        assert done.stdout.strip() == hits


def test_numba_function_that_may_raise_is_taken(numba: Any) -> None:
    @numba.cfunc("float64(float64)")
    def checked(x):
        if x < 0:
            raise ValueError("negative")
        return 1 / x

    assert wp.native(checked)(4.0) == 0.25


def test_cython_functions_of_python_objects(cython_module: ModuleType) -> None:
    exported = cython_module.__pyx_capi__
    for name in ("of_objects", "of_lists", "of_a_thing"):
        for signature in (None, "void *(void *)"):
            with pytest.raises(TypeError, match="takes or returns Python objects, for which it needs the GIL"):
                wp.native(exported[name], signature)


def test_scipy_wrapping_what_takes_the_gil(low_level_callable: Any, cffi: Any) -> None:
    wrapped = [
        low_level_callable(ctypes.CFUNCTYPE(INT, INT)(lambda x: x)),
        low_level_callable(ctypes.PYFUNCTYPE(INT, INT)(1)),
        low_level_callable(cffi.FFI().callback("int(int)", lambda x: x)),
    ]
    wrapped.append(low_level_callable(wrapped[0]))
    for function in wrapped:
        with pytest.raises(TypeError, match="GIL"):
            wp.native(function)


# ---- What is no C function, or one that cannot be called ----


def test_capsules_of_other_things(new_capsule: Any) -> None:
    for capsule in (dt.datetime_CAPI, new_capsule(1, "a.b.c"), new_capsule(1, ""), new_capsule(1, "int")):
        for signature in (None, "int (int)"):
            with pytest.raises(TypeError, match="holds no function: one that does is named by its signature"):
                wp.native(capsule, signature)


def test_capsule_without_a_name(new_capsule: Any, library: ctypes.CDLL) -> None:
    capsule = new_capsule(ctypes.cast(library.id_int, ctypes.c_void_p).value, None)
    with pytest.raises(TypeError, match=r"has no name: native\(\) needs a signature"):
        wp.native(capsule)
    assert wp.native(capsule, "int (int)")(5) == 5


def test_cffi_objects_that_are_no_functions(cffi: Any, cffi_api: ModuleType) -> None:
    ffi = cffi.FFI()
    for wrong in (ffi.NULL, ffi.new("int *"), ffi.new("double[4]"), ffi, cffi_api.lib, ffi.typeof("int(*)(int)")):
        with pytest.raises(TypeError, match=r"native\(\) takes a ctypes function"):
            wp.native(wrong, "int (int)")
    with pytest.raises(ValueError, match="is a null pointer"):
        wp.native(ffi.cast("int(*)(int)", 0))


def test_cffi_types_that_cannot_be_passed(cffi: Any, cffi_api: ModuleType) -> None:
    ffi = cffi.FFI()
    with pytest.raises(wp.SignatureError, match="parameter 1 of sum_of_pair has the cffi type 'pair'"):
        wp.native(cffi_api.lib.sum_of_pair)
    with pytest.raises(wp.SignatureError, match="is variadic"):
        wp.native(cffi_api.lib.sum_of_many)
    for ctype in ("int(*)(long double)", "int(*)(float _Complex)"):
        with pytest.raises(wp.SignatureError, match="parameter 1 of function at 0x1 has the cffi type"):
            wp.native(ffi.cast(ctype, 1))
    with pytest.raises(wp.SignatureError, match="the result of function at 0x1 has the cffi type 'long double'"):
        wp.native(ffi.cast("long double(*)(void)", 1))


def test_numba_types_that_cannot_be_passed(numba: Any) -> None:
    @numba.cfunc("float64(float64[:])")
    def of_an_array(x):
        return x[0]

    with pytest.raises(wp.SignatureError, match=r"parameter 1 of of_an_array has the numba type .*CPointer"):
        wp.native(of_an_array)

    @numba.cfunc("complex128(complex128)")
    def of_complex(x):
        return x

    with pytest.raises(wp.SignatureError, match="the result of of_complex has the numba type complex128"):
        wp.native(of_complex)


def test_cython_types_that_cannot_be_passed(cython_module: ModuleType) -> None:
    exported = cython_module.__pyx_capi__
    for name in ("of_a_view", "of_complex", "of_lengths"):
        with pytest.raises(wp.SignatureError, match="unknown type '__"):
            wp.native(exported[name])
    # A typedef of Cython's is known by no one else: a signature says what it is.
    assert wp.native(exported["of_lengths"], "double (double)")(2.5) == 2.5
    with pytest.raises(wp.SignatureError, match="does not fit"):
        wp.native(exported["of_lengths"], "double (double, double)")


def test_user_data_without_a_place(low_level_callable: Any, library: ctypes.CDLL) -> None:
    with pytest.raises(wp.SignatureError, match=r"has user data, and the last parameter .* is no `void \*`"):
        wp.native(low_level_callable(library.id_double, ctypes.c_void_p(8)))


# ---- A signature that contradicts the target ----


@pytest.mark.thread_unsafe(reason="asks pytest for fixtures while it runs")
@pytest.mark.parametrize("wrong", ["double (float)", "float (double)", "double (double, double)", "double (void)"])
@pytest.mark.parametrize("kind", ["ctypes", "cffi_abi", "cffi_api", "numba", "cython", "scipy", "capsule"])
def test_signature_that_is_not_the_targets(request: pytest.FixtureRequest, kind: str, wrong: str) -> None:
    def made(name: str) -> Any:
        return request.getfixturevalue(name)

    targets = {
        "ctypes": lambda: made("library").id_double,
        "cffi_abi": lambda: made("cffi_abi")[1].id_double,
        "cffi_api": lambda: made("cffi_api").lib.id_double,
        "numba": lambda: made("numba_functions")["id_double"],
        "cython": lambda: made("cython_module").__pyx_capi__["id_double"],
        "scipy": lambda: made("low_level_callable")(made("library").id_double),
        "capsule": lambda: made("new_capsule")(wp.native(made("library").id_double).address, "double (double)"),
    }
    target = targets[kind]()
    assert wp.native(target, "double f(const double x)")(0.5) == 0.5
    with pytest.raises(wp.SignatureError, match=r"does not fit .*, which is `double"):
        wp.native(target, wrong)


def test_undeclared_result_of_ctypes_may_be_anything(helpers_path: str) -> None:
    function = ctypes.CDLL(helpers_path).id_double
    function.argtypes = [ctypes.c_double]  # And restype is int, as nobody has set it.
    assert wp.native(function, "double (double)")(0.5) == 0.5
    with pytest.raises(wp.SignatureError, match="does not fit"):
        wp.native(function, "double (float)")


def test_pointers_know_what_they_point_to(library: ctypes.CDLL, numba: Any, cffi: Any) -> None:
    prototype = ctypes.CFUNCTYPE(
        None, ctypes.POINTER(ctypes.c_double), ctypes.POINTER(ctypes.POINTER(ctypes.c_int)), ctypes.c_wchar_p
    )
    assert wp.native(prototype(1)).signature == "void (double *, int **, const wchar_t *)"
    cfunc = numba.cfunc("void(CPointer(float32), voidptr, CPointer(int16))")(lambda x, y, z: None)
    assert wp.native(cfunc).signature == "void (float *, void *, int16_t *)"
    pointer = cffi.FFI().cast("void *(*)(double *, int **, const char *, void(*)(void), uint8_t[])", 1)
    assert wp.native(pointer).signature == "void *(double *, int **, char *, void (*)(void), uint8_t *)"


def test_numpys_ndpointer_is_read() -> None:
    ctypeslib = pytest.importorskip("numpy.ctypeslib")
    numpy = pytest.importorskip("numpy")
    prototype = ctypes.CFUNCTYPE(
        None,
        ctypeslib.ndpointer(numpy.float64, flags="C_CONTIGUOUS"),
        ctypeslib.ndpointer(numpy.int32, flags="C_CONTIGUOUS, WRITEABLE"),
        ctypeslib.ndpointer(numpy.complex128, flags="WRITEABLE"),
        ctypeslib.ndpointer(),
    )
    assert wp.native(prototype(1)).signature == "void (double *, int32_t *, void *, void *)"
    to_sum = wp.native(prototype(1), "void (const double *, int32_t *, void *, void *)")  # It only reads the first.
    assert to_sum.signature.startswith("void (const double *")


class Pair(ctypes.Structure):
    _fields_ = (("a", ctypes.c_double), ("b", ctypes.c_double))


def test_types_of_ctypes_keep_what_they_point_to() -> None:
    integer = ctypes.POINTER(ctypes.c_int)
    for ctype, spelling in (
        (ctypes.POINTER(integer), "int **"),
        (ctypes.POINTER(ctypes.POINTER(integer)), "int ***"),
        (ctypes.POINTER(ctypes.c_void_p), "void **"),
        (ctypes.POINTER(ctypes.c_char_p), "const char **"),
        (ctypes.POINTER(ctypes.POINTER(Pair)), "void **"),
        (ctypes.POINTER(Pair), "void *"),
        (ctypes.POINTER(ctypes.c_double * 3), "double *"),
        (ctypes.POINTER(integer * 3), "int **"),
        ((ctypes.c_double * 3) * 2, "double *"),
        (ctypes.c_char_p * 2, "const char **"),
        (ctypes.POINTER(ctypes.CFUNCTYPE(ctypes.c_int)), "void **"),
        (ctypes.CFUNCTYPE(None), "void (*)(void)"),
        (ctypes.CFUNCTYPE(ctypes.c_int, integer, ctypes.c_char_p), "int (*)(int *, const char *)"),
        (ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.CFUNCTYPE(None)), "void *(*)(void *)"),
        (ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object), "int (*)(struct unknown)"),
        (ctypes.CFUNCTYPE(Pair, Pair), "struct Pair (*)(struct Pair)"),
        (ctypes._CFuncPtr, "void (*)(struct unknown)"),  # type: ignore[attr-defined]
    ):
        assert wp.native(ctypes.CFUNCTYPE(None, ctype)(2**40)).signature == f"void ({spelling})"


@pytest.mark.parametrize("by", ["ctypes", "cffi"])
def test_a_parameter_that_is_a_function_takes_functions_of_its_type_only(by: str, cffi: Any) -> None:
    pointer = ctypes.POINTER(ctypes.c_int)
    compare_type = ctypes.CFUNCTYPE(ctypes.c_int, pointer, pointer)
    function: Any
    if by == "ctypes":
        function = ctypes.CDLL(None).qsort
        function.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t, compare_type]
        function.restype = None
    else:
        ffi = cffi.FFI()
        ffi.cdef("void qsort(void *, size_t, size_t, int (*)(const void *, const void *));")
        function = ffi.dlopen(None).qsort
    sort = wp.native(function)
    numbers = (ctypes.c_int * 4)(3, 1, 4, 2)
    sort(numbers, 4, 4, compare_type(lambda a, b: a[0] - b[0]))
    assert list(numbers) == [1, 2, 3, 4]
    for wrong in (bytearray(64), numbers, ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double)(abs), lambda a, b: 0):
        with pytest.raises(TypeError, match=r"argument 4: .*points to a"):
            sort(numbers, 4, 4, wrong)


def test_a_callback_of_a_type_that_c_cannot_pass_here_is_taken_for_its_own_type() -> None:
    for callback_type in (ctypes.CFUNCTYPE(None, Pair), ctypes.CFUNCTYPE(None, ctypes.py_object)):
        function = ctypes.CFUNCTYPE(ctypes.c_long, callback_type)(("labs", ctypes.CDLL(None)))
        assert wp.native(function)(callback_type(print)) != 0
        with pytest.raises(TypeError, match="points to a function"):
            wp.native(function)(bytearray(8))


def test_a_struct_by_value_is_told_what_would_be_right() -> None:
    for prototype in (ctypes.CFUNCTYPE(None, Pair), ctypes.CFUNCTYPE(Pair)):
        with pytest.raises(
            wp.SignatureError, match=r"by value is not supported \(wrap it in a C function that takes or"
        ):
            wp.native(prototype(2**40))


def test_memory_for_numpys_ndpointer_must_be_writable_unless_the_signature_says_const() -> None:
    ctypeslib = pytest.importorskip("numpy.ctypeslib")
    function = ctypes.CFUNCTYPE(ctypes.c_long, ctypeslib.ndpointer("f8"))(("labs", ctypes.CDLL(None)))
    with pytest.raises(TypeError, match="needs a writable buffer, and this bytes is read-only"):
        wp.native(function)(bytes(8))
    assert wp.native(function, "long (const double *)")(bytes(8)) != 0
