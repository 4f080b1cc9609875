# Everything runs in .venv, which scripts/setup.sh makes from the lock.
PYTHON := .venv/bin/python
STAMP := .venv/.complete

.PHONY: demo demo-sql test serve ionq-emulator check unit loadtest soak chaos fuzz setup lock proto format bench corpus clean

demo: $(STAMP)  ## set up, run the main job on real data, print the result, stop everything
	$(PYTHON) -m cluster.cli demo

demo-sql: $(STAMP)  ## the SQL synthesizer on a database that ships, then on a generated one beside the engines' own plans
	$(PYTHON) -m sql_synthesizer.demo
	$(PYTHON) -m benchmarks.sql_show

test: check  ## set up, lint, types, import rules, all tests
	bash scripts/install_redis.sh
	bash scripts/install_postgres.sh
	$(PYTHON) -m pytest

serve: $(STAMP)  ## the cluster, left running until Ctrl-C
	$(PYTHON) -m cluster.cli serve --config configs/local.yaml

ionq-emulator: $(STAMP)  ## the IonQ emulator on port 8888; its key is in IONQ_EMULATOR_TOKEN
	$(PYTHON) -m quantum_db.ionq.emulator --port 8888

check: $(STAMP)
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy
	.venv/bin/lint-imports

unit: $(STAMP)  ## the tests that need no server and no Ray: seconds
	$(PYTHON) -m pytest tests/unit

chaos: $(STAMP)  ## the long version of the tests that kill and damage: three quarters of an hour
	bash scripts/install_redis.sh
	QQC_CHAOS=long $(PYTHON) -m pytest tests/chaos -s

fuzz: $(STAMP)  ## 10,000 requests and more that are made from OpenAPI: some minutes
	QQC_FUZZ=long $(PYTHON) -m pytest tests/security/test_fuzz.py -s

bench: $(STAMP)  ## the measured comparisons of benchmarks/
	$(PYTHON) -m benchmarks.retrieval
	$(PYTHON) -m benchmarks.quantum
	$(PYTHON) -m benchmarks.states
	$(PYTHON) -m benchmarks.latency
	$(PYTHON) -m benchmarks.serving
	$(PYTHON) -m benchmarks.overload
	$(PYTHON) -m benchmarks.handles
	$(PYTHON) -m benchmarks.jobs
	$(PYTHON) -m benchmarks.access
	$(PYTHON) -m benchmarks.doors
	$(PYTHON) -m benchmarks.ingest
	$(PYTHON) -m benchmarks.scale
	$(PYTHON) -m benchmarks.sql_words
	$(PYTHON) -m benchmarks.sql_joins
	bash scripts/install_postgres.sh
	$(PYTHON) -m benchmarks.sql
	bash scripts/install_redis.sh
	$(PYTHON) -m benchmarks.journal
	$(PYTHON) -m benchmarks.durability --ray
	$(PYTHON) -m benchmarks.server_visibility

soak: $(STAMP)  ## a quarter of an hour under a low load: does anything grow?
	$(PYTHON) -m benchmarks.soak

loadtest: $(STAMP)  ## load on a cluster of its own, with a report: three minutes; OPTIONS="--mix quantum-heavy --shape spike"
	$(PYTHON) -m loadtests.run $(OPTIONS)

format: $(STAMP)
	$(PYTHON) -m ruff check --fix .
	$(PYTHON) -m ruff format .

setup: $(STAMP)

$(STAMP): requirements.lock pyproject.toml scripts/setup.sh
	bash scripts/setup.sh

lock: $(STAMP)  ## choose versions anew
	.venv/bin/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-annotate --no-header \
		--python-version 3.11 --extra dev --output-file requirements.lock pyproject.toml

proto: $(STAMP)  ## make the modules of the gRPC service from serve_app/rpc/quantum_db.proto
	$(PYTHON) -m grpc_tools.protoc --proto_path=. --python_out=. --pyi_out=. --grpc_python_out=. \
		serve_app/rpc/quantum_db.proto

clean:
	rm -rf .venv .data .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
