# One command per task. Each sets up what it needs, also in a fresh clone. `make` alone lists them.
SHELL := /bin/bash
BIN := .venv/bin
EMOTIVETALK := $(BIN)/emotivetalk
DEV := text,train,serve,cluster,prepare,dev
VOICES := libespeak-ng1 flite
DATABASE := postgresql
ON_WORKERS := $(if $(WORKERS),--workers $(WORKERS) --set threads=1)
FROM_PHOTOGRAPHS := $(if $(PHOTOGRAPHS),--photographs $(PHOTOGRAPHS))
STAGES := autoencoder autoencoder_detail lip_sync expression photograph_encoders audio_encoder emotion_sources vaid projector ethd_images ethd

export PYTHON
export OMP_WAIT_POLICY ?= PASSIVE

SLICE := build/corpus/slice

.PHONY: help demo serve test test-cluster test-chaos evaluate-slice lint format bench bench-bulk bench-serving starter clean setup-demo setup-serve setup-dev

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 22

demo: setup-demo  ## generate two videos, of an avatar and of a photograph: build/demo/*.mp4
	@mkdir -p build/demo
	@for demo in "avatar portrait.png angry" "photograph photograph_1.jpg happy"; do \
	    read -r name portrait emotion <<<"$$demo"; \
	    command="$(EMOTIVETALK) generate --portrait examples/$$portrait --audio examples/hello.wav --emotion $$emotion -o build/demo/$$name.mp4 --overwrite"; \
	    echo "$$command"; $$command || exit $$?; \
	done
	@echo "The videos:"; ls -1 $(CURDIR)/build/demo/avatar.mp4 $(CURDIR)/build/demo/photograph.mp4

serve: setup-serve  ## serve videos over HTTP and gRPC on this machine until Ctrl-C
	$(EMOTIVETALK) serve

JOBS ?= 2
SERVING := tests/actors/cluster
TRAINING := $(patsubst %,tests/actors/training/test_%.py,survival driver starter loaders)
NODES := tests/actors/training/test_nodes.py
PREPARING := tests/actors/preparing
CHAOS := tests/actors/chaos
PACKAGING := tests/packaging

test: setup-dev  ## run the tests that need no Ray cluster
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile $(patsubst %,--ignore=%,$(SERVING) $(TRAINING) $(NODES) $(PREPARING) $(CHAOS) $(PACKAGING)) $(ARGS)

test-cluster: setup-dev  ## run the tests on a real Ray cluster (videos, training, raw videos, killed processes), and those of the wheel
	$(BIN)/python -m pytest $(SERVING) $(ARGS)
	$(BIN)/python -m pytest $(TRAINING) $(ARGS)
	$(BIN)/python -m pytest $(NODES) $(ARGS)
	$(BIN)/python -m pytest $(PREPARING) $(ARGS)
	$(BIN)/python -m pytest $(PACKAGING) $(ARGS)

test-chaos: setup-dev  ## kill processes under load at random, EMOTIVETALK_KILLS times (the longest test)
	$(BIN)/python -m pytest $(CHAOS) $(ARGS)

evaluate-slice: setup-dev  ## measure a slice of the shipped checkpoint; fail if a row fell (KEEP=1: store the rows as the reference)
	@test -d $(SLICE) || $(EMOTIVETALK) synthesize -o $(SLICE) --identities 1 --clips 1 --held-out 12
	$(EMOTIVETALK) evaluate --slice --corpus $(SLICE) -o build/evaluation_slice \
	    $(if $(KEEP),--keep,--against) evaluation/reference.json

lint: setup-dev  ## check style, types and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	scripts/link_sources.sh
	$(BIN)/pyright
	cd .venv/files && ../bin/lint-imports --config ../../pyproject.toml

format: setup-dev  ## format the sources
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: setup-dev  ## measure the speed of the shipped checkpoint on this machine
	$(BIN)/python -m benchmarks.generate

bench-bulk: setup-dev  ## measure bulk rendering: the cost of rows, and a table of 200 videos against one process
	$(BIN)/python -m benchmarks.bulk planning
	$(BIN)/python -m benchmarks.bulk throughput

bench-serving: setup-dev  ## measure the overhead of serving over one process, and its scaling
	$(BIN)/python -m benchmarks.serving

starter: setup-dev  ## train the starter (hours); continues a stopped run; WORKERS=2: on Ray; PHOTOGRAPHS=FOLDER: half of the people from portraits
	@test -d build/corpus/starter || $(EMOTIVETALK) synthesize -o build/corpus/starter \
	    --identities 720 --clips 4 --held-out 32 $(FROM_PHOTOGRAPHS)
	@test -d build/corpus/speech || $(EMOTIVETALK) synthesize -o build/corpus/speech \
	    --identities 2560 --clips 4 --held-out 32 --seed 1 $(FROM_PHOTOGRAPHS)
	@test -d build/corpus/seen || $(EMOTIVETALK) synthesize -o build/corpus/seen \
	    --identities 768 --clips 2 --held-out 32 --seed 5 $(FROM_PHOTOGRAPHS)
	@for stage in $(STAGES); do \
	    resume=; \
	    if compgen -G "build/train/$${stage}_starter/training/step_*" >/dev/null; then resume=--resume; fi; \
	    people=; \
	    if [[ -z "$(PHOTOGRAPHS)" && $$stage == photograph_encoders ]]; then continue; fi; \
	    if [[ -n "$(PHOTOGRAPHS)" && $$stage =~ ^(autoencoder|photograph_encoders) ]]; then people="--set stage.photographs=$(PHOTOGRAPHS)"; fi; \
	    echo "$(EMOTIVETALK) train train_configs/$${stage}_starter.yaml $(ON_WORKERS) $$people $$resume"; \
	    $(EMOTIVETALK) train train_configs/$${stage}_starter.yaml $(ON_WORKERS) $$people $$resume || exit $$?; \
	done
	$(EMOTIVETALK) export build/checkpoints/starter -o build/checkpoints/starter_export

clean:  ## remove the environment, caches and the demo; keep corpora and training runs in build/
	rm -rf .venv build/demo build/bench dist .pytest_cache .ruff_cache .hypothesis .import_linter_cache *.egg-info

setup-demo:
	@scripts/setup.sh text

setup-serve:
	@scripts/setup.sh text,serve

setup-dev:
	@scripts/setup.sh $(DEV) $(VOICES) $(DATABASE)
