# `make help` says what there is. Each target makes what it needs, and makes it again only when something changed.

.DELETE_ON_ERROR:
.SUFFIXES:
.DEFAULT_GOAL := help

BUILD := build
VENV ?= .venv
# Arguments for pytest or for the benchmarks, and the demo's folder.
ARGS ?=
FOLDER ?=
# How long the soak takes, or the fuzzing of each target; left out, ten minutes and six. The seed of the soak's choices.
SECONDS ?=
SEED ?=
# In how many threads at once parallel-test runs each test.
THREADS ?= 4
# SANITIZE=address,undefined or thread; PORTABLE=1 only the portable wait, PORTABLE=0 only the futex; else both.
SANITIZE ?=
PORTABLE ?=
# Seconds for each C test program.
C_TIME_LIMIT ?= 300
CLANG_FORMAT ?= clang-format
CLANG_TIDY ?= clang-tidy

# V=1 shows the compiler's command lines.
V ?=

HASH := \#
COMMA := ,
# $(call run,NOTE,COMMAND): the command, announced by a note or shown itself.
run = $(if $(V),$(2),@echo '  $(1)'; $(2))

help:
	@echo 'make demo      build, then checksum the files of FOLDER (default: the standard library) three ways'
	@echo 'make test      build, then run all tests: c-test and py-test'
	@echo 'make c-test    the C tests alone; SANITIZE=address,undefined or thread, PORTABLE=1 or 0, CC=clang'
	@echo 'make check     what fits in ten minutes: all but the slow tests, and the small models'
	@echo 'make schedules the core under a scheduler of its own, for longer than c-test; ARGS="--seconds 60" go to it'
	@echo 'make mutations breaks the core on purpose, line by line, and shows that the schedules find it'
	@echo 'make model     the models of sleeping and waking, whole and broken, checked by spin; ARGS=--quick for the small'
	@echo 'make py-test   the Python tests alone; ARGS="-k lanes -x" go to pytest'
	@echo 'make sanitize  all of these: c-test under each sanitizer, asan-test, refcount-test and tsan-test'
	@echo 'make asan-test the Python tests under AddressSanitizer and UndefinedBehaviorSanitizer, with leaks; QUICK=1 some'
	@echo 'make tsan-test the same under ThreadSanitizer; TSAN_PYTHON=... an interpreter that was built with it'
	@echo 'make refcount-test  each Python test again and again, and reference counts compared; PYTHON=python3-dbg'
	@echo 'make fuzz      the fuzzers, half an hour together, or SECONDS=... for each; TARGETS="call grid" only those'
	@echo 'make fuzz-keep puts what the fuzzers have found new into the kept corpus'
	@echo 'make parallel-test  the Python tests, each in THREADS=4 threads at once; PYTHON=... a free-threaded one'
	@echo 'make soak      everything at once for ten minutes, or SECONDS=..., with SEED=... the choices of another run'
	@echo 'make lint      formatters, linters and type checkers, for Python and for C'
	@echo 'make bench     the benchmarks, beside every peer that is there; ARGS="--only map --quick" go to them'
	@echo 'make cost      instructions and system calls of a job; ARGS="--only map --functions 12" say where they go'
	@echo 'make build     a virtual environment in $(VENV) with the package installed in editable form'
	@echo 'make clean     remove what was built; make distclean removes $(VENV) as well'
	@echo
	@echo 'PYTHON=... chooses the interpreter (3.11 or newer) and VENV=... the environment.'
	@echo 'WORKERPOOL_DEBUG=1, WORKERPOOL_SANITIZE=..., WORKERPOOL_WITH_LIBFFI=0 and more: see setup.py.'

# ---- What has to be there -------------------------------------------------------------------------------------------

