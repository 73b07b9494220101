"""Settings of the gateway: access, limits of callers, and uploads."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from emotivetalk.errors import EmotiveTalkError
from emotivetalk.limits import Limits

TOKENS_ENV = "EMOTIVETALK_TOKENS"
WEBHOOK_SECRET_ENV = "EMOTIVETALK_WEBHOOK_SECRET"
MIN_TOKEN_LENGTH = 16
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]


class SettingsError(EmotiveTalkError):
    """The operator's configuration is invalid; found when the service starts, never by a caller."""


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class CallerLimits(_Settings):
    """Limits of one token.

    Attributes:
        max_upload_mb: size of one request, all files together, in millions of bytes.
        requests_per_minute: requests of any kind except those of a player (HLS); counted by each gateway.
        max_concurrent_jobs: unfinished jobs at the same time.
        max_live_calls: live calls at the same time; counted by each gateway, whose `live.max_calls` all callers share.
        max_batches: unfinished batches at the same time. Their rows do not count as `max_concurrent_jobs`.
        max_stored_mb: size of all files uploaded to `/v1/files`, in millions of bytes.
        max_audio_s: length of the speech, seconds.
        priority: jobs of higher priority are claimed first.
    """

    max_upload_mb: Count = 200
    requests_per_minute: Count = 600
    max_concurrent_jobs: Count = 8
    max_live_calls: Count = 2
    max_batches: Count = 10
    max_stored_mb: Count = 5000
    max_audio_s: Seconds = 7200.0
    priority: int = 0

    @property
    def max_upload_bytes(self) -> int:
        return self.max_upload_mb * 1_000_000


class BatchSettings(_Settings):
    """Settings of `/v1/files` and `/v1/batches`.

    Attributes:
        max_rows: rows of a manifest.
        rows_ahead: videos of a batch that are queued or in progress at the same time.
        rows_preparing: rows of a batch whose inputs a gateway checks at the same time. Keep it below `max_preparing`, so
            that single videos find a process free.
        poll_s: interval at which running batches are looked at.
        file_retention_s: time that an uploaded file is kept if the upload does not say.
    """

    max_rows: Count = 50_000
    rows_ahead: Count = 16
    rows_preparing: Count = 1
    poll_s: Seconds = 1.0
    file_retention_s: Seconds = 30 * 86_400.0


@dataclass(frozen=True)
class Token:
    """The hash of a bearer token, and the name under which its jobs are kept."""

    name: str
    sha256: bytes


