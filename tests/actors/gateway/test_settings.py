"""Tokens, limits per caller, and which peers count as local."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from pydantic import ValidationError

from emotivetalk.actors.serving.gateway.rate_limit import TokenBucket
from emotivetalk.actors.serving.gateway.service import is_loopback
from emotivetalk.actors.serving.gateway.settings import CallerLimits, GatewaySettings, SettingsError, parse_tokens

TOKEN = "a-token-of-some-length"


def test_tokens_from_a_file_or_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = hashlib.sha256(b"another-long-token").hexdigest()
    text = f"# callers\n\nweb-shop : {TOKEN}\nphone: sha256:{digest}\n"
    (tmp_path / "tokens").write_text(text)
    monkeypatch.setenv("EMOTIVETALK_TOKENS", text.replace("phone", "tablet"))
    from_file, from_environment = GatewaySettings(tokens_file=tmp_path / "tokens"), GatewaySettings()
    for settings, second in [(from_file, "phone"), (from_environment, "tablet")]:
        assert settings.token_name(TOKEN) == "web-shop"
        assert settings.token_name("another-long-token") == second
        for wrong in (digest, f"sha256:{digest}", "", TOKEN[:-1], TOKEN + " ", "\udcff"):
            assert settings.token_name(wrong) is None
    assert TOKEN not in repr(from_file) + repr(from_file.tokens)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no colon here", "line 1 of the tokens"),
        (f"a b: {TOKEN}", "line 1 of the tokens"),
        (f"a: {TOKEN}\na: {TOKEN}x", "given twice"),
        ("a: short", "5 characters"),
        ("a: sha256:abc", "64 hexadecimal digits"),
    ],
)
def test_malformed_tokens_are_refused(text: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message) as caught:
        parse_tokens(text)
    assert TOKEN not in str(caught.value)


def test_settings_that_admit_no_caller_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EMOTIVETALK_TOKENS", raising=False)
    with pytest.raises(SettingsError, match="no caller could be admitted"):
        _ = GatewaySettings().tokens
    assert GatewaySettings(allow_anonymous=True).tokens == ()
    with pytest.raises(SettingsError, match="cannot be read"):
        _ = GatewaySettings(tokens_file=tmp_path / "none").tokens
    with pytest.raises(SettingsError, match="limits for bob"):
        _ = GatewaySettings(allow_anonymous=True, limits_by_name={"bob": CallerLimits()}).tokens


def test_limits_by_name_override_the_default() -> None:
    settings = GatewaySettings(limits_by_name={"bob": CallerLimits(max_upload_mb=1, max_audio_s=60)})
    assert settings.limits_of("bob").max_upload_bytes == 1_000_000
    assert settings.limits_of("eve") == CallerLimits()
    assert settings.media_limits("bob").audio_s == 60 and settings.media_limits("bob").image_bytes == 1_000_000
    for wrong in ({"max_upload_mb": 0}, {"requests_per_hour": 1}, {"max_audio_s": float("inf")}):
        with pytest.raises(ValidationError):
            CallerLimits.model_validate(wrong)


def test_the_token_bucket_refills(monkeypatch: pytest.MonkeyPatch) -> None:
    from emotivetalk.actors.errors import RateLimitedError

    now = [0.0]
    monkeypatch.setattr("emotivetalk.actors.serving.gateway.rate_limit.time.monotonic", lambda: now[0])
    bucket = TokenBucket(60)
    for _ in range(60):
        bucket.take()
    with pytest.raises(RateLimitedError) as caught:
        bucket.take()
    assert caught.value.retry_after_s == pytest.approx(1)
    now[0] = 2.0
    for _ in range(2):
        bucket.take()
    with pytest.raises(RateLimitedError):
        bucket.take()


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"])
def test_loopback_peers(peer: str) -> None:
    assert is_loopback(peer)


@pytest.mark.parametrize("peer", ["10.0.0.1", "::ffff:10.0.0.1", "fe80::1", "localhost", "", None])
def test_other_peers_are_not_loopback(peer: str | None) -> None:
    assert not is_loopback(peer)
