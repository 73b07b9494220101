"""A hook for the workers of a test's cluster that records which processes read the arrays that deployments exchange."""

import os
from pathlib import Path

FOLDER_ENV = "EMOTIVETALK_TEST_ARRAY_READERS"


def hook() -> None:
    """Make each worker write a file named by its process id when it deserialises a block or a chunk. Ray calls this at the worker's start."""
    import ray.util

    from emotivetalk.actors.serving.replicas.messages import BlockData, ChunkData

    folder = Path(os.environ[FOLDER_ENV])

    def recording(kind: type):
        def rebuild(fields: dict) -> object:
            (folder / f"{os.getpid()}-{kind.__name__}").touch()
            return kind(**fields)

        return rebuild

    for kind in (BlockData, ChunkData):
        ray.util.register_serializer(kind, serializer=vars, deserializer=recording(kind))
