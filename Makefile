# lopt for C and C++ programs. `make help` lists the targets.
#
# The library is Embedded Swift: each module is compiled as a whole by swiftc, one C compiler call links the objects. Any
# GNU make from 4.3 on; `make -j` works. V=1 shows the commands.

.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.SUFFIXES:
SHELL := /bin/bash

# ---- What a user may set ------------------------------------------------------------------------------------------

PREFIX   ?= /usr/local
LIBDIR   ?= $(PREFIX)/lib
INCDIR   ?= $(PREFIX)/include
BINDIR   ?= $(PREFIX)/bin
DOCDIR   ?= $(PREFIX)/share/doc/lopt
DESTDIR  ?=
# openblas: loaded at run time, if it is there, by the first network wide enough to gain by it. none: never.
BLAS     ?= openblas
# address, thread or fuzzer: an instrumented library, in a build directory of its own.
SANITIZE ?=
# aarch64 cross-compiles, with Debian's cross compiler. Empty: for this machine.
TARGET   ?=
BUILD    ?= build$(if $(SANITIZE)$(TARGET),/$(SANITIZE)$(TARGET))
SWIFTC   ?= swiftc
OBJCOPY  ?= objcopy
STRIP    ?= strip
AR       := ar
LD       := ld
SLOW     ?=
SECONDS  ?= 60
BENCH_ARGS ?=
V        ?=

# ---- Names --------------------------------------------------------------------------------------------------------

version_part = $(shell sed -n 's/^\#define LOPT_VERSION_$(1) \([0-9]*\)$$/\1/p' include/lopt.h)
MAJOR   := $(call version_part,MAJOR)
VERSION := $(MAJOR).$(call version_part,MINOR).$(call version_part,PATCH)
SONAME  := liblopt.so.$(MAJOR)
LIBRARY := $(BUILD)/liblopt.so.$(VERSION)
ARCHIVE := $(BUILD)/liblopt.a
OBJ     := $(BUILD)/obj

MACHINE := $(or $(TARGET),$(shell uname -m))
ifeq ($(MACHINE),x86_64)
kernels := LOptKernels LOptKernelsAVX2 LOptKernelsAVX512
else
kernels := LOptKernels
endif

ifeq ($(filter $(BLAS),openblas none),)
$(error BLAS is $(BLAS); allowed are openblas and none)
endif
ifneq ($(filter-out address thread fuzzer,$(SANITIZE)),)
$(error SANITIZE is $(SANITIZE); allowed are address, thread and fuzzer)
endif
ifneq ($(filter-out aarch64,$(TARGET)),)
$(error TARGET is $(TARGET); allowed is aarch64)
endif
# The files in BUILD are targets, whose names make separates by spaces. Every other path may have some.
ifneq ($(words $(BUILD)),1)
$(error BUILD is '$(BUILD)'; make cannot build where the path has a space. A link to it without one will do)
endif

Q   := $(if $(V),,@)
say  = $(if $(V),,@printf '  %-8s %s\n' '$(1)' '$(2)')
export BLAS SWIFTC

# ---- Flags --------------------------------------------------------------------------------------------------------

# The fuzzer looks for errors of memory; it counts branches in the core alone, where the parsers are (flags_LOptCore).
checks := $(SANITIZE:fuzzer=address)

# -function-sections lets the linker drop what is not used, above all the parts of the Swift runtime that every Embedded
# Swift object carries. psabi warns of vectors passed between functions of different ISAs; ours are inlined.
swift_flags := -enable-experimental-feature Embedded -swift-version 6 -wmo -parse-as-library \
	-Xfrontend -function-sections -Xcc -Wno-psabi -I Sources/CLOptShims/include \
	$(if $(SANITIZE),-g -sanitize=$(checks))
