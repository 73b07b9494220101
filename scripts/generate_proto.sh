#!/usr/bin/env bash
# Generates emotivetalk/wire/videos_pb2.py, .pyi and videos_pb2_grpc.py from proto/emotivetalk/v1/videos.proto:
#   scripts/generate_proto.sh [folder]
# A folder other than the repository gets the same tree; the tests compare the two. The virtual path makes protoc
# write `from emotivetalk.wire import videos_pb2` though the .proto file lives in the folder of its package.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
out=${1:-.}
mkdir -p "$out"
includes=$(.venv/bin/python -c 'import importlib.resources as r; print(r.files("grpc_tools") / "_proto")')
.venv/bin/python -m grpc_tools.protoc \
    -I emotivetalk/wire=proto/emotivetalk/v1 -I "$includes" \
    --python_out="$out" --pyi_out="$out" --grpc_python_out="$out" \
    emotivetalk/wire/videos.proto
