# make dist: what people without a Swift compiler are given, in build/dist: for this machine and, if Debian's cross compiler is
# there, for aarch64. The same objects as in liblopt.so, linked against an old C library, so that they run on whatever has that
# or a newer one. Zig brings the symbols of every glibc there was; scripts/check-library looks at what came of it.

GLIBC := 2.17
DIST  ?= $(BUILD)/dist
# The command of a Zig that has -rtlib; by default one from PyPI, kept beside the build.
ZIG   ?= $(DIST)/zig/bin/python -m ziglang
ziglang := ziglang==0.15.2

old := $(BUILD)/glibc-$(GLIBC)
comma := ,
# Its own run-time library has a memcpy, too: the compiler's has not.
old_flags := -target $(MACHINE)-linux-gnu.$(GLIBC) -rtlib=none $(filter-out -Wl$(comma)-O1,$(link_flags))

.PHONY: dist dist-machine
dist: dist-machine
	$(Q)$(if $(filter x86_64,$(MACHINE)),if command -v aarch64-linux-gnu-gcc >/dev/null; then \
		$(MAKE) --no-print-directory TARGET=aarch64 BUILD=$(BUILD)/aarch64 DIST=$(DIST) dist-machine; \
	else echo '  SKIP     aarch64: scripts/dependencies aarch64 installs the cross compiler'; fi)
	@ls -l $(DIST)/*.*

dist-machine: $(old)/liblopt.so.$(VERSION) $(ARCHIVE)
	@scripts/dependencies build dist
	$(Q)ln -sf ../liblopt.a $(old)/liblopt.a
	$(Q)CROSS=$(cross) scripts/check-library $< $(OBJ) $(GLIBC) > $(old)/check.log || { cat $(old)/check.log; exit 1; }
	$(Q)MAKE='$(MAKE)' BUILD=$(BUILD) TARGET=$(TARGET) DIST=$(DIST) LIBRARY=$< MACHINE=$(MACHINE) VERSION=$(VERSION) \
		GLIBC=$(GLIBC) scripts/dist

$(old)/liblopt.so.$(VERSION): $(objects) $(OBJ)/link.command packaging/liblopt.map packaging/dist.mk | $(if $(filter command line environment,$(origin ZIG)),,$(DIST)/zig)
	$(call say,LINK,$@)
	$(Q)mkdir -p $(old)
	$(Q)ZIG_LOCAL_CACHE_DIR=$(old)/cache ZIG_GLOBAL_CACHE_DIR=$(old)/cache $(ZIG) cc $(old_flags) -o $@.unstripped $(objects) \
		-lm -lpthread -ldl "$$($(CC) -print-libgcc-file-name)"
	$(Q)$(STRIP) --strip-all -o $@ $@.unstripped

$(DIST)/zig:
	@scripts/dependencies build dist
	@echo '  FETCH    $(ziglang) from PyPI, once'
	$(Q)mkdir -p $(DIST)
	$(Q)python3 -m venv $@.new && $@.new/bin/python -m pip install -q --no-compile --disable-pip-version-check $(ziglang) && mv $@.new $@
