# make demo | make ablations | make methods | make side-by-side | make camvid | make camvid-frozen | make real | make test | make oldest | make manual | make golden | make browser | make durability | make kills | make cluster | make bench | make gpu | make gpu-wheels
# make demo SEEDS=3, make camvid CAMVID=path, make camvid-frozen [BACKBONE=timm/NAME WEIGHTS=path], make real BEDS=path [BED=cars] [SEEDS=1], make golden BASE=origin/main, make browser [REPORT=path], make durability KILLS=10 POINTS=all, make kills KILLS=10, make bench REFERENCE=path [MODEL=checkpoint] [AT_ONCE=2]
# make gpu [PART="tests floor reference encoders augmentation camvid beds"] [REFERENCE=path] [CAMVID=path] [BEDS=path]
# make check | make docs | make site | make lock

PYTHON ?= python3
VENV   ?= .venv
CORES  ?= all
SEEDS  ?= 1
BASE   ?= HEAD
KILLS  ?= 50
POINTS ?= 300
AT_ONCE ?= 1
GPU_PYTHON ?= 3.12
CAMVID ?= ../shared/camvid
BEDS   ?= ../shared/beds
BED    ?= cars nuclei steel camvid
BACKBONE ?= mobilenet_v2
WEIGHTS ?= ../shared/weights/mobilenet_v2-imagenet.pth

BIN := $(CURDIR)/$(VENV)/bin
SNAKEMAKE := $(BIN)/snakemake --cores $(CORES)
# Before Snakemake reads a configuration, which it runs as a program where that says so.
CHECK := $(BIN)/stpp config check
PYTEST := $(BIN)/python -m pytest --numprocesses auto --maxprocesses 8 --dist worksteal
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check
SEED_LIST = [$(shell seq -s, 0 $$(($(SEEDS) - 1)))]

.PHONY: setup demo ablations methods side-by-side camvid camvid-frozen real test tests oldest manual golden browser durability kills cluster bench gpu gpu-wheels check docs site lock

setup: $(VENV)/ready

# Nothing is installed but files with the recorded hashes; what builds from source is built by the recorded setuptools.
$(VENV)/ready: envs/requirements-dev.txt envs/requirements-build.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) --require-hashes -r envs/requirements-build.txt
	$(INSTALL) --require-hashes --no-build-isolation -r envs/requirements-dev.txt
	$(INSTALL) --no-build-isolation --no-deps -e .
	touch $@

demo: setup  ## the whole pipeline on the embedded demo
	$(SNAKEMAKE) --config 'seeds=$(SEED_LIST)'
	@echo; cat results/demo/table.txt; echo; echo "Look at results/demo/report.html; the other files are in results/demo/"

ablations: setup  ## the paper's ablations on the demo, 3 seeds: about two hours on two CPU cores
	$(CHECK) experiments/ablations-demo.yaml
	$(SNAKEMAKE) --configfile experiments/ablations-demo.yaml
	@echo; cat results/ablations-demo/table.txt; echo
	@echo "The charts are in results/ablations-demo/charts/:"; ls results/ablations-demo/charts/

methods: setup  ## all methods on the demo, with a control for each, 3 seeds: takes hours on two CPU cores
	$(CHECK) experiments/methods-demo.yaml
	$(SNAKEMAKE) --configfile experiments/methods-demo.yaml
	@echo; cat results/methods-demo/table.txt

side-by-side: setup  ## docs/side-by-side.md anew, from what `make methods` has computed
	$(BIN)/python benchmarks/side_by_side.py results/methods-demo

camvid: setup  ## the whole pipeline on CamVid, 1/8 of the labels, on a CPU
	$(CHECK) experiments/camvid-cpu.yaml
	$(SNAKEMAKE) --configfile experiments/camvid-cpu.yaml --config 'seeds=$(SEED_LIST)' \
	    'data={"root": "$(CAMVID)"}' 'network={"weights": "$(WEIGHTS)"}'
	@echo; cat results/camvid-cpu/table.txt; echo; echo "Look at results/camvid-cpu/report.html; the other files are in results/camvid-cpu/"

camvid-frozen: SEEDS = 3
camvid-frozen: NAME = camvid-frozen-$(notdir $(BACKBONE))
camvid-frozen: setup  ## CamVid at full size with a frozen encoder, 3 seeds: minutes on two CPU cores
	$(CHECK) experiments/camvid-frozen.yaml
	$(SNAKEMAKE) --configfile experiments/camvid-frozen.yaml --config 'name=$(NAME)' 'seeds=$(SEED_LIST)' \
	    'data={"root": "$(CAMVID)"}' 'network={"backbone": "$(BACKBONE)", "weights": "$(WEIGHTS)"}'
	@echo; cat results/$(NAME)/table.txt

real: SEEDS = 3
real: $(BED:%=bed-%)  ## whether unlabeled images pay on real photographs: all beds, 3 seeds; takes hours on two CPU cores
	$(BIN)/python benchmarks/beds.py $(BED)

# Where the images of a bed are.
bed-cars: ROOT = $(BEDS)/car-parts
bed-nuclei: ROOT = $(BEDS)/nuclei
bed-steel: ROOT = $(BEDS)/steel
bed-camvid: ROOT = $(CAMVID)
bed-%: setup
	$(CHECK) experiments/beds/$*.yaml
	$(SNAKEMAKE) --configfile experiments/beds/$*.yaml --config 'seeds=$(SEED_LIST)' \
	    'data={"root": "$(ROOT)"}' 'network={"weights": "$(WEIGHTS)"}'

