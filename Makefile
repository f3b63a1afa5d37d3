# make run      index 10,000 words through real actors, on the embedded spool
#               CONNECTION=amqp://guest:guest@127.0.0.1:5672/  the same on RabbitMQ
# make test     lint, types and every test, against real RabbitMQs too: the distribution's, 4.0, 4.3
# make fast     the tests without a process, a socket or a broker
# make check    lint, types, the fast tests and a short simulation
# make bench    every scene beside the peers and the limit, in half an hour: docs/performance.md
# make stress   every fault that one machine can inject: docs/reliability.md
# make soak     MINUTES=20 of random faults under load: is anything lost, does anything grow?
#
# What is missing is set up first; PYTHON names the interpreter to do it with.

BIN := .venv/bin
ON_BROKERS := tests/services $(wildcard tests/stress/test_quick_*.py)
# What RabbitMQ does to messages: the subset that runs on every version, not on the oldest and
# the newest alone.
ON_EVERY_BROKER := $(addprefix tests/services/test_,broker_admin.py rabbitmq_consuming.py \
	rabbitmq_limits.py rabbitmq_losses.py rabbitmq_moves.py retry_lost_ack.py retry_queues.py run_faults.py \
	topology_declared.py)

.PHONY: run test fast check lint bench stress soak setup clean
MAKEFLAGS += --no-print-directory

run:
	@.ci/setup requirements.txt
	@$(BIN)/python -m handlers.demo

test: setup
	@.ci/broker
	@.ci/broker 4.0 4.3
	@command -v ip >/dev/null || .ci/install iproute2 || true
	@$(MAKE) lint
	@PYTHONHASHSEED=0 $(BIN)/python -m pytest -n auto tests/fast  # workers collect in one order
	@CALLBOARD_SEEDS=$${CALLBOARD_SEEDS:-20000} \
		$(BIN)/python -m pytest tests/simulation tests/processes $(ON_BROKERS)
	@$(BIN)/python -m pytest --rabbitmq 4.3 $(ON_BROKERS)
	@$(BIN)/python -m pytest --rabbitmq 4.0 $(ON_EVERY_BROKER)

fast: setup
	@PYTHONHASHSEED=0 $(BIN)/python -m pytest -n auto tests/fast  # workers collect in one order

check: setup
	@$(MAKE) lint fast
	@$(BIN)/python -m pytest tests/simulation --deselect tests/simulation/test_mutants.py

lint: setup
	@$(BIN)/ruff check --quiet
	@$(BIN)/ruff format --check --quiet
	@$(BIN)/mypy --no-error-summary

bench: setup
	@.ci/broker
	@command -v redis-server >/dev/null || .ci/install redis-server || true
	@$(BIN)/python -m benchmarks

stress: setup
	@.ci/broker
	@test -e /usr/lib/*/faketime/libfaketime.so.1 || .ci/install faketime || true
	@$(BIN)/python -m pytest tests/stress

soak: setup
	@.ci/broker
	@$(BIN)/python -m tests.stress.soak $(or $(MINUTES),20)

setup:
	@.ci/setup tests/requirements.txt

clean:
	@rm -rf .venv .callboard .mypy_cache .ruff_cache .hypothesis build dist *.egg-info
