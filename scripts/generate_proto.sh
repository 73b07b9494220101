#!/usr/bin/env bash
# Generates emotivetalk/wire/*_pb2.py, .pyi and *_pb2_grpc.py from proto/emotivetalk/v1/*.proto:
#   scripts/generate_proto.sh [folder]
# A test generates into another folder and compares. The virtual path emotivetalk/wire makes protoc
# write `from emotivetalk.wire import videos_pb2`, although the .proto files lie in the folder of their proto package.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
out=${1:-.}
mkdir -p "$out"
includes=$(.venv/bin/python -c 'import importlib.resources as r; print(r.files("grpc_tools") / "_proto")')
.venv/bin/python -m grpc_tools.protoc \
    -I emotivetalk/wire=proto/emotivetalk/v1 -I "$includes" \
    --python_out="$out" --pyi_out="$out" --grpc_python_out="$out" \
    emotivetalk/wire/videos.proto emotivetalk/wire/batches.proto