# A toolchain for x86-64 has no Embedded standard library for aarch64 Linux, but one for bare aarch64: the same code, given
# the C headers of the one and position-independent.
ifneq ($(TARGET),)
cross := aarch64-linux-gnu-
CC := $(cross)gcc
OBJCOPY := $(cross)objcopy
STRIP := $(cross)strip
AR := $(cross)ar
LD := $(cross)ld
swift_flags += -target aarch64-none-none-elf -Xcc -isystem -Xcc /usr/aarch64-linux-gnu/include -Xcc -D__linux__ \
	-Xcc -D__unix__ -Xcc -fPIC
endif
core_flags := $(if $(filter none,$(BLAS)),-D LOPT_NO_BLAS)

# On x86-64 the baseline serves processors from before 2013: small rather than unrolled.
flags_LOptKernels       := -Ounchecked -D LOPT_BASELINE \
	$(if $(filter x86_64,$(MACHINE)),-Xllvm -unroll-runtime=false -Xllvm -unroll-max-count=1)
flags_LOptKernelsAVX2   := -Ounchecked -D LOPT_AVX2 -Xcc -march=x86-64-v3
flags_LOptKernelsAVX512 := -Ounchecked -D LOPT_AVX512 -Xcc -march=x86-64-v4 -Xcc -mprefer-vector-width=512
# One module of LOptCore and LOptCAPI: Embedded Swift 6.3 cannot destroy a noncopyable value of another module. Swift
# warns that the files' "import LOptCore" is then of no use; `swift build` compiles them as the two modules they are.
# The outliner makes one function of what many share: a tenth less of code that no loop over elements is in.
flags_LOptCore          := -Osize -Xllvm -enable-machine-outliner=always $(core_flags) -I Sources/CLOpt -suppress-warnings \
	$(if $(filter fuzzer,$(SANITIZE)),-sanitize=fuzzer)

symbol_LOptKernels       := lopt_kernels_baseline
symbol_LOptKernelsAVX2   := lopt_kernels_avx2
symbol_LOptKernelsAVX512 := lopt_kernels_avx512

# The sanitizers' code is made by swiftc's LLVM and wants the runtime of the clang beside it. The program brings that
# runtime (link it with clang -fsanitize=$(checks) too), so the library is linked without it, and without -z defs.
ifeq ($(SANITIZE),)
link_flags := -Wl,-z,defs -Wl,-O1
else
CC := clang
link_flags := -g -fsanitize=$(checks)
endif
link_flags += -shared -Wl,-soname,$(SONAME) -Wl,--version-script=packaging/liblopt.map -Wl,--gc-sections \
	-Wl,--as-needed -Wl,-z,relro -Wl,-z,now -Wl,-z,noexecstack -Wl,--hash-style=gnu

# ---- The library --------------------------------------------------------------------------------------------------

.PHONY: all check-library tool examples demo test test-c fuzz bench bench-compare bench-ladder install install-files uninstall clean help FORCE

all: $(BUILD)/liblopt.so $(if $(SANITIZE),,$(ARCHIVE))

shims   := $(wildcard Sources/CLOptShims/include/*)
modules := $(kernels) LOptCore
objects := $(modules:%=$(OBJ)/%.o)
swift_files = $(sort $(wildcard Sources/$(1)/*.swift Sources/$(1)/*/*.swift))
$(foreach k,$(kernels),$(eval sources_$(k) := $(call swift_files,LOptKernels)))
sources_LOptCore := $(call swift_files,LOptCore) $(call swift_files,LOptCAPI)

# Rewrites a .command file only when its text has changed, so that what depends on it is rebuilt just then: on a new flag, a
# new or deleted source, another compiler. Without a compiler (sudo make install) what was built stays.
remember = @mkdir -p $(OBJ); printf '%s\n' '$(1)' > $@.new; \
	if cmp -s $@.new $@; then rm $@.new; else mv $@.new $@; fi
swiftc_identity := $(shell ls -lL --time-style=+%s "$$(command -v $(SWIFTC))" 2>/dev/null)

$(OBJ)/%.command: FORCE
	$(if $(swiftc_identity),$(call remember,$(swiftc_identity) $(swift_flags) $(flags_$*) $(sources_$*)))
