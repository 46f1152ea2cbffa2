# Fuzzing: a part of the Makefile, whose variables it uses.
#
# The targets of csrc/tests/fuzz with libFuzzer, which comes with clang, and with sanitizers. c-test runs them too, with
# the kept inputs alone and any compiler. What is new is looked for in $(FUZZ_OUT)/corpus and kept there from run to run;
# an input that fails is left beside it.
FUZZ_CC ?= clang
FUZZ_OUT := $(BUILD)/fuzz
TARGETS ?= $(patsubst fuzz_%,%,$(C_FUZZ))
FUZZ_SANITIZERS := -fsanitize=address,undefined -fno-sanitize=function -fno-sanitize-recover=all
FUZZ_FLAGS = -std=c11 -O1 -g -fno-omit-frame-pointer -Wall -Wextra -pthread $(FUZZ_SANITIZERS) $(FFI_FLAGS) $(CFLAGS)
lacks-fuzzer = $(if $(shell printf 'int LLVMFuzzerTestOneInput(const char *d, long n) { return !d && n; }\n' | $(FUZZ_CC) -fsanitize=fuzzer -x c - -o /dev/null 2>/dev/null && echo yes),,clang libclang-rt-dev)
says-clang = a clang with libFuzzer ('$(FUZZ_CC) -fsanitize=fuzzer' fails; FUZZ_CC=... names another)
says-libclang-rt-dev = its libraries
# Signatures are texts of up to 4096 bytes, the other inputs strings of choices.
FUZZ_OPTIONS_signature := -max_len=4200 -dict=csrc/tests/fuzz/signature.dict
FUZZ_OPTIONS_call := -max_len=1200
FUZZ_OPTIONS_grid := -max_len=200
FUZZ_OPTIONS_declaration := -max_len=300
FUZZ_OPTIONS_pool := -max_len=400
# How often an input comes somewhere is left out of account where that would keep too many.
FUZZ_KEEP_call := -use_counters=0
FUZZ_KEEP_pool := -use_counters=0

$(FUZZ_OUT)/%.o: csrc/%.c
	$(call need,$(lacks-fuzzer))
	@mkdir -p $(@D)
	$(call run,CC $< for fuzzing,$(FUZZ_CC) $(FUZZ_FLAGS) -fsanitize=fuzzer-no-link $(C_INCLUDES) -MMD -MP -c -o $@ $<)

$(FUZZ_OUT)/fuzz_%: $(FUZZ_OUT)/tests/fuzz/fuzz_%.o $(patsubst csrc/%.c,$(FUZZ_OUT)/%.o,$(C_SOURCES))
	$(call run,LD $@,$(FUZZ_CC) -pthread $(FUZZ_SANITIZERS) -fsanitize=fuzzer -o $@ $^ $(LDFLAGS) $(FFI_LIBS) -ldl -lm)

-include $(wildcard $(FUZZ_OUT)/*/*.d $(FUZZ_OUT)/*/*/*.d)
.PRECIOUS: $(FUZZ_OUT)/%.o $(FUZZ_OUT)/fuzz_%

.PHONY: fuzz fuzz-keep
fuzz: $(addprefix fuzz-run-,$(TARGETS))

fuzz-keep: $(addprefix fuzz-keep-,$(TARGETS))

fuzz-run-%: $(FUZZ_OUT)/fuzz_% FORCE
	@"$(BASE_PYTHON)" csrc/tests/fuzz/corpus.py unpack $(FUZZ_OUT)/corpus/$* csrc/tests/fuzz/corpus/$*.*
	@echo '  FUZZ $* for $(or $(SECONDS),360) s'
	@if $< -max_total_time=$(or $(SECONDS),360) -timeout=30 -print_final_stats=1 $(FUZZ_OPTIONS_$*) \
		-artifact_prefix=$(FUZZ_OUT)/$*- $(FUZZ_OUT)/corpus/$* >$(FUZZ_OUT)/$*.log 2>&1 </dev/null; then \
		echo "pass $*: $$(sed -n 's/^stat::number_of_executed_units: *//p' $(FUZZ_OUT)/$*.log) inputs tried"; \
	else \
		grep -v '^#[0-9]' $(FUZZ_OUT)/$*.log; \
		echo "FAIL $*: the input is in the file named above; $< with that name tries it again, corpus.py line shows it"; \
		exit 1; \
	fi

# Of all inputs at hand, those that are needed to come everywhere.
fuzz-keep-%: $(FUZZ_OUT)/fuzz_% FORCE
	@rm -rf $(FUZZ_OUT)/least/$*; mkdir -p $(FUZZ_OUT)/least/$* $(FUZZ_OUT)/corpus/$*
	@"$(BASE_PYTHON)" csrc/tests/fuzz/corpus.py unpack $(FUZZ_OUT)/corpus/$* csrc/tests/fuzz/corpus/$*.*
	@$< -set_cover_merge=1 $(FUZZ_KEEP_$*) $(FUZZ_OUT)/least/$* $(FUZZ_OUT)/corpus/$* >$(FUZZ_OUT)/$*-keep.log 2>&1 </dev/null
	@"$(BASE_PYTHON)" csrc/tests/fuzz/corpus.py pack $(FUZZ_OUT)/least/$* >csrc/tests/fuzz/corpus/$*.found
	@echo "csrc/tests/fuzz/corpus/$*.found: $$(wc -l <csrc/tests/fuzz/corpus/$*.found) inputs"