class GatewaySettings(_Settings):
    """Settings of HTTP and gRPC.

    Attributes:
        tokens_file: file with lines of `name: token` or `name: sha256:<hex>`; `#` starts a comment. None reads the same
            lines from the environment variable EMOTIVETALK_TOKENS.
        allow_anonymous: admit callers without a token, from this machine only.
        limits: limits of anonymous callers and of every token that is not in `limits_by_name`.
        max_queued: queued jobs of all callers; more are refused.
        max_preparing: processes of each gateway that check inputs at the same time.
        idempotency_s: time that an Idempotency-Key is remembered.
        upload_folder: folder for uploads while they are checked; None is the system's temporary folder.
        upload_timeout_s: limit on the time from the first to the last byte of a request.
        prepare_timeout_s: limit on the time to check and normalise the inputs of one request.
        max_body_mb: size of a JSON body, or of all text fields of a form, which are held in memory.
        model_aliases: further names of the served model, such as those that a client's library sends by itself.
        allow_url_inputs: accept portrait, speech and emotion by URL.
        allow_private_urls: let URLs and webhooks lead to private addresses. For tests.
        webhook_secret: secret that signs webhooks ("whsec_..."). None reads the environment variable
            EMOTIVETALK_WEBHOOK_SECRET; without either, webhooks are refused.
        webhook_timeout_s: limit on one delivery.
        heartbeat_s: interval of the comments that keep a silent event stream open.
        poll_s: interval at which streams read the job store.
        playlist_wait_s: time that a playlist waits for the first segment; it is then sent without segments.
        hls_target_s: upper bound on a segment's length, which HLS players need before the first segment.
        open_metrics: serve `/metrics` without a token.
        batches: files and batches.
    """

    tokens_file: Path | None = None
    allow_anonymous: bool = False
    limits: CallerLimits = CallerLimits()
    limits_by_name: Mapping[str, CallerLimits] = {}
    max_queued: Count = 1000
    max_preparing: Count = 2
    idempotency_s: Seconds = 86_400.0
    upload_folder: Path | None = None
    upload_timeout_s: Seconds = 600.0
    prepare_timeout_s: Seconds = 120.0
    max_body_mb: Count = 32
    model_aliases: tuple[str, ...] = ()
    allow_url_inputs: bool = True
    allow_private_urls: bool = False
    webhook_secret: SecretStr | None = None
    webhook_timeout_s: Annotated[float, Field(gt=0, le=30)] = 15.0  # well below the lease of a delivery
    heartbeat_s: Seconds = 15.0
    poll_s: Seconds = 0.2
    playlist_wait_s: Seconds = 5.0
    hls_target_s: Seconds = 20.0
    open_metrics: bool = False
    batches: BatchSettings = BatchSettings()

    def limits_of(self, name: str) -> CallerLimits:
        """Return the limits of the token with this name ("" for anonymous callers)."""
        return self.limits_by_name.get(name, self.limits)

    def media_limits(self, name: str) -> Limits:
        """Return the limits on a caller's media: those of its token, and the defaults for everything else."""
        limits = self.limits_of(name)
        return Limits(
            audio_s=limits.max_audio_s,
            image_bytes=min(Limits().image_bytes, limits.max_upload_bytes),
            media_bytes=limits.max_upload_bytes,
        )

    @cached_property
    def tokens(self) -> tuple[Token, ...]:
        """Read the tokens.

        Raises:
            SettingsError: the file cannot be read, a line is malformed, or no caller could be admitted.
        """
        if self.tokens_file is not None:
            try:
                text = self.tokens_file.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise SettingsError(
                    "tokens_unreadable",
                    f"the tokens file {str(self.tokens_file)!r} cannot be read ({error})",
                    "Check its path and permissions.",
                ) from error
        else:
            text = os.environ.get(TOKENS_ENV, "")
        tokens = parse_tokens(text)
        if not tokens and not self.allow_anonymous:
            raise SettingsError(
                "tokens_missing",
                "there are no tokens and anonymous callers are not allowed, so no caller could be admitted",
                f"Set tokens_file or {TOKENS_ENV}, or allow_anonymous on a machine of your own.",
            )
        unknown = sorted(set(self.limits_by_name) - {token.name for token in tokens})
        if unknown:
            raise SettingsError(
                "tokens_unknown",
                f"limits_by_name has limits for {', '.join(unknown)}, which are no tokens",
                "Correct the names.",
            )
        return tokens

    def secret(self) -> str | None:
        """Return the secret that signs webhooks; None disables them."""
        if self.webhook_secret is not None:
            return self.webhook_secret.get_secret_value() or None
        return os.environ.get(WEBHOOK_SECRET_ENV) or None

    def token_name(self, secret: str) -> str | None:
        """Return the name of the presented token, or None, in constant time."""
        presented = hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()
        found = None
        for token in self.tokens:
            if hmac.compare_digest(presented, token.sha256):
                found = token.name
        return found


def parse_tokens(text: str) -> tuple[Token, ...]:
    """Parse lines of `name: token` or `name: sha256:<64 hex digits>`.

    Raises:
        SettingsError: a line is malformed. The message has the line's number and never the token.
    """
    tokens: list[Token] = []
    for number, line in enumerate(text.splitlines(), start=1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        name, colon, secret = (part.strip() for part in line.partition(":"))
        if not colon or not NAME.fullmatch(name):
            raise SettingsError(
                "tokens_invalid",
                f"line {number} of the tokens is not `name: token`",
                "A name has up to 64 letters, digits, dots, dashes and underscores.",
            )
        if name in {token.name for token in tokens}:
            raise SettingsError("tokens_invalid", f"the token {name} is given twice", "Give each a name of its own.")
        if secret.startswith("sha256:"):
            try:
                digest = bytes.fromhex(secret.removeprefix("sha256:"))
            except ValueError:
                digest = b""
            if len(digest) != 32:
                raise SettingsError(
                    "tokens_invalid",
                    f"the hash of token {name} is not 64 hexadecimal digits",
                    "Make it with `printf %s TOKEN | sha256sum`.",
                )
        elif len(secret) < MIN_TOKEN_LENGTH:
            raise SettingsError(
                "tokens_invalid",
                f"token {name} has {len(secret)} characters; the minimum is {MIN_TOKEN_LENGTH}",
                "Make one with `openssl rand -hex 32`.",
            )
        else:
            digest = hashlib.sha256(secret.encode()).digest()
        tokens.append(Token(name, digest))
    return tuple(tokens)
