"""The HLS playlist of a video, which grows while the video is being made."""

from __future__ import annotations

import math

from emotivetalk.actors.serving.jobs.store import Segment
from emotivetalk.timebase import FRAME_RATE_HZ


def playlist_text(segments: list[Segment], is_complete: bool, target_s: float) -> str:
    """Return an HLS media playlist (RFC 8216) of CMAF fragments. Before the first segment it is valid and has none.

    Args:
        segments: the segments published so far.
        is_complete: True if no segment will follow.
        target_s: upper bound on a segment's length, which players need before the first segment and which may not change.
    """
    longest_s = max((segment.num_frames for segment in segments), default=0) / FRAME_RATE_HZ
    lines = [
        "#EXTM3U",
        "#EXT-X-VERSION:7",
        f"#EXT-X-TARGETDURATION:{math.ceil(max(target_s, longest_s))}",
        "#EXT-X-MEDIA-SEQUENCE:0",
        f"#EXT-X-PLAYLIST-TYPE:{'VOD' if is_complete else 'EVENT'}",
        "#EXT-X-INDEPENDENT-SEGMENTS",
    ]
    if segments:  # init.mp4 is published with the first segment
        lines.append('#EXT-X-MAP:URI="init.mp4"')
    for segment in segments:
        lines += [f"#EXTINF:{segment.num_frames / FRAME_RATE_HZ:.3f},", f"segments/{segment.index}.m4s"]
    if is_complete:
        lines.append("#EXT-X-ENDLIST")
    return "\n".join(lines) + "\n"
