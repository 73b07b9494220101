"""The Python client of the service, over HTTP or gRPC. It needs neither Ray nor torch."""

from emotivetalk.client.client import Client
from emotivetalk.client.videos import EmotionChange, LivePiece, Video, VideoError, VideoPage

__all__ = ["Client", "EmotionChange", "LivePiece", "Video", "VideoError", "VideoPage"]
