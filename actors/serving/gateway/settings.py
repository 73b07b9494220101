"""What the front door allows: who may come in, how much each may ask for, and where uploads wait."""

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
    """The operator's configuration cannot be used; found when the service starts, never by a caller."""


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class CallerLimits(_Settings):
    """How much one token may ask for.

    Attributes:
        max_upload_mb: bytes of one request, all files together, in millions.
        requests_per_minute: of any kind, but for those that a player makes by itself (HLS); counted by each gateway.
        max_concurrent_jobs: queued or in progress at the same time.
        max_live_calls: at the same time; counted by each gateway, whose `live.max_calls` all callers share.
        max_audio_s: length of the speech.
        priority: jobs of a higher one are claimed first.
    """

    max_upload_mb: Count = 200
    requests_per_minute: Count = 600
    max_concurrent_jobs: Count = 8
    max_live_calls: Count = 2
    max_audio_s: Seconds = 7200.0
    priority: int = 0

    @property
    def max_upload_bytes(self) -> int:
        return self.max_upload_mb * 1_000_000


@dataclass(frozen=True)
class Token:
    """A bearer token by its hash, and the name under which its jobs are kept."""

    name: str
    sha256: bytes


class GatewaySettings(_Settings):
    """Of the HTTP and gRPC front doors.

    Attributes:
        tokens_file: lines of `name: token` or `name: sha256:<hex>`; `#` starts a comment. Without it, the same lines
            are read from the environment variable EMOTIVETALK_TOKENS.
        allow_anonymous: callers without a token are let in, but only from this machine.
        limits: of every token that is not in `limits_by_name`, and of anonymous callers.
        max_queued: jobs that wait, of all callers; beyond it new ones are refused.
        max_preparing: requests whose inputs are checked at the same time (each is a process), by each gateway.
        idempotency_s: how long an Idempotency-Key is remembered.
        upload_folder: where uploads wait while they are checked; the system's temporary folder if None.
        upload_timeout_s: from the first to the last byte of a request.
        prepare_timeout_s: for checking and normalising the inputs of one request.
        max_body_mb: a JSON body, or all text fields of a form together: they are held in memory.
        allow_url_inputs: portrait, speech and emotion may be named by URL.
        allow_private_urls: URLs and webhooks may lead to private addresses. For tests.
        webhook_secret: signs webhooks ("whsec_..."); without it the environment variable EMOTIVETALK_WEBHOOK_SECRET
            is read, and without both webhooks are refused.
        webhook_timeout_s: for one delivery.
        heartbeat_s: between comments that keep a silent event stream open.
        poll_s: how often the job store is asked by a stream or an event stream.
        playlist_wait_s: how long a playlist waits for the first segment.
        hls_target_s: an upper bound on a segment's length, as HLS players want to know it before the first one.
        open_metrics: `/metrics` needs no token.
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
    allow_url_inputs: bool = True
    allow_private_urls: bool = False
    webhook_secret: SecretStr | None = None
    webhook_timeout_s: Annotated[float, Field(gt=0, le=30)] = 15.0  # well below the lease of a delivery
    heartbeat_s: Seconds = 15.0
    poll_s: Seconds = 0.2
    playlist_wait_s: Seconds = 20.0
    hls_target_s: Seconds = 20.0
    open_metrics: bool = False

    def limits_of(self, name: str) -> CallerLimits:
        """The limits of the token with this name ("" for anonymous callers)."""
        return self.limits_by_name.get(name, self.limits)

    def media_limits(self, name: str) -> Limits:
        """What the inputs of this caller may be: the upload's limits, and the project's own on everything else."""
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
            SettingsError: the file cannot be read, a line cannot be understood, or nobody could ever come in.
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
                "there are no tokens and anonymous callers are not allowed, so nobody could come in",
                f"Set tokens_file or {TOKENS_ENV}, or allow_anonymous on a machine of your own.",
            )
        unknown = sorted(set(self.limits_by_name) - {token.name for token in tokens})
        if unknown:
            raise SettingsError(
                "tokens_unknown",
                f"limits_by_name has limits for {', '.join(unknown)}, but there are no such tokens",
                "Correct the names.",
            )
        return tokens

    def secret(self) -> str | None:
        """What webhooks are signed with, or None: then there are none."""
        if self.webhook_secret is not None:
            return self.webhook_secret.get_secret_value() or None
        return os.environ.get(WEBHOOK_SECRET_ENV) or None

    def token_name(self, secret: str) -> str | None:
        """The name of the token that was presented, or None. Takes the same time whichever it is."""
        presented = hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()
        found = None
        for token in self.tokens:
            if hmac.compare_digest(presented, token.sha256):
                found = token.name
        return found


def parse_tokens(text: str) -> tuple[Token, ...]:
    """Read lines of `name: token` or `name: sha256:<64 hex digits>`.

    Raises:
        SettingsError: by the line's number; never with the token in it.
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
                f"token {name} has {len(secret)} characters; {MIN_TOKEN_LENGTH} is the least",
                "Make one with `openssl rand -hex 32`.",
            )
        else:
            digest = hashlib.sha256(secret.encode()).digest()
        tokens.append(Token(name, digest))
    return tuple(tokens)