$(OBJ)/link.command: FORCE
	$(call remember,$(CC) $(link_flags))

# swiftc leaves an output alone whose code before optimisation is the same, even if the flags are others.
define compile
	@scripts/dependencies build $(TARGET)
	$(call say,SWIFT,$(1))
	$(Q)rm -f $(2)
	$(Q)$(SWIFTC) $(swift_flags) $(flags_$(1)) -module-cache-path $(BUILD)/module-cache -module-name $(1) -c -o $(2) $(sources_$(1))
endef

# The kernel objects keep one global symbol each. Everything else in them becomes local, the weak Swift runtime functions
# above all: the linker would else be free to take the copy that was compiled for AVX-512 for everyone. .swift_modhash, of use to
# the compiler alone, depends on the paths of the build.
$(kernels:%=$(OBJ)/%.o): $(OBJ)/%.o: $(OBJ)/%.command $(shims) $(call swift_files,LOptKernels)
	$(call compile,$*,$(@:.o=.all.o))
	$(Q)$(OBJCOPY) --keep-global-symbol=$(symbol_$*) -R .swift_modhash $(@:.o=.all.o) $@

$(OBJ)/LOptCore.o: $(OBJ)/LOptCore.command $(shims) include/lopt.h Sources/CLOpt/version.h $(sources_LOptCore)
	$(call compile,LOptCore,$@)
	$(Q)$(OBJCOPY) -R .swift_modhash $@

# Linked once; .unstripped is the same library with its symbol table, for a debugger or a profiler.
$(LIBRARY): $(objects) $(OBJ)/link.command packaging/liblopt.map
	$(call say,LINK,$@)
	$(Q)$(CC) $(link_flags) -o $@.unstripped $(objects) -lm
	$(Q)$(if $(SANITIZE),cp $@.unstripped $@,$(STRIP) --strip-all -o $@ $@.unstripped)

$(BUILD)/liblopt.so: $(LIBRARY)
	$(Q)ln -sf $(notdir $(LIBRARY)) $(BUILD)/$(SONAME)
	$(Q)ln -sf $(SONAME) $@

# For cc -static: one object whose only global symbols are the functions of lopt.h. Dissolving the groups keeps a linker from
# putting another Swift object's copy of a shared function in the place of ours, or ours in the place of another's.
functions := $(shell sed -n 's/^  *\(lopt_[a-z0-9_]*\);$$/\1/p' packaging/liblopt.map)
$(ARCHIVE): $(objects) $(OBJ)/link.command packaging/liblopt.map packaging/no_dlopen.c
	$(call say,ARCHIVE,$@)
	$(Q)printf '%s\n' $(functions) > $(OBJ)/functions
	$(Q)$(CC) -O2 -fPIC -fvisibility=hidden -c -o $(OBJ)/no_dlopen.o packaging/no_dlopen.c
	$(Q)$(LD) -r --gc-sections $(functions:%=-u %) --force-group-allocation -o $(OBJ)/liblopt.all.o $(objects) $(OBJ)/no_dlopen.o
	$(Q)$(OBJCOPY) --keep-global-symbols=$(OBJ)/functions --strip-unneeded -R '.swift1_autolink_entries' -R .linker-options \
		-R .comment $(OBJ)/liblopt.all.o $(OBJ)/liblopt.o
	$(Q)rm -f $@
	$(Q)$(AR) rcD $@ $(OBJ)/liblopt.o

check-library: all
	@scripts/dependencies build
	$(Q)scripts/check-library $(LIBRARY) $(OBJ)

# ---- Programs -----------------------------------------------------------------------------------------------------

# BUILD as the folders of the programs see it. Quoted, for whatever shell they come to: the path of the sources may have spaces.
build_below := $(if $(filter /%,$(BUILD)),,../)$(BUILD)
build_whole := $(if $(filter /%,$(BUILD)),,$(CURDIR)/)$(BUILD)
below = +$(Q)$(MAKE) --no-print-directory -C $(1) BUILD=$(build_below)/$(2) LOPT_CFLAGS='-I../include' \
	LOPT_LIBS='-L$(build_below) -llopt -Wl,-rpath,"$(build_whole)"'

