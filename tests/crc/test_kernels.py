# SPDX-License-Identifier: Apache-2.0
"""Each CRC32C kernel by its name, against crcmod and the vectors of RFC 3720; and how one is chosen."""

from __future__ import annotations

import errno
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator

import crcmod.predefined
import pytest

from swd import _crc32c
from swd._crc32c import copy_by, crc32c, crc32c_by, kernel, kernels, self_test
from swd.errors import InvalidArgument

ORACLE = crcmod.predefined.mkCrcFun("crc-32c")
PICTURE = random.Random(3720).randbytes(200_000)
LENGTHS = [0, 1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 31, 63, 64, 65, 255, 256, 1023, 1024, 1025, 4095, 4096, 4097]
LENGTHS += [8191, 24_576, 65_535, 65_536, 65_537, 2 * 65_536 + 4096 + 300]

# RFC 3720 B.4: the data, and the CRC as the bytes that go over the wire.
VECTORS = [
    (bytes(32), "aa36918a"),
    (b"\xff" * 32, "43aba862"),
    (bytes(range(32)), "4e79dd46"),
    (bytes(range(31, -1, -1)), "5cdb3f11"),
    (
        bytes.fromhex(
            "01c0000000000000 0000000000000000 1400000000000400 0000001400000018 2800000000000000 0200000000000000"
        ),
        "563a96d9",
    ),
]


@pytest.fixture(params=kernels())
def name(request: pytest.FixtureRequest) -> str:
    """A kernel that this processor has."""
    found: str = request.param
    return found


@pytest.mark.parametrize(("data", "wire"), VECTORS)
def test_vectors_of_rfc_3720(name: str, data: bytes, wire: str) -> None:
    assert crc32c_by(name, data).to_bytes(4, "little").hex() == wire


@pytest.mark.parametrize("length", LENGTHS)
def test_every_alignment(name: str, length: int) -> None:
    for start in range(17):
        data = memoryview(PICTURE)[start : start + length]
        assert crc32c_by(name, data) == ORACLE(data.tobytes())


def test_random_lengths_and_alignments(name: str) -> None:
    rng = random.Random()
    seed = rng.randrange(1 << 32)
    rng.seed(seed)
    for _ in range(300):
        start, length = rng.randrange(64), rng.choice([rng.randrange(200), rng.randrange(5000), rng.randrange(100_000)])
        data = PICTURE[start : start + length]
        assert crc32c_by(name, memoryview(PICTURE)[start : start + length]) == ORACLE(data), f"seed {seed}"


def test_continuation(name: str) -> None:
    for cut in (0, 1, 7, 8, 100, 1000, 4095, 30_000, 60_000):
        data = PICTURE[3:60_003]
        assert crc32c_by(name, data[cut:], crc32c_by(name, data[:cut])) == ORACLE(data)


@pytest.mark.parametrize("length", LENGTHS)
def test_the_copying_form(name: str, length: int) -> None:
    for start in (0, 1, 5, 8, 13):
        source = memoryview(PICTURE)[start : start + length]
        before = ORACLE(b"before")
        assert copy_by(name, source, before) == (source.tobytes(), ORACLE(b"before" + source.tobytes()))


def test_its_self_test(name: str) -> None:
    assert self_test(name)


def test_slice8_runs_everywhere() -> None:
    assert "slice8" in kernels()


def test_the_chosen_kernel_does_the_work() -> None:
    assert kernel() in kernels()
    for length in (0, 5, 16_383, 16_384, 100_000):  # with and without the GIL
        assert crc32c(PICTURE[:length]) == ORACLE(PICTURE[:length])
    assert crc32c(PICTURE[50:70_000], crc32c(PICTURE[:50])) == ORACLE(PICTURE[:70_000])
    assert crc32c(bytearray(b"123456789")) == 0xE3069283


def test_the_answers_of_the_self_test_are_right() -> None:
    assert dict(_crc32c.ANSWERS) == {data: int.from_bytes(bytes.fromhex(wire), "little") for data, wire in VECTORS}


@pytest.mark.parametrize("wrong", [3, "text", None])
def test_no_bytes_no_crc(wrong: object) -> None:
    with pytest.raises(TypeError):
        crc32c(wrong)  # type: ignore[arg-type]


def test_an_unknown_kernel_is_refused_and_the_others_named() -> None:
    with pytest.raises(ValueError, match=r"no CRC32C kernel 'md5'; there are .*slice8"):
        crc32c_by("md5", b"")


def imported(wanted: str) -> subprocess.CompletedProcess[str]:
    """`import swd._crc32c` in a process of its own, with SWD_CRC set."""
    program = "from swd import _crc32c; print(_crc32c.kernel(), _crc32c.crc32c(b'123456789'))"
    environment = {**os.environ, "SWD_CRC": wanted}
    return subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60)


def test_swd_crc_chooses(name: str) -> None:
    done = imported(name)
    assert (done.stdout, done.stderr, done.returncode) == (f"{name} {0xE3069283}\n", "", 0)


@pytest.mark.parametrize("wrong", ["md5", "", "SSE42 "])
def test_swd_crc_with_a_wrong_name_says_which_there_are(wrong: str) -> None:
    done = imported(wrong)
    assert done.returncode == 1
    assert done.stdout == ""
    assert f"InvalidArgument: SWD_CRC: no CRC32C kernel {wrong!r}; there are {', '.join(kernels())}" in done.stderr


@pytest.fixture
def choose(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str]]:
    """Choose anew, as on a processor where these kernels fail their self-test."""

    def chosen(*broken: str) -> str:
        monkeypatch.setattr(_crc32c, "self_test", lambda name: name not in broken)
        _crc32c._choose()  # type: ignore[attr-defined]
        return kernel()

    yield chosen
    monkeypatch.undo()
    _crc32c._choose()  # type: ignore[attr-defined]
    assert kernel() == kernels()[0]


def test_a_kernel_that_fails_its_self_test_is_passed_over(choose: Callable[..., str]) -> None:
    assert choose() == kernels()[0]
    for count in range(1, len(kernels())):
        assert choose(*kernels()[:count]) == kernels()[count]
    with pytest.raises(ImportError, match="this build of swd is broken"):
        choose(*kernels())


def test_one_that_is_asked_for_and_fails_is_refused(
    choose: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWD_CRC", "slice8")
    with pytest.raises(InvalidArgument, match="'slice8' failed its self-test") as caught:
        choose("slice8")
    assert caught.value.errno == errno.EINVAL
