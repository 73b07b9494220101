"""The Python client of the service, over HTTP or gRPC. It needs neither Ray nor torch."""

from actors.client.client import Client
from actors.client.videos import EmotionChange, Video, VideoError, VideoPage

__all__ = ["Client", "EmotionChange", "Video", "VideoError", "VideoPage"]