examples: all
	@scripts/dependencies demo
	$(call below,examples-c,examples)

demo: examples
	@printf '\n'
	$(Q)$(BUILD)/examples/digits --digits data/fashion

# The command line tool, with Swift's libraries in it. It looks for the folder data beside itself and above, and where make install
# puts it.
tool:
	@scripts/dependencies build test
	$(Q)mkdir -p $(BUILD)
	@test -d .build/checkouts/swift-argument-parser || \
		echo '  FETCH    swift-argument-parser from github.com/apple, once; the library itself needs none of it'
	$(Q)swift build -c release --static-swift-stdlib --product lopt --scratch-path .build
	$(Q)ln -sf '$(CURDIR)/.build/release/lopt' $(BUILD)/lopt
	@echo '$(BUILD)/lopt --help'

# Everything; SLOW=1 adds the tests that take minutes.
test:
	@scripts/dependencies build test
	$(Q)SLOW='$(SLOW)' MAKE='$(MAKE)' BUILD='$(BUILD)' scripts/test

# The C tests alone, plain: for working on the C side.
test-c: all
	$(Q)BUILD='$(BUILD)' scripts/test-c plain

# Each fuzz target for SECONDS, after all of its regression inputs; what it finds lies in build/fuzz.
fuzz:
	$(Q)MAKE='$(MAKE)' BUILD='$(BUILD)' SECONDS_EACH='$(SECONDS)' scripts/fuzz

bench: $(BUILD)/bench/bench
	$(Q)$(BUILD)/bench/bench --startup $(BUILD)/bench/startup $(BUILD)/$(SONAME) --torch bench/torch_adamw.py $(BENCH_ARGS)

# The default weights beside an earlier run, BASE, of BENCH_ARGS="--json BASE": ends with an error if a row has become slower.
bench-compare: $(BUILD)/bench/bench
	$(Q)test -f '$(BASE)' || { echo 'BASE is the file of an earlier make bench BENCH_ARGS="--json FILE"'; exit 2; }
	$(Q)$(BUILD)/bench/bench $(BENCH_ARGS) --json $(BUILD)/bench/now.json
	$(Q)python3 bench/compare.py '$(BASE)' $(BUILD)/bench/now.json

# Every idea that makes the step fast, timed and checked one by one.
bench-ladder: $(BUILD)/bench/bench
	$(Q)$(BUILD)/bench/ladder $(BENCH_ARGS)

$(BUILD)/bench/bench: all
	$(call below,bench,bench)

# ---- Installing ---------------------------------------------------------------------------------------------------

