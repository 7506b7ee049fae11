# The two commands: `make demo` and `make test`. Everything lives in .venv, .cache and build; nothing is installed elsewhere.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
BUILD := build/dev
JOBS ?= $(shell nproc)
PRESET ?= balanced
PROMPT ?=
SEED ?= 7
STEPS ?= 30
FRAMES ?=
COMFYUI ?=
BENCH ?=
PTXAS := $(CURDIR)/.cache/cuda12/nvidia/cuda_nvcc/bin/ptxas
# Threads that wait leave the core to the other process.
PYTEST = JENGA_CORE_DIR=$(BUILD)/csrc/bindings OMP_WAIT_POLICY=passive $(PY) -m pytest
IN_PROCESSES_OF_THEIR_OWN := tests/host/test_presets_benchmark.py tests/host/test_clip_quality_benchmark.py
export CMAKE_BUILD_PARALLEL_LEVEL := $(JOBS)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

SOURCES := CMakeLists.txt pyproject.toml $(shell find cmake csrc kernels python -type f -not -name '*.pyc')

.PHONY: demo test pytest-in-comfyui pytest-outside setup wheel wheel-windows bare pack release matrix bench format check-tools clean

check-tools:
	@$(PYTHON) scripts/check_tools.py

$(VENV)/.dependencies: requirements-dev.txt scripts/check_tools.py
	@$(PYTHON) scripts/check_tools.py $(if $(TESTS),--tests)
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --upgrade pip
	$(PY) -m pip install --quiet -r requirements-dev.txt
	touch $@

# One build folder for the wheel and the tests, so that no kernel is compiled twice; one wheel, tested as it ships.
# Whatever is there was built with other options than these.
ifneq ($(TESTS)$(ALL_ARCHS)$(CUDA12),)
.PHONY: $(VENV)/.jenga
endif
$(VENV)/.jenga: $(VENV)/.dependencies $(SOURCES)
	@$(PYTHON) scripts/check_tools.py $(if $(TESTS),--tests)
	rm -rf dist build/wheel
	$(if $(CUDA12),test -x "$(PTXAS)" || $(PY) -m pip install --quiet --no-deps --target .cache/cuda12 nvidia-cuda-nvcc-cu12==12.9.86)
	$(PY) -m pip wheel --quiet --no-build-isolation --no-deps . --wheel-dir build/wheel \
	  -C build-dir=$(BUILD) -C cmake.define.JENGA_BUILD_TESTS=$(if $(TESTS),ON,OFF) -C cmake.define.JENGA_BUILD_BINDINGS=$(if $(TESTS),ON,OFF) \
	  -C cmake.define.JENGA_ALL_ARCHS=$(if $(ALL_ARCHS),ON,OFF) -C "cmake.define.JENGA_PTXAS=$(if $(CUDA12),$(PTXAS))"
	$(PY) scripts/tag_wheel.py build/wheel/*.whl dist
	$(PY) -m pip install --quiet --no-deps --force-reinstall dist/*linux*.whl
	touch $@

setup: $(VENV)/.jenga
	@$(PY) -m jenga

wheel: $(VENV)/.jenga
	$(PY) scripts/tag_wheel.py --strict build/wheel/*.whl dist
	@ls -l dist/*.whl

demo: setup
	$(PY) -m demo.run --preset $(PRESET) --seed $(SEED) --steps $(STEPS) $(if $(FRAMES),--frames $(FRAMES)) $(if $(PROMPT),--prompt "$(PROMPT)") $(if $(COMFYUI),--comfyui "$(COMFYUI)")

test:
	$(MAKE) setup TESTS=1
	$(VENV)/bin/ctest --test-dir $(BUILD) --output-on-failure -j $(JOBS)
	$(PY) -m demo.comfyui --oldest
	$(if $(PYTEST_ARGS),$(PYTEST) $(PYTEST_ARGS),$(MAKE) -j 2 pytest-in-comfyui pytest-outside)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PYTHON) scripts/check_wheel.py dist/*linux*.whl
	$(MAKE) pack wheel-windows

# Side by side, each in the order of one process: ComfyUI, torch's compiler and what either keeps are a process's for good.
pytest-in-comfyui:
	$(PYTEST) tests --ignore tests/python $(addprefix --ignore ,$(IN_PROCESSES_OF_THEIR_OWN))

pytest-outside:
	$(PYTEST) tests/python $(IN_PROCESSES_OF_THEIR_OWN)

# Cross-built on Linux; its tests run under wine where there is one.
wheel-windows: $(VENV)/.jenga
	$(PY) -m pip install --quiet -r requirements-windows.txt
	$(PY) -m scripts.windows_wheel dist
	$(PY) -m scripts.wine_tests

# The demo's graph, short, from the wheel, with no compiler on the path.
bare: wheel
	$(PY) -m scripts.check_bare dist/*linux*.whl

# The node pack as ComfyUI's registry takes it.
pack: $(VENV)/.dependencies
	DO_NOT_TRACK=1 $(VENV)/bin/comfy --skip-prompt node validate
	DO_NOT_TRACK=1 $(VENV)/bin/comfy --skip-prompt node pack
	mkdir -p dist && mv node.zip dist/comfyui-jenga-$$($(PY) -m scripts.release version).zip

# URL: the folder on the web where the files will lie. Without it the pack's requirements.txt names no wheel.
release: $(VENV)/.dependencies
	@$(PY) -m scripts.release version
	$(if $(URL),$(PY) -m scripts.release requirements "$(URL)")
	$(MAKE) wheel ALL_ARCHS=1
	$(MAKE) wheel-windows
	$(MAKE) pack
	$(PY) -m scripts.release notes dist

matrix: wheel
	$(PYTHON) scripts/check_wheel.py --matrix dist/*linux*.whl

bench: setup
	$(PY) -m benchmarks $(BENCH)

format: $(VENV)/.dependencies
	$(PY) -m ruff format . && $(PY) -m ruff check --fix .
	git ls-files '*.h' '*.cpp' '*.cu' '*.cuh' | xargs clang-format -i

clean:
	rm -rf build dist demo/output
