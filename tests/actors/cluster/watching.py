"""Record the processes that read an array that deployments exchange: a hook for the workers of a test's cluster."""

import os
from pathlib import Path

FOLDER_ENV = "EMOTIVETALK_TEST_WATCH"


def hook() -> None:
    """Ray calls it in every worker as it starts: deserialising a block or a chunk leaves the process's number."""
    import ray.util

    from emotivetalk.actors.serving.replicas.messages import BlockData, ChunkData

    folder = Path(os.environ[FOLDER_ENV])

    def opened(kind: type):
        def rebuild(fields: dict) -> object:
            (folder / f"{os.getpid()}-{kind.__name__}").touch()
            return kind(**fields)

        return rebuild

    for kind in (BlockData, ChunkData):
        ray.util.register_serializer(kind, serializer=vars, deserializer=opened(kind))
