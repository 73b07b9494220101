"""Marks of tests that need a speech synthesizer on this machine."""

import ctypes.util
import shutil

import pytest

needs_espeak = pytest.mark.skipif(
    ctypes.util.find_library("espeak-ng") is None, reason="needs the Debian package libespeak-ng1"
)
needs_flite = pytest.mark.skipif(shutil.which("flite") is None, reason="needs the Debian package flite")
