"""Sends the webhooks of the job store's outbox, by the Standard Webhooks specification.

Delivery is at least once, under the same `webhook-id` each time. Receivers check the signature and ignore duplicates.
"""

from __future__ import annotations

import asyncio
import json
import logging
from datetime import UTC, datetime

import httpx
from standardwebhooks import Webhook

from emotivetalk.actors.errors import ServingError
from emotivetalk.actors.serving.gateway.http.schemas import Video
from emotivetalk.actors.serving.gateway.settings import GatewaySettings, SettingsError
from emotivetalk.actors.serving.intake.fetch import PublicTransport
from emotivetalk.actors.serving.jobs.store import Delivery, JobStore
from emotivetalk.errors import EmotiveTalkError

BATCH = 20
ERROR_LENGTH = 300

log = logging.getLogger(__name__)


class WebhookSender:
    """Sends deliveries that are due. Any number of processes may run one: the store gives each delivery to one at a time.

    Args:
        model: public name of the served model, for the video object in the body.

    Raises:
        SettingsError: the secret for signatures is missing or not base64.
    """

    def __init__(self, jobs: JobStore, settings: GatewaySettings, model: str) -> None:
        secret = settings.secret()
        if secret is None:
            raise SettingsError("webhook_secret_missing", "there is no secret to sign webhooks with", "Set one.")
        try:
            self._signer = Webhook(secret)
        except (ValueError, RuntimeError) as error:
            raise SettingsError(
                "webhook_secret_invalid",
                "the secret for webhooks is not base64 (after whsec_)",
                "Make one with `echo whsec_$(openssl rand -base64 32)`.",
            ) from error
        self._jobs = jobs
        self._settings = settings
        self._model = model

    async def run(self, pause_s: float = 2.0) -> None:
        """Send until cancelled. Failed deliveries, and an unavailable job store, are tried again."""
        while True:
            try:
                sent = await self.send_due()
            except ServingError as error:
                log.warning("webhooks wait: %s", error)
                sent = 0
            if sent == 0:
                await asyncio.sleep(pause_s)

    async def send_due(self) -> int:
        """Send all deliveries that are due, concurrently, and record the outcomes.

        Returns:
            The number of deliveries tried.
        """
        due = await asyncio.to_thread(self._jobs.pending_deliveries, BATCH)
        if due:
            # A new client for each round, because connections would be idle for hours in between.
            transport = PublicTransport(allow_private=self._settings.allow_private_urls)
            async with httpx.AsyncClient(
                transport=transport, timeout=self._settings.webhook_timeout_s, trust_env=False, follow_redirects=False
            ) as client:
                await asyncio.gather(*(self._send(client, delivery) for delivery in due))
        return len(due)

    async def _send(self, client: httpx.AsyncClient, delivery: Delivery) -> None:
        error: str | None = None
        try:
            async with asyncio.timeout(self._settings.webhook_timeout_s):
                # Only the status counts; the answer's body is not read.
                headers, body = self._message(delivery)
                async with client.stream("POST", delivery.url, headers=headers, content=body) as response:
                    if not response.is_success:
                        error = f"answered with status {response.status_code}"
        except TimeoutError:
            error = f"took longer than {self._settings.webhook_timeout_s:g} s"
        except (httpx.HTTPError, httpx.InvalidURL, EmotiveTalkError) as problem:
            error = str(problem) or type(problem).__name__
        fields = {"video_id": delivery.job.job_id, "delivery_id": delivery.delivery_id, "attempt": delivery.attempt}
        if error is None:
            log.info("webhook delivered", extra=fields)
        else:
            log.warning("webhook not delivered: %s", error, extra=fields)
        await asyncio.to_thread(
            self._jobs.record_delivery, delivery, error=None if error is None else error[:ERROR_LENGTH]
        )

    def _message(self, delivery: Delivery) -> tuple[dict[str, str], str]:
        """Return headers and body. The body is the same at each attempt; the timestamp in the headers is not."""
        ended = delivery.job.completed_at or delivery.job.created_at
        body = json.dumps(
            {
                "type": delivery.event,
                "timestamp": datetime.fromtimestamp(ended, UTC).isoformat(),
                "data": Video.of(delivery.job, self._model).model_dump(mode="json"),
            }
        )
        now = datetime.now(UTC)
        headers = {
            "content-type": "application/json",
            "user-agent": "EmotiveTalk",
            "webhook-id": delivery.delivery_id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": self._signer.sign(delivery.delivery_id, now, body),
        }
        return headers, body