# The interpreter itself, also where `python3` is that of a virtual environment.
CANDIDATES := $(if $(PYTHON),"$(PYTHON)",python3 python3.14 python3.13 python3.12 python3.11)
BASE_PYTHON := $(shell for python in $(CANDIDATES); do "$$python" -c 'import sys; sys.version_info >= (3, 11) or sys.exit(1); print(sys._base_executable)' 2>/dev/null && break; done)
python-says = $(shell "$(BASE_PYTHON)" -c '$(1)' 2>/dev/null)
compiles = $(shell printf '$(HASH)include <$(1)>\n' | $(CC) -E -x c - >/dev/null 2>&1 && echo yes)

# Each of these is empty where nothing is missing, and otherwise the Debian package that has it; says-PACKAGE is what
# it is missed for.
DEBIAN_PYTHON := $(patsubst %t,%,$(notdir $(BASE_PYTHON)))
DEBIAN_CC := $(if $(findstring clang,$(CC)),clang,gcc)
lacks-venv = $(if $(call python-says,import ensurepip$(COMMA) venv; print(1)),,$(DEBIAN_PYTHON)-venv)
lacks-headers = $(if $(wildcard $(call python-says,import sysconfig; print(sysconfig.get_path("include")))/Python.h),,$(DEBIAN_PYTHON)-dev)
lacks-cc = $(if $(shell command -v $(firstword $(CC)) 2>/dev/null),$(if $(call compiles,pthread.h),,libc6-dev),$(DEBIAN_CC))
lacks-spin = $(if $(shell command -v spin 2>/dev/null),,spin)
says-$(DEBIAN_PYTHON)-venv = the module ensurepip of $(BASE_PYTHON)
says-$(DEBIAN_PYTHON)-dev = Python.h of $(BASE_PYTHON)
says-$(DEBIAN_CC) = the C compiler '$(firstword $(CC))'
says-spin = the model checker spin
says-libc6-dev = the header pthread.h

INSTALL_HINT := on Debian and Ubuntu: apt install
# $(call need,PACKAGES): ends make with one line that names all that is missing.
need = $(if $(strip $(1)),$(error workerpool: missing: $(foreach package,$(1),$(says-$(package));) $(INSTALL_HINT) $(strip $(1))))
need-python = $(if $(BASE_PYTHON),,$(error workerpool: $(or $(PYTHON),python3) is not there or older than 3.11; $(INSTALL_HINT) python3 python3-venv python3-dev$(COMMA) or give another with PYTHON=))

# A file of settings, changed only when the settings are, so that what was built with others is built again.
# $(call write-settings,TEXT)
define write-settings
@mkdir -p $(@D)
@printf '%s\n' '$(subst ','\'',$(1))' | cmp -s - $@ || printf '%s\n' '$(subst ','\'',$(1))' >$@
endef

.PHONY: FORCE
FORCE:

# ---- The virtual environment and the extension ----------------------------------------------------------------------

