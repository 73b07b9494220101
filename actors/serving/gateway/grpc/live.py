"""GenerateLive: audio in and fragments out at the same time, within the limits of a live call."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

from emotivetalk.actors.errors import ServingError
from emotivetalk.actors.serving.gateway.grpc.messages import (
    duration_message,
    invalid,
    read_audio,
    read_live_emotion,
    read_live_header,
)
from emotivetalk.actors.serving.gateway.live_session import LiveBuffer, LiveFragment, LiveLimits, LiveSession
from emotivetalk.actors.serving.gateway.service import Caller
from emotivetalk.errors import InputError
from emotivetalk.limits import say_duration
from emotivetalk.timebase import FRAME_RATE_HZ, SAMPLE_RATE_HZ
from emotivetalk.wire import videos_pb2 as pb

PART_BYTES = 1 << 16
PUSH_SAMPLES = SAMPLE_RATE_HZ // 5  # long chunks are pushed in pieces, so that the buffer overshoots by at most one

Send = Callable[[pb.GenerateLiveResponse], Awaitable[None]]


async def generate(
    session: LiveSession,
    caller: Caller,
    requests: AsyncIterator[pb.GenerateLiveRequest],
    send: Send,
    limits: LiveLimits,
) -> None:
    """Run one call from its header to its status. The session is closed in any case.

    Raises:
        InputError: a message is out of order, out of range, or late; and the errors of the session.
    """
    try:
        first = await _next(requests, limits)
        if first is None or first.WhichOneof("part") != "header":
            raise invalid("header", "is missing; it has to be the first message")
        started = await session.open(caller, read_live_header(first.header, limits))
        await send(
            pb.GenerateLiveResponse(
                started=pb.LiveStarted(
                    id=started.live_id,
                    width=started.width,
                    height=started.height,
                    frame_rate_hz=FRAME_RATE_HZ,
                    init=started.init,
                    max_buffer=duration_message(limits.buffer_s),
                    max_clip=duration_message(limits.clip_s),
                    max_idle=duration_message(limits.idle_s),
                )
            )
        )
        buffer = LiveBuffer(limits)
        feeding = asyncio.create_task(_feed(session, requests, buffer, limits))
        sending = asyncio.create_task(_send_all(session, send, buffer, feeding))
        await _both(feeding, sending)
        num_frames = sending.result()
        completed = pb.LiveCompleted(num_frames=num_frames, duration=duration_message(num_frames / FRAME_RATE_HZ))
        await send(pb.GenerateLiveResponse(completed=completed))
    finally:
        await session.close()


async def _both(*tasks: asyncio.Task) -> None:
    """Wait for both tasks; if one fails or the call is cancelled, cancel both."""
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()


async def _feed(
    session: LiveSession, requests: AsyncIterator[pb.GenerateLiveRequest], buffer: LiveBuffer, limits: LiveLimits
) -> None:
    """Pass the client's messages on until the end of its audio, no faster than it is rendered."""
    while True:
        message = await _next(requests, limits)
        if message is None:
            raise invalid("end_of_audio", "is missing; the audio ended without it")
        match message.WhichOneof("part"):
            case "audio":
                samples = read_audio(message.audio)
                buffer.check(len(samples))
                for start in range(0, len(samples), PUSH_SAMPLES):
                    await buffer.room()
                    piece = samples[start : start + PUSH_SAMPLES]
                    buffer.pushed(len(piece))
                    await session.push_audio(piece)
            case "emotion":
                await session.change_emotion(read_live_emotion(message.emotion))
            case "end_of_audio":
                await session.finish()
                return
            case part:
                raise invalid(part or "part", "cannot come here; after the header come audio, emotions, end_of_audio")


async def _send_all(session: LiveSession, send: Send, buffer: LiveBuffer, feeding: asyncio.Task) -> int:
    """Send the fragments as they are rendered, in parts. Returns the number of frames."""
    num_frames = 0
    async for fragment in session.fragments():
        buffer.rendered(fragment.num_frames)
        for part in _parts(fragment):
            await send(pb.GenerateLiveResponse(fragment=part))
        num_frames += fragment.num_frames
    if not feeding.done():
        raise ServingError(
            "live_ended", "the rendering ended before the audio", "Start another call with the remaining audio."
        )
    return num_frames


def _parts(fragment: LiveFragment) -> list[pb.LiveFragment]:
    starts = range(0, max(len(fragment.data), 1), PART_BYTES)
    return [
        pb.LiveFragment(
            index=fragment.index,
            start_frame=fragment.start_frame,
            num_frames=fragment.num_frames,
            data=fragment.data[start : start + PART_BYTES],
            is_last_part=start == starts[-1],
            lag=duration_message(fragment.lag_s),
            num_dropped_frames=fragment.num_dropped_frames,
            num_steps=fragment.num_steps,
        )
        for start in starts
    ]


async def _next(requests: AsyncIterator[pb.GenerateLiveRequest], limits: LiveLimits) -> pb.GenerateLiveRequest | None:
    """Return the next message; None at the end.

    Raises:
        InputError: no message came for too long.
    """
    try:
        async with asyncio.timeout(limits.idle_s):
            return await anext(requests, None)
    except TimeoutError as error:
        raise InputError(
            "live_idle", f"no message came for {say_duration(limits.idle_s)}", "Send silence while nobody speaks."
        ) from error