# Quoted wherever they are used: each may have spaces.
into_lib := $(DESTDIR)$(LIBDIR)
into_inc := $(DESTDIR)$(INCDIR)
into_doc := $(DESTDIR)$(DOCDIR)
into_bin := $(DESTDIR)$(BINDIR)
# The command too, if make tool has built it, and the data that it alone needs.
command  := $(wildcard $(BUILD)/lopt)
headers  := $(notdir $(wildcard include/*))
fill = sed -e 's|@VERSION@|$(VERSION)|g' -e 's|@PREFIX@|$(PREFIX)|g' -e 's|@LIBDIR@|$(LIBDIR)|g' \
	-e 's|@INCDIR@|$(INCDIR)|g' -e 's|@SONAME@|$(SONAME)|g' \
	-e "s|@FROM_CMAKE@|$$(realpath -ms --relative-to='$(LIBDIR)/cmake/lopt' '$(INCDIR)')|g"

install: all install-files
	$(Q)test -n '$(DESTDIR)' || scripts/after-install '$(LIBDIR)' $(SONAME)

# make dist installs a library that it linked itself.
install-files:
	$(call say,INSTALL,$(DESTDIR)$(PREFIX))
	$(Q)mkdir -p '$(into_inc)' '$(into_lib)/pkgconfig' '$(into_lib)/cmake/lopt' '$(into_doc)/examples'
	$(Q)install -m 644 $(headers:%=include/%) '$(into_inc)'
	$(Q)install -m 755 $(LIBRARY) '$(into_lib)/liblopt.so.$(VERSION)'
	$(Q)$(if $(SANITIZE),,install -m 644 $(ARCHIVE) '$(into_lib)/liblopt.a')
	$(Q)ln -sf liblopt.so.$(VERSION) '$(into_lib)/$(SONAME)'
	$(Q)ln -sf $(SONAME) '$(into_lib)/liblopt.so'
	$(Q)$(fill) packaging/lopt.pc.in > '$(into_lib)/pkgconfig/lopt.pc'
	$(Q)$(fill) packaging/loptConfig.cmake.in > '$(into_lib)/cmake/lopt/loptConfig.cmake'
	$(Q)$(fill) packaging/loptConfigVersion.cmake.in > '$(into_lib)/cmake/lopt/loptConfigVersion.cmake'
	$(Q)install -m 644 README.md LICENSE '$(into_doc)'
	$(Q)install -m 644 $(wildcard examples-c/*.[ch] examples-c/*.cpp) $(addprefix examples-c/,Makefile README.md) '$(into_doc)/examples'
	$(Q)for folder in fortran mpi; do install -Dm 644 -t '$(into_doc)'/examples-$$folder $$(ls examples-$$folder/*.c examples-$$folder/*.f90 \
		examples-$$folder/Makefile examples-$$folder/CMakeLists.txt 2>/dev/null); done
	$(Q)$(if $(command),install -D -s -m 755 $(command) '$(into_bin)/lopt')
	$(Q)for folder in digits text $(if $(command),fashion tabular picture); do install -Dm 644 -t '$(into_doc)'/data/$$folder data/$$folder/*; done

uninstall:
	$(call say,REMOVE,$(DESTDIR)$(PREFIX))
	$(Q)rm -f $(headers:%='$(into_inc)'/%) '$(into_lib)/liblopt.so' '$(into_lib)/liblopt.a' '$(into_lib)/$(SONAME)' '$(into_lib)/liblopt.so.$(VERSION)' \
		'$(into_lib)/pkgconfig/lopt.pc' '$(into_lib)/cmake/lopt/loptConfig.cmake' \
		'$(into_lib)/cmake/lopt/loptConfigVersion.cmake'
	$(Q)rm -f '$(into_bin)/lopt'
	$(Q)rm -rf '$(into_doc)'
	$(Q)rmdir '$(into_lib)/cmake/lopt' 2>/dev/null || true

include packaging/dist.mk

clean:
	rm -rf build

help:
	@echo 'make                 the library: build/liblopt.so'
	@echo 'make demo            trains a small network from C and prints what it does'
	@echo 'make examples        the programs of examples-c, in build/examples'
	@echo 'make tool            the command build/lopt: meta-train, evaluate, inspect, stability, curves'
	@echo 'make test            every test; SLOW=1 those that take minutes too'
	@echo 'make fuzz            parsers and calls on inputs that look for trouble; SECONDS=60 each'
	@echo 'make check-library   size, dependencies and symbols of the library'
	@echo 'make bench           speed beside AdamW; BENCH_ARGS="--full --json FILE", BENCH_ARGS=--help'
	@echo 'make bench-compare   the same beside an earlier run, BASE=FILE; bench-ladder: what each idea in a step is worth'
	@echo 'make install         PREFIX=/usr/local LIBDIR=PREFIX/lib DESTDIR= ; also: make uninstall'
	@echo 'make dist            an archive, Debian packages and a Python wheel for others, in build/dist'
	@echo 'make clean'
	@echo
	@echo 'BLAS=none            without OpenBLAS'
	@echo 'TARGET=aarch64       a library for 64-bit Arm in build/aarch64, on a machine that is not'
	@echo 'SANITIZE=address     an instrumented library in build/address (or thread, fuzzer)'
	@echo 'V=1                  shows the commands'