test: setup  ## what is checked before a change lands, but for what takes longer
	$(MAKE) --jobs 2 check tests

tests: setup
	$(PYTEST) -m 'not manual'

OLDEST = $(shell sed -nE 's/^ +"(torch|torchvision|timm)>=([0-9.]+)",/\1==\2.*/p' pyproject.toml)
oldest:  ## the tests with the oldest versions of PyTorch, torchvision and timm that the package allows
	$(PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/python -m pip install --quiet --disable-pip-version-check $(OLDEST) -e .[dev,export,geotiff,tensorboard,slurm]
	$(PYTEST:$(BIN)/python=.venv-oldest/bin/python) -m 'not manual'

manual: setup  ## each command of the documentation as it stands there, and other tests that take long and rarely break
	$(PYTEST) -m manual

golden: setup  ## whether the code as it is computes the same bytes as that of BASE: twice 12 minutes of processor time
	$(BIN)/python tests/support/golden.py --base $(BASE) --cores $(CORES)

REPORT ?= results/demo/report.html
browser: setup  ## open a report in Chromium, check it, and take pictures of it: that of the demo, or REPORT=path
ifeq ($(REPORT),results/demo/report.html)
	$(BIN)/snakemake report --cores $(CORES) --config 'seeds=$(SEED_LIST)'
endif
	$(BIN)/python -m pytest -rs tests/report/test_browser.py --report $(REPORT) --screenshots $(dir $(REPORT))screenshots
	@echo "Pictures of $(REPORT) are in $(dir $(REPORT))screenshots/"

durability: setup  ## kill the workflow at random moments, stop its commands at operations on files, and compare
	$(BIN)/python tests/support/durability.py --kills $(KILLS)
	$(BIN)/python tests/support/faultpoints.py --points $(POINTS)
	$(BIN)/python benchmarks/saving.py

kills: setup  ## kill the training of each method with a step of its own, so many times, and compare
	$(BIN)/python tests/support/kills.py --kills $(KILLS)

cluster: setup  ## run on a real SLURM, started here as root, disturb it, and compare what it ends in
	$(BIN)/python tests/support/cluster.py

bench: setup  ## how near to the hardware's limit; with REFERENCE=checkout of the authors' code, how much faster than it
	$(BIN)/python benchmarks/speed/floor.py
ifdef REFERENCE
	@mkdir -p results
	$(BIN)/python benchmarks/speed --reference $(REFERENCE) --images $(CAMVID)/JPEGImages \
	    --masks $(CAMVID)/SegmentationClass $(if $(MODEL),--weights $(MODEL)) --at-once $(AT_ONCE) --csv results/speed.csv --plot results/speed.png
	$(BIN)/python benchmarks/memory.py
	@echo; echo "The figures are in results/speed.csv and results/speed.png"
endif

# An environment of the project has all that they hold, perhaps for another Python.
WHEELS = $(if $(wildcard $(VENV)/bin/python),,$(wildcard wheels/*.whl))
# Not after `setup`: there may be no network. Without an environment of the project, the machine's own Python runs it.
gpu:  ## on a machine with one GPU: tests, rates and whole trainings, each part in ten minutes; goes on where it stopped
	$(if $(WHEELS),$(PYTHON) -m pip install --quiet --no-index --no-deps --upgrade --target wheels/site $(WHEELS))
	PYTHONPATH=$(CURDIR)$(if $(WHEELS),:$(CURDIR)/wheels/site) $(if $(wildcard $(VENV)/bin/python),$(BIN)/python,$(PYTHON)) benchmarks/gpu $(PART) \
	    --camvid $(CAMVID) --beds $(BEDS) --weights $(WEIGHTS) $(if $(REFERENCE),--reference $(REFERENCE)) $(if $(OUT),--out $(OUT)) \
	    $(if $(LIMIT),--seconds $(LIMIT))

# The versions that the tests run with, for the Python and the system of such a machine.
gpu-wheels: setup  ## fetch what `make gpu` needs on a machine without network that has PyTorch, timm and h5py: into wheels/
	$(BIN)/python -m pip download --no-deps --only-binary=:all: --python-version $(GPU_PYTHON) --implementation cp \
	    $(patsubst %,--platform manylinux_2_%_x86_64,$(shell seq 17 39)) --platform manylinux2014_x86_64 -d wheels \
	    $$($(BIN)/python -m pip freeze | grep -E '^(pydantic|pydantic_core|annotated-types|typing-inspection|typing_extensions|hdf5plugin)==')

check: setup  ## formatting, lint and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile rules
	$(BIN)/mypy
	$(BIN)/snakemake --lint

docs: setup  ## the generated part of the documentation
	$(BIN)/stpp config reference > docs/config.md
	$(BIN)/stpp config schema > docs/config.schema.json
	$(BIN)/stpp config methods > docs/methods.md

site: setup  ## the documentation as a website in site/
	$(BIN)/mkdocs build --quiet --clean
	@echo "The documentation is in site/index.html"

lock: setup  ## pin what is installed now
	$(BIN)/python envs/lock.py