VENV_PYTHON := $(VENV)/bin/python
PIP := $(VENV_PYTHON) -m pip --disable-pip-version-check install --quiet
FLAGS_FILE := $(BUILD)/settings/$(subst /,-,$(VENV))
PYTHON_ID := $(call python-says,import os$(COMMA) sys$(COMMA) sysconfig; print(os.path.realpath(sys.executable)$(COMMA) sys.version.split()[0]$(COMMA) sysconfig.get_config_var("EXT_SUFFIX")))
EXTENSION := workerpool/_core$(lastword $(PYTHON_ID))
SOURCES := $(wildcard csrc/core/* csrc/native/* csrc/python/* csrc/include/*) setup.py pyproject.toml
WORKERPOOL_SETTINGS := CC CFLAGS LDFLAGS $(sort $(filter WORKERPOOL_%,$(.VARIABLES)))

.PHONY: build
build: $(VENV)/.made-extension

$(FLAGS_FILE): FORCE
	$(call write-settings,$(foreach name,$(WORKERPOOL_SETTINGS),$(name)=$($(name))))

# Made again when the interpreter is another than the one noted in it.
$(VENV)/.made-venv: $(if $(subst $(shell cat $(VENV)/.made-venv 2>/dev/null),,$(PYTHON_ID)),FORCE)
	$(need-python)$(call need,$(lacks-venv) $(lacks-headers) $(lacks-cc))
	$(call run,VENV $(VENV),"$(BASE_PYTHON)" -m venv --clear "$(VENV)")
	$(call run,PIP pip setuptools,$(PIP) --upgrade 'pip>=25.1' 'setuptools>=77')
	@echo '$(PYTHON_ID)' >$@

# Editable, so that a change to a Python file needs nothing, with what the demo needs.
$(VENV)/.made-extension: $(VENV)/.made-venv $(FLAGS_FILE) $(SOURCES) $(if $(wildcard $(EXTENSION)),,FORCE)
	$(call need,$(lacks-headers) $(lacks-cc))
	$(call run,BUILD workerpool._core,$(PIP) --no-build-isolation --editable '.[demo]')
	@touch $@

# Where the newest hypothesis has no wheel for the interpreter (free-threaded 3.13), an older one does; without this pip
# would want a Rust compiler.
$(VENV)/.made-%: pyproject.toml $(VENV)/.made-venv
	$(call run,PIP --group $*,$(PIP) --only-binary hypothesis --group $*)
	@touch $@

# The toolchains whose functions the tests call, and the programs that they use. Wheels only: where one of them has none for
# the interpreter, the others are installed one by one, and the tests of what is missing are skipped. numba says which numpy
# it can do with, so it goes first.
WITH_PACKAGES := $(VENV)/.made-test-toolchains $(VENV)/.made-test-programs
LIST_GROUP := import sys, tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["dependency-groups"][sys.argv[1]], sep="\n")
$(WITH_PACKAGES): $(VENV)/.made-%: pyproject.toml $(VENV)/.made-test
	$(call run,PIP --group $*,$(PIP) --only-binary :all: --group $* 2>$@.log || \
	$(VENV_PYTHON) -c '$(LIST_GROUP)' $* | while read -r package; do \
		$(PIP) --only-binary :all: "$$package" 2>>$@.log || echo "  no wheel of $$package: its tests are skipped"; \
	done)
	@touch $@

# ---- The C tests ----------------------------------------------------------------------------------------------------

WAITS := futex portable
ifeq ($(PORTABLE),1)
WAITS := portable
else ifeq ($(PORTABLE),0)
WAITS := futex
endif
ifneq ($(shell uname -s),Linux)
WAITS := portable
endif
WAIT_FLAGS_futex :=
WAIT_FLAGS_portable := -DWP_PORTABLE_WAIT

ifneq ($(filter c-test test check lint schedules mutations fuzz fuzz-keep $(BUILD)/%,$(MAKECMDGOALS)),)
HAS_PKG_CONFIG_FFI := $(shell pkg-config --exists libffi 2>/dev/null && echo yes)
FFI_CFLAGS := $(if $(HAS_PKG_CONFIG_FFI),$(shell pkg-config --cflags libffi))
FFI_LIBS := $(if $(HAS_PKG_CONFIG_FFI),$(shell pkg-config --libs libffi),-lffi)
HAS_FFI := $(if $(filter 0,$(WORKERPOOL_WITH_LIBFFI)),,$(shell printf '$(HASH)include <ffi.h>\nint main(void) { return sizeof(ffi_cif) == 0; }\n' | $(CC) -x c - $(FFI_CFLAGS) $(FFI_LIBS) -o /dev/null 2>/dev/null && echo yes))
endif
FFI_FLAGS := $(if $(HAS_FFI),-DWP_HAVE_LIBFFI $(FFI_CFLAGS))

SANITIZER_FLAGS := $(if $(SANITIZE),-fsanitize=$(SANITIZE) -fno-sanitize-recover=all -fno-omit-frame-pointer)
C_FLAGS = -std=c11 $(if $(SANITIZE),-O1,-O2) -g -Wall -Wextra -pthread $(SANITIZER_FLAGS) $(FFI_FLAGS) $(CFLAGS)
C_INCLUDES := -Icsrc/core -Icsrc/native -Icsrc/include -Icsrc/tests
C_LIBS = -pthread $(SANITIZER_FLAGS) $(LDFLAGS) $(if $(HAS_FFI),$(FFI_LIBS)) -ldl -lm
C_OUT := $(BUILD)/c$(if $(SANITIZE),-$(subst $(COMMA),-,$(SANITIZE)))
C_SOURCES := $(wildcard csrc/core/*.c csrc/native/*.c)
C_TESTS := $(patsubst csrc/tests/%.c,%,$(wildcard csrc/tests/test_*.c))
C_FUZZ := $(patsubst csrc/tests/fuzz/%.c,%,$(wildcard csrc/tests/fuzz/fuzz_*.c))
C_EXAMPLES := $(patsubst csrc/examples/%.c,example-%,$(wildcard csrc/examples/*.c))
C_PROGRAMS := $(foreach wait,$(WAITS),$(addprefix $(C_OUT)/$(wait)/,$(C_TESTS) $(C_FUZZ) $(C_EXAMPLES)))

$(C_OUT)/settings: FORCE
	$(call need,$(lacks-cc))$(call write-settings,$(CC) $(C_FLAGS) $(C_LIBS) $(shell $(CC) --version | head -n 1))

# Programs that stand between the library and what it calls; the linker of macOS cannot do that.
wrap = $(patsubst %,-Wl$(COMMA)--wrap=%,$(1))
ifeq ($(shell uname -s),Linux)
C_INCLUDES += -DWP_TESTS_WRAP
WRAP_test_faults := $(call wrap,malloc calloc realloc posix_memalign aligned_alloc strdup free pthread_create pthread_join pthread_detach)
WRAP_test_clocks := $(call wrap,clock_gettime)
endif

$(C_OUT)/call_cases.c: csrc/tests/gen_call_cases.py
	$(need-python)
	@mkdir -p $(@D)
	$(call run,PYTHON $<,"$(BASE_PYTHON)" $< >$@)

# Not optimised: there is so much of it, and nothing in it to be fast.
$(C_OUT)/call_cases.o: $(C_OUT)/call_cases.c $(C_OUT)/settings
	$(call run,CC $<,$(CC) $(C_FLAGS) -O0 $(C_INCLUDES) -MMD -MP -c -o $@ $<)

# The rules of one way to wait. $(call c-rules,WAIT)
define c-rules
$(C_OUT)/$(1)/%.o: csrc/%.c $(C_OUT)/settings
	@mkdir -p $$(@D)
	$$(call run,CC $$<$(if $(WAIT_FLAGS_$(1)), $(WAIT_FLAGS_$(1))),$$(CC) $$(C_FLAGS) $(WAIT_FLAGS_$(1)) $(C_INCLUDES) -MMD -MP -c -o $$@ $$<)

$(C_OUT)/$(1)/libworkerpool.a: $(patsubst csrc/%.c,$(C_OUT)/$(1)/%.o,$(C_SOURCES))
	@rm -f $$@
	$$(call run,AR $$@,$$(AR) rcs $$@ $$^)

$(C_OUT)/$(1)/test_call $(C_OUT)/$(1)/test_loop: $(C_OUT)/call_cases.o

$(addprefix $(C_OUT)/$(1)/,$(C_TESTS)): $(C_OUT)/$(1)/%: $(C_OUT)/$(1)/tests/%.o $(C_OUT)/$(1)/libworkerpool.a
	$$(call run,LD $$@,$$(CC) -o $$@ $$(filter %.o,$$^) $$(filter %.a,$$^) $$(WRAP_$$*) $$(C_LIBS))

$(addprefix $(C_OUT)/$(1)/,$(C_FUZZ)): $(C_OUT)/$(1)/%: $(C_OUT)/$(1)/tests/fuzz/%.o $(C_OUT)/$(1)/tests/fuzz/replay.o $(C_OUT)/$(1)/libworkerpool.a
	$$(call run,LD $$@,$$(CC) -o $$@ $$(filter %.o,$$^) $$(filter %.a,$$^) $$(C_LIBS))

$(addprefix $(C_OUT)/$(1)/,$(C_EXAMPLES)): $(C_OUT)/$(1)/example-%: $(C_OUT)/$(1)/examples/%.o $(C_OUT)/$(1)/libworkerpool.a
	$$(call run,LD $$@,$$(CC) -o $$@ $$(filter %.o,$$^) $$(filter %.a,$$^) $$(C_LIBS))
endef
$(foreach wait,$(WAITS),$(eval $(call c-rules,$(wait))))
-include $(wildcard $(C_OUT)/*/*.d $(C_OUT)/*/*/*.d $(C_OUT)/*/*/*/*.d)

# The core under the scheduler of csrc/tests/schedule, which takes the place of wp_os and of the waits. Statistics are not
# interesting to schedule, nor is what happens once in a process (wp_fork). Not with sanitizers: one thread at a time is
# nothing to them.
SCHEDULED := $(filter-out wp_os wp_wait_futex wp_wait_portable,$(patsubst csrc/core/%.c,%,$(wildcard csrc/core/*.c)))
UNHOOKED := wp_stats wp_fork wp_inherit
HOOK_FLAGS := -include csrc/tests/schedule/hook.h
SCHEDULES := $(if $(SANITIZE),,$(if $(filter Linux,$(shell uname -s)),$(C_OUT)/schedule/schedules))
# Seconds of processor time for each scenario, as part of c-test.
SCHEDULE_SECONDS ?= 0.4

$(C_OUT)/schedule/%.o: csrc/core/%.c $(C_OUT)/settings csrc/tests/schedule/hook.h
	@mkdir -p $(@D)
	$(call run,CC $< under the scheduler,$(CC) $(C_FLAGS) $(if $(filter $*,$(UNHOOKED)),,$(HOOK_FLAGS)) $(C_INCLUDES) -MMD -MP -c -o $@ $<)

$(C_OUT)/schedule/schedule.o: csrc/tests/schedule/schedule.c $(C_OUT)/settings
	@mkdir -p $(@D)
	$(call run,CC $<,$(CC) $(C_FLAGS) $(C_INCLUDES) -MMD -MP -c -o $@ $<)

$(C_OUT)/schedule/scenarios.o: csrc/tests/schedule/scenarios.c $(C_OUT)/settings csrc/tests/schedule/hook.h
	@mkdir -p $(@D)
	$(call run,CC $<,$(CC) $(C_FLAGS) $(HOOK_FLAGS) $(C_INCLUDES) -MMD -MP -c -o $@ $<)

$(C_OUT)/schedule/schedules: $(addprefix $(C_OUT)/schedule/,$(addsuffix .o,$(SCHEDULED) schedule scenarios))
	$(call run,LD $@,$(CC) -o $@ $^ -pthread $(SANITIZER_FLAGS) $(LDFLAGS) -lm)

# Each part compiles alone, with nothing of Python in sight and without a warning. $(call alone,NAME,FILES,FLAGS)
define alone
	@echo 'compiles alone: $(1)'
	@mkdir -p $(C_OUT)/alone/$(1)
	@cd $(C_OUT)/alone/$(1) && env -u CPATH -u C_INCLUDE_PATH $(CC) -std=c11 -O2 -Wall -Wextra -Werror $(3) -c $(addprefix $(CURDIR)/,$(wildcard $(2)))
endef

$(C_OUT)/alone/done: $(wildcard csrc/core/* csrc/native/* csrc/include/*) $(C_OUT)/settings
	$(call alone,core,csrc/core/*.c)
	$(call alone,core-portable,csrc/core/*.c,-DWP_PORTABLE_WAIT)
	$(call alone,native,csrc/native/*.c)
	$(if $(HAS_FFI),$(call alone,native-libffi,csrc/native/*.c,$(FFI_FLAGS)))
	@touch $@

# ThreadSanitizer wants the addresses where it expects them, so it runs without their randomisation where that can be.
.PHONY: c-test schedules mutations model
c-test: $(C_OUT)/alone/done $(C_PROGRAMS) $(SCHEDULES)
	@run=; passed=0; failed=0; \
	if command -v timeout >/dev/null; then run='timeout -k 10 $(C_TIME_LIMIT)'; fi; \
	if [ -n '$(findstring thread,$(SANITIZE))' ] && setarch -R true 2>/dev/null; then run="setarch -R $$run"; fi; \
	for program in $(C_PROGRAMS) $(SCHEDULES); do \
		log=$$program.log; status=0; given=; \
		case $$program in \
			*/schedules) given='--seconds $(SCHEDULE_SECONDS)';; \
			*/fuzz_*) given=$$(echo csrc/tests/fuzz/corpus/$${program##*/fuzz_}.*);; \
		esac; \
		$$run $$program $$given >$$log 2>&1 </dev/null || status=$$?; \
		good=$$(grep -c '^ok' $$log); bad=$$(grep -c '^not ok' $$log); \
		if [ $$status -eq 0 ] && [ $$good -eq 0 ]; then good=1; fi; \
		if [ $$status -ne 0 ] && [ $$bad -eq 0 ]; then bad=1; fi; \
		passed=$$((passed + good)); failed=$$((failed + bad)); \
		if [ $$bad -eq 0 ]; then echo "pass $$program ($$good)"; continue; fi; \
		echo "FAIL $$program (exit status $$status)"; sed 's/^/    /' $$log; \
	done; \
	echo "C tests$(if $(SANITIZE), with -fsanitize=$(SANITIZE)): $$passed passed, $$failed failed"; \
	[ $$failed -eq 0 ]

schedules: $(SCHEDULES)
	$< $(or $(ARGS),--seconds 20 --deviations 3)

mutations: $(SCHEDULES)
	$(need-python)
	"$(BASE_PYTHON)" csrc/tests/schedule/mutations.py $(ARGS)

model:
	$(need-python)$(call need,$(lacks-spin) $(lacks-cc))
	"$(BASE_PYTHON)" csrc/tests/model/models.py $(ARGS)

include csrc/tests/fuzz/fuzz.mk

# ---- All else -------------------------------------------------------------------------------------------------------

.PHONY: test check py-test parallel-test demo bench cost soak
# The environment first, so that whatever is missing is named before the C tests have run.
test: build $(WITH_PACKAGES) c-test py-test

check: build $(WITH_PACKAGES) c-test $(if $(lacks-spin),,quick-model) quick-py-test
	$(if $(lacks-spin),@echo 'no models: spin is not installed')

.PHONY: quick-model quick-py-test
quick-model:
	"$(BASE_PYTHON)" csrc/tests/model/models.py --quick

quick-py-test:
	$(VENV_PYTHON) -m pytest -m 'not slow' $(ARGS)

py-test: build $(WITH_PACKAGES)
	$(VENV_PYTHON) -m pytest $(ARGS)

# Each test in THREADS threads at once, most to the point on a free-threaded Python. Left out is what has the marker
# thread_unsafe, with its reason; what takes its time in other processes; and what only measures. Each test is done four
# times, so it has four times as long. pytest cannot end one that hangs in a thread of its own: then the run ends with the
# stacks of all threads.
PARALLEL_LEFT_OUT := $(foreach name,benchmarks build capi_cython cost demo examples standard_suite,--ignore=tests/test_$(name).py)
parallel-test: build $(VENV)/.made-parallel-test
	$(VENV_PYTHON) -m pytest --parallel-threads=$(THREADS) --skip-thread-unsafe=True --timeout=240 \
		-o faulthandler_timeout=300 $(PARALLEL_LEFT_OUT) $(ARGS)

include tests/sanitize.mk

demo: build
	$(VENV_PYTHON) -m workerpool demo$(if $(FOLDER), "$(FOLDER)")

# The functions that the soak calls are those of the tests.
$(BUILD)/soak/helpers.so: tests/native/helpers.c csrc/include/workerpool.h
	@mkdir -p $(@D)
	$(call run,CC $@,$(CC) -std=gnu11 -O1 -shared -fPIC -Icsrc/include $< -o $@)

soak: build $(BUILD)/soak/helpers.so
	$(VENV_PYTHON) -X dev -W error tests/soak.py $(or $(SECONDS),600) $(BUILD)/soak/helpers.so $(SEED)

# The peers that can be built here; benchmarks/run.py says which could not, and how to get what they need.
bench: build
	@$(MAKE) --no-print-directory -C benchmarks/peers BUILD='$(abspath $(BUILD))/peers'
	$(VENV_PYTHON) benchmarks/run.py $(ARGS)

cost: build
	$(VENV_PYTHON) benchmarks/cost/count.py $(ARGS)

# Runs every step, also after one failed, and names those that failed. $(call step,NAME,COMMAND)
define step
	echo '== $(1)'; { $(2); } || failed="$$failed $(1)";
endef
# $(call tool-step,NAME,TOOL,COMMAND)
define tool-step
	if command -v $(2) >/dev/null; then $(call step,$(1),$(3)) else echo '== $(1): skipped, because $(2) was not found'; fi;
endef
TIDY_FLAGS := -std=c11 $(FFI_FLAGS)
STUBTEST_EXCEPTIONS := $(BUILD)/stubtest-exceptions

# What C types inherit for __init__ says only (*args, **kwargs).
$(STUBTEST_EXCEPTIONS): Makefile
	@mkdir -p $(@D)
	@echo 'workerpool\._core\..*\.__init__' >$@

.PHONY: lint
lint: build $(VENV)/.made-lint $(STUBTEST_EXCEPTIONS)
	@failed=; \
	$(call step,ruff-check,$(VENV_PYTHON) -m ruff check .) \
	$(call step,ruff-format,$(VENV_PYTHON) -m ruff format --check .) \
	$(call step,mypy,$(VENV_PYTHON) -m mypy --strict workerpool) \
	$(call step,stubtest,$(VENV_PYTHON) -m mypy.stubtest --allowlist $(STUBTEST_EXCEPTIONS) --ignore-unused-allowlist workerpool._core) \
	$(call step,warnings,WORKERPOOL_WERROR=1 $(VENV_PYTHON) setup.py -q build_ext --build-lib $(BUILD)/warnings --build-temp $(BUILD)/warnings --force) \
	$(call step,mypy-benchmarks,(cd benchmarks && $(abspath $(VENV_PYTHON)) -m mypy --strict *.py cost/*.py)) \
	$(call tool-step,clang-format,$(CLANG_FORMAT),$(CLANG_FORMAT) --dry-run -Werror csrc/*/*.[ch] csrc/tests/*/*.[ch] benchmarks/*/*.[ch] benchmarks/*/*.cpp) \
	$(call tool-step,gofmt,gofmt,test -z "$$(gofmt -l -e benchmarks | tee /dev/stderr)") \
	$(call tool-step,go-vet,go,go -C benchmarks/peers/go vet .) \
	$(call tool-step,clang-tidy,$(CLANG_TIDY),printf '%s\n' $(C_SOURCES) | xargs -n 1 -P 2 sh -c '$(CLANG_TIDY) --quiet "$$1" -- $(TIDY_FLAGS) 2>/dev/null' -) \
	$(call tool-step,clang-tidy-portable,$(CLANG_TIDY),$(CLANG_TIDY) --quiet csrc/core/wp_wait_portable.c -- $(TIDY_FLAGS) -DWP_PORTABLE_WAIT 2>/dev/null) \
	if [ -n "$$failed" ]; then echo "lint failed:$$failed"; exit 1; fi; \
	echo 'lint passed'

.PHONY: clean distclean
clean:
	rm -rf $(BUILD) dist *.egg-info workerpool/include workerpool/_core*.so $(VENV)/.made-extension
	find workerpool tests benchmarks examples -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

distclean: clean
	rm -rf $(VENV) .hypothesis .mypy_cache .pytest_cache .ruff_cache
