"""Secrets that are kept to be read again are unreadable without SECRET_KEY, and survive its change."""

from __future__ import annotations

from typing import Any

import pytest

from webapp.secrets import Unreadable, reseal, seal, unseal


def test_a_secret_comes_back_and_is_never_kept_as_it_is() -> None:
    sealed = seal("whsec_äöü")
    assert unseal(sealed) == "whsec_äöü"
    assert "whsec" not in sealed and seal("whsec_äöü") != sealed


def test_another_key_reads_nothing_and_neither_does_anybody_who_has_changed_a_letter(settings: Any) -> None:
    sealed = seal("hush")
    with pytest.raises(Unreadable):
        unseal(sealed[:-10] + ("A" if sealed[-10] != "A" else "B") + sealed[-9:])
    settings.SECRET_KEY = "another"
    with pytest.raises(Unreadable, match="SECRET_KEY_FALLBACKS"):
        unseal(sealed)
    with pytest.raises(Unreadable):
        reseal(sealed)


def test_the_key_is_changed_without_losing_anything(settings: Any) -> None:
    old, sealed = settings.SECRET_KEY, seal("hush")
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "new", [old]
    assert unseal(sealed) == "hush"
    moved = reseal(sealed)
    settings.SECRET_KEY_FALLBACKS = []
    assert unseal(moved) == "hush"


def test_the_key_is_not_that_which_signs_sessions(settings: Any) -> None:
    import base64

    from cryptography.fernet import Fernet, InvalidToken

    plain = base64.urlsafe_b64encode(settings.SECRET_KEY.encode()[:32].ljust(32, b"0"))
    with pytest.raises(InvalidToken):
        Fernet(plain).decrypt(seal("hush").encode())
