"""The Python client of the service, over HTTP or gRPC. It needs neither Ray nor torch."""

from emotivetalk.client.batches import Batch, BatchError, Batches
from emotivetalk.client.client import Client
from emotivetalk.client.videos import EmotionChange, Video, VideoError, VideoPage

__all__ = ["Batch", "BatchError", "Batches", "Client", "EmotionChange", "Video", "VideoError", "VideoPage"]
