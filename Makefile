# `make`, `make run` and `make test` need nothing but Rust. `make test` uses more when it is there: Debian's
# mosquitto-clients, rabbitmq-server and nats-server, Python's venv for a third client, npm, Node and Chromium for MQTT.js,
# and network namespaces; without them it says what it skipped.

CARGO ?= cargo
PREFIX ?= /usr/local
SBINDIR ?= $(PREFIX)/sbin
BINDIR ?= $(PREFIX)/bin
MANDIR ?= $(PREFIX)/share/man
SYSCONFDIR ?= /etc
DESTDIR ?=
TARGET := $(or $(CARGO_TARGET_DIR),target)
BROKER := $(TARGET)/release/mosquitto
# Features of a build, for example `make FEATURES=sys-tree` or, for the smallest, `make FEATURES=`.
SN_TOOLS := mosquitto_sn_pub mosquitto_sn_sub
DB_TOOLS := mosquitto_db_dump
TOOLS := mosquitto_passwd $(DB_TOOLS) $(SN_TOOLS)
ifdef FEATURES
FEATURE_FLAGS := --no-default-features --features "$(FEATURES)"
TOOLS := $(if $(filter tools,$(FEATURES)),mosquitto_passwd $(if $(filter persistence,$(FEATURES)),$(DB_TOOLS)) \
	$(if $(filter mqttsn,$(FEATURES)),$(SN_TOOLS)))
else ifeq ($(origin FEATURES),command line)
FEATURE_FLAGS := --no-default-features
TOOLS :=
endif

.PHONY: all run test check size bench soak fuzz features install clean help

all:
	$(CARGO) build --release --locked $(FEATURE_FLAGS)

# Serves this machine on port 1883; `make run ARGS="-c my.conf -v"` for something else.
run: all
	$(BROKER) $(if $(ARGS),$(ARGS),-v)

# Everything that can be tested on this machine, in a few minutes.
test:
	tests/interop/setup.sh || echo "no paho client: its tests will be skipped"
	$(CARGO) test --locked

# What a change has to pass before anything else looks at it.
check:
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings

# Bytes of the stripped broker with everything and with nothing.
size:
	@tests/size.sh

# Every feature alone, none, all.
features:
	@tests/features.sh

# Memory and processor time beside /usr/sbin/mosquitto; BENCH_QUICK=1 for a short look.
bench:
	$(CARGO) bench --locked --bench compare --bench idle --bench queued --bench tls --bench store

# The simulation with many seeds, many questions about access to Debian's broker, 200 cuts of each bridged link (about an
# hour and a half), then the tests over and over; ROUNDS says how often. `make soak ROUNDS=1000` over night.
ROUNDS ?= 20
SEEDS ?= 10000
soak:
	SEEDS=$(SEEDS) $(CARGO) test --profile soak --locked --test sim
	ACL_CHECKS=10000 $(CARGO) test --locked --test it acl::debian
	SN_CROWD=10000 $(CARGO) test --locked --test it sn_crowd
	KILLS=200 $(CARGO) test --locked --test it journal::kill -- --nocapture
	DISK_SEEDS=20000 $(CARGO) test --locked --lib persist::journal
	LINKS_FULL=1 $(CARGO) test --locked --test links -- --nocapture --test-threads 1
	$(CARGO) test --locked --no-run
	for round in $$(seq $(ROUNDS)); do echo "round $$round"; $(CARGO) test --locked --quiet || exit 1; done

# Coverage-guided fuzzing with cargo-fuzz and a nightly compiler: `make fuzz FUZZ=server SECONDS=600`. Targets: server,
# packet_v5, packet_v3, frames, config, acl, access, bridge, metrics, tls, proxy, upgrade,
# websocket, db, journal, mqttsn. What is found stays in
# tests/fuzz/corpus and tests/fuzz/artifacts.
FUZZ ?= server
SECONDS ?= 60
fuzz:
	mkdir -p tests/fuzz/corpus/$(FUZZ)
	$(CARGO) +nightly fuzz run --fuzz-dir tests/fuzz $(FUZZ) tests/fuzz/corpus/$(FUZZ) tests/fuzz/seeds/$(FUZZ) -- \
		-max_total_time=$(SECONDS) -rss_limit_mb=2048

# With DESTDIR and PREFIX as usual: the broker, the tools of this build, the manual pages and an example configuration.
install: all
	install -d "$(DESTDIR)$(SBINDIR)" "$(DESTDIR)$(BINDIR)" "$(DESTDIR)$(SYSCONFDIR)/mosquitto"
	install -m 755 "$(BROKER)" "$(DESTDIR)$(SBINDIR)/mosquitto"
	for tool in $(TOOLS); do \
		install -m 755 "$(TARGET)/release/$$tool" "$(DESTDIR)$(BINDIR)/"; \
	done
	install -m 644 mosquitto.conf.example "$(DESTDIR)$(SYSCONFDIR)/mosquitto/mosquitto.conf.example"
	for page in man/*.[1-8]; do \
		section=$${page##*.}; \
		install -d "$(DESTDIR)$(MANDIR)/man$$section"; \
		install -m 644 "$$page" "$(DESTDIR)$(MANDIR)/man$$section/"; \
	done

clean:
	$(CARGO) clean

help:
	@echo "make [all|run|test|check|size|features|bench|soak|fuzz|install|clean]"
