"""The .proto files follow buf's STANDARD rules and every element has a comment; the generated code is up to date."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor_pb2 import DescriptorProto, EnumDescriptorProto, FileDescriptorProto
from grpc_tools import protoc

ROOT = Path(__file__).parents[3]
PROTOS = ("emotivetalk/v1/videos.proto", "emotivetalk/v1/batches.proto")
PASCAL = re.compile(r"(?:[A-Z][a-z0-9]*)+")
SNAKE = re.compile(r"[a-z][a-z0-9]*(?:_[a-z0-9]+)*")
UPPER_SNAKE = re.compile(r"[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)*")


@pytest.fixture(scope="module", params=PROTOS)
def file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> FileDescriptorProto:
    """The descriptor with its comments. As for buf, the root is proto/."""
    out = tmp_path_factory.mktemp("descriptor") / "set.binpb"
    includes = Path(protoc.__file__).parent / "_proto"
    arguments = ["", f"-I{ROOT / 'proto'}", f"-I{includes}", "--include_source_info", f"--descriptor_set_out={out}"]
    assert protoc.main([*arguments, request.param]) == 0
    files = descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes()).file
    assert [file.name for file in files] == [request.param]
    return files[0]


def messages(file: FileDescriptorProto) -> Iterator[DescriptorProto]:
    waiting = list(file.message_type)
    while waiting:
        message = waiting.pop()
        yield message
        waiting += [nested for nested in message.nested_type if not nested.options.map_entry]


def enums(file: FileDescriptorProto) -> Iterator[EnumDescriptorProto]:
    yield from file.enum_type
    for message in messages(file):
        yield from message.enum_type


def test_package_is_versioned_and_matches_the_folder(file: FileDescriptorProto) -> None:
    assert file.syntax == "proto3"
    assert re.fullmatch(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*\.v[1-9][0-9]*", file.package)
    folder, name = file.name.rsplit("/", 1)
    assert file.package == folder.replace("/", ".")
    assert SNAKE.fullmatch(name.removesuffix(".proto"))
    assert {path.suffix for path in (ROOT / "proto").rglob("*") if path.is_file()} == {".proto"}


def test_imports_are_neither_public_nor_weak_and_all_are_used(file: FileDescriptorProto) -> None:
    assert not file.public_dependency and not file.weak_dependency
    used = {field.type_name for message in messages(file) for field in message.field}
    for dependency in file.dependency:
        name = dependency.rsplit("/", 1)[-1].removesuffix(".proto").capitalize()
        assert f".google.protobuf.{name}" in used, f"{dependency} is imported but not used"


def test_names_follow_bufs_conventions(file: FileDescriptorProto) -> None:
    for message in messages(file):
        assert PASCAL.fullmatch(message.name), message.name
        for field in message.field:
            assert SNAKE.fullmatch(field.name), f"{message.name}.{field.name}"
        for oneof in message.oneof_decl:
            # proto3's `optional` makes a oneof of its own, whose name begins with an underscore.
            assert SNAKE.fullmatch(oneof.name.removeprefix("_")), f"{message.name}.{oneof.name}"
    for service in file.service:
        assert PASCAL.fullmatch(service.name) and service.name.endswith("Service")
        for method in service.method:
            assert PASCAL.fullmatch(method.name)


def test_enums_have_a_zero_value_and_prefixes(file: FileDescriptorProto) -> None:
    assert list(enums(file))
    for enum in enums(file):
        assert PASCAL.fullmatch(enum.name)
        assert not enum.options.allow_alias
        prefix = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", enum.name).upper() + "_"
        assert (enum.value[0].number, enum.value[0].name) == (0, prefix + "UNSPECIFIED")
        for value in enum.value:
            assert UPPER_SNAKE.fullmatch(value.name) and value.name.startswith(prefix), value.name


def test_each_rpc_has_messages_of_its_own(file: FileDescriptorProto) -> None:
    messages: set[str] = set()
    for service in file.service:
        for method in service.method:
            assert method.input_type == f".{file.package}.{method.name}Request"
            assert method.output_type == f".{file.package}.{method.name}Response"
            assert not messages & {method.input_type, method.output_type}
            messages |= {method.input_type, method.output_type}


def paths(file: FileDescriptorProto) -> Iterator[tuple[tuple[int, ...], str]]:
    """Yield each element's path in the source info (field numbers of descriptor.proto), and its name."""

    def of_enum(path: tuple[int, ...], enum: EnumDescriptorProto) -> Iterator[tuple[tuple[int, ...], str]]:
        yield path, enum.name
        for index, value in enumerate(enum.value):
            yield (*path, 2, index), value.name

    def of_message(path: tuple[int, ...], message: DescriptorProto) -> Iterator[tuple[tuple[int, ...], str]]:
        yield path, message.name
        for index, field in enumerate(message.field):
            yield (*path, 2, index), f"{message.name}.{field.name}"
        for index, oneof in enumerate(message.oneof_decl):
            if not oneof.name.startswith("_"):
                yield (*path, 8, index), f"{message.name}.{oneof.name}"
        for index, nested in enumerate(message.nested_type):
            if not nested.options.map_entry:
                yield from of_message((*path, 3, index), nested)
        for index, enum in enumerate(message.enum_type):
            yield from of_enum((*path, 4, index), enum)

    yield (12,), "syntax"
    for index, message in enumerate(file.message_type):
        yield from of_message((4, index), message)
    for index, enum in enumerate(file.enum_type):
        yield from of_enum((5, index), enum)
    for index, service in enumerate(file.service):
        yield (6, index), service.name
        for number, method in enumerate(service.method):
            yield (6, index, 2, number), method.name


def test_every_element_has_a_comment(file: FileDescriptorProto) -> None:
    comments = {tuple(location.path): location.leading_comments.strip() for location in file.source_code_info.location}
    assert [name for path, name in paths(file) if not comments.get(path)] == []
    assert [name for path, name in paths(file) if not comments[path].endswith(".")] == []


def test_generated_code_is_up_to_date(tmp_path: Path) -> None:
    script = ROOT / "scripts" / "generate_proto.sh"
    subprocess.run([script, tmp_path], check=True, capture_output=True, timeout=60)
    generated = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file())
    names = {Path(proto).stem for proto in PROTOS}
    assert {path.name for path in generated} == {
        f"{n}{end}" for n in names for end in ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py")
    }
    for path in generated:
        assert (ROOT / path).read_text() == (tmp_path / path).read_text(), f"{path}: run scripts/generate_proto.sh"


def test_the_generated_code_has_the_package_of_the_proto(file: FileDescriptorProto) -> None:
    from emotivetalk.wire import videos_pb2

    assert videos_pb2.DESCRIPTOR.package == file.package == "emotivetalk.v1"
