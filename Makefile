# The entry points. Each does all of its set-up on a bare Debian 12 or 13, as root; `cargo xtask help` has the rest.
export PATH := $(PATH):$(HOME)/.cargo/bin
PREFIX ?= /usr/local
XTASK = cargo xtask

.PHONY: all build setup test demo bench lint install uninstall clean

all: build

build:
	scripts/setup build
	$(XTASK) dist

setup:
	scripts/setup

test:
	scripts/setup
	$(XTASK) test

lint:
	scripts/setup build
	$(XTASK) test --lane lint

demo:
	scripts/setup
	$(XTASK) demo

bench:
	scripts/setup
	$(XTASK) bench runtime
	$(XTASK) bench images

# Executables, manual pages, completions, systemd's units.
install: build
	PREFIX="$(PREFIX)" DESTDIR="$(DESTDIR)" contrib/install "$$($(XTASK) dist program)" "$$($(XTASK) dist runtime)"

uninstall:
	PREFIX="$(PREFIX)" DESTDIR="$(DESTDIR)" contrib/install remove

# Also ends the peers' box, and removes it and the disk of the virtual machine.
clean:
	$(XTASK) peers remove
	$(XTASK) vm remove
	cargo clean
