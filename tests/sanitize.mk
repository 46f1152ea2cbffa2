# The tests under sanitizers: a part of the Makefile, whose variables it uses.

.PHONY: asan-test tsan-test refcount-test sanitize

# The Python tests under sanitizers; tests/sanitize.py says what is built, what fails and what is left out. ARGS are tests
# to run in the place of all; QUICK=1 runs those that touch the most C code.
SANITIZE_TESTS := tests/sanitize.py
IF_QUICK = $(if $(QUICK),--quick)
asan-test: build $(VENV)/.made-test-toolchains
	$(VENV_PYTHON) $(SANITIZE_TESTS) address $(IF_QUICK) $(ARGS)

# Of an interpreter with a sanitizer in it pip would take many minutes, so the usual interpreter installs for it, wheels only.
TSAN_OUT := $(BUILD)/tsan
TSAN_PACKAGES := 'pytest>=9' 'pytest-timeout>=2.3' 'hypothesis>=6.100' 'setuptools>=77' 'rich>=13' numpy
TSAN_VERSION = $(shell "$(TSAN_PYTHON)" -c 'import sys; print("{}.{}".format(*sys.version_info))' 2>/dev/null)
need-tsan = $(if $(TSAN_VERSION),,$(error workerpool: TSAN_PYTHON=$(TSAN_PYTHON) is no interpreter; give one built by ./configure --disable-gil --with-thread-sanitizer))
$(TSAN_OUT)/site/.made: $(VENV)/.made-venv
	$(need-tsan)
	@mkdir -p $(@D)
	$(call run,PIP packages for $(TSAN_PYTHON),$(PIP) --upgrade --target $(@D) --python-version $(TSAN_VERSION) --implementation cp --abi cp$(subst .,,$(TSAN_VERSION))t --abi none --only-binary :all: $(TSAN_PACKAGES))
	@touch $@

tsan-test: $(TSAN_OUT)/site/.made
	$(need-tsan)
	$(VENV_PYTHON) $(SANITIZE_TESTS) thread --python "$(TSAN_PYTHON)" --packages $(TSAN_OUT)/site $(IF_QUICK) $(ARGS)

# Each test again and again, with reference counts compared; in a debug build of CPython all of them, else only objects.
# DEBUG_PYTHON is one, with an environment of its own. Without toolchains there: wheels are built for ordinary interpreters,
# and do not count the references that they take, so that sums drift by what NumPy alone does.
IS_DEBUG := $(call python-says,import sys; print(1) if hasattr(sys$(COMMA) "gettotalrefcount") else None)
refcount-test: build $(VENV)/.made-test$(if $(IS_DEBUG),,-toolchains)
	$(VENV_PYTHON) -m pytest --refcounts --timeout 300 -q $(ARGS)

# Everything under sanitizers, as far as there is what it needs. It says what is missing, goes on after a failure, and
# names at the end what failed.
sanitize:
	@failed=; \
	$(call step,c-test-address-undefined,$(MAKE) --no-print-directory c-test SANITIZE=address$(COMMA)undefined) \
	$(call step,c-test-thread,$(MAKE) --no-print-directory c-test SANITIZE=thread) \
	$(call step,asan-test,$(MAKE) --no-print-directory asan-test) \
	if [ -n "$(DEBUG_PYTHON)" ]; then \
		$(call step,refcount-test,$(MAKE) --no-print-directory refcount-test PYTHON="$(DEBUG_PYTHON)" VENV=.venv-debug) \
	else \
		echo '== refcount-test with DEBUG_PYTHON=...: skipped; on Debian and Ubuntu: apt install python3-dbg python3-venv, and DEBUG_PYTHON=python3-dbg'; \
		$(call step,refcount-test,$(MAKE) --no-print-directory refcount-test) \
	fi; \
	if [ -n "$(TSAN_PYTHON)" ]; then \
		$(call step,tsan-test,$(MAKE) --no-print-directory tsan-test TSAN_PYTHON="$(TSAN_PYTHON)") \
	else \
		echo '== tsan-test: skipped; give TSAN_PYTHON=..., an interpreter built by ./configure --disable-gil --with-thread-sanitizer'; \
	fi; \
	if [ -n "$$failed" ]; then echo "sanitize failed:$$failed"; exit 1; fi; \
	echo 'sanitize passed'
