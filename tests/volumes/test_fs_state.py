# SPDX-License-Identifier: Apache-2.0
"""What `probe` says of images that mkfs made, and that were dirtied by their own tools or by hand."""

from __future__ import annotations

import errno
import random
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from support import filesystems as make

import swd
from swd import errors
from swd.driver import filesystems
from swd.volumes.filesystems import fat, probe
from swd.volumes.filesystems.record import FileSystem

pytestmark = pytest.mark.mkfs

MAKERS: dict[str, Callable[[Path], Path]] = {
    "ext2": lambda path: make.ext(path, "-L", "label", kind="ext2"),
    "ext3": lambda path: make.ext(path, "-L", "label", kind="ext3"),
    "ext4": lambda path: make.ext(path, "-L", "label"),
    "xfs": lambda path: make.xfs(path, "-L", "label"),
    "ntfs": make.ntfs,
    "fat12": lambda path: make.fat(path, 12),
    "fat16": lambda path: make.fat(path, 16),
    "fat32": lambda path: make.fat(path, 32),
}


def look(path: Path) -> FileSystem:
    found = filesystems.check(str(path))
    assert found is not None
    return found


@pytest.mark.parametrize("kind", MAKERS)
def test_a_new_file_system_is_known_and_clean(tmp_path: Path, kind: str) -> None:
    path = MAKERS[kind](tmp_path / "image")
    found = look(path)
    assert (found.kind, found.dirty, found.unsupported) == (kind, "", "")
    assert found.label in ("label", "windows", "STICK")
    assert 0.7 * path.stat().st_size < found.size_bytes <= path.stat().st_size
    said = make.run("blkid", "-p", "-o", "value", "-s", "UUID", path).stdout.decode().strip()
    assert found.uuid.lower() == said.lower()


def test_free_space_is_what_the_tools_say(tmp_path: Path) -> None:
    ext = make.ext(tmp_path / "ext")
    said = make.run("dumpe2fs", "-h", ext).stdout.decode()
    free, size = (
        int(next(line for line in said.splitlines() if line.startswith(word)).split()[-1])
        for word in ("Free blocks", "Block size")
    )
    assert look(ext).free_bytes == free * size
    for bits in (12, 16, 32):
        image = make.fat(tmp_path / f"fat{bits}", bits)
        make.run("mcopy", "-i", image, make.blank(tmp_path / "data", 1), "::/data")
        said = (
            make.run("minfo", "-i", image, "::").stdout.decode() + make.run("mdir", "-i", image, "::").stdout.decode()
        )
        mdir = int("".join(said.splitlines()[-2].split("bytes free")[0].split()))
        with swd.open(str(image)) as disk:
            assert fat.free_bytes(disk) == mdir


def test_nothing_and_strangers(tmp_path: Path) -> None:
    assert filesystems.check(str(make.blank(tmp_path / "zeros", 1))) is None
    tiny = tmp_path / "tiny"
    tiny.write_bytes(bytes(512))
    assert filesystems.check(str(tiny)) is None
    exfat = make.patched(make.blank(tmp_path / "exfat", 1), (3, b"EXFAT   "))
    assert look(exfat).unsupported
    btrfs = make.patched(make.blank(tmp_path / "btrfs", 1), (65536 + 64, b"_BHRfS_M"), (65536 + 299, b"pool\0"))
    assert (look(btrfs).kind, look(btrfs).label) == ("btrfs", "pool")
    with swd.open(str(btrfs)) as disk, pytest.raises(errors.Unsupported, match="btrfs is not read") as caught:
        probe.demand(disk, "DEV")
    assert caught.value.errno == errno.EOPNOTSUPP


def ext_state(number: int) -> Callable[[Path], None]:
    return lambda path: void(make.run("debugfs", "-w", "-R", f"ssv state {number}", path))


def ext_feature(name: str) -> Callable[[Path], None]:
    return lambda path: void(make.run("debugfs", "-w", "-R", f"feature {name}", path))


def void(_anything: object) -> None:
    return None


def flip(offset: int, mask: int) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        with path.open("r+b") as file:
            file.seek(offset)
            byte = file.read(1)[0]
            file.seek(offset)
            file.write(bytes([byte ^ mask]))

    return change


def fat_entry(byte: int, mask: int) -> Callable[[Path], None]:
    """A change of the table's first entries, which hold no clusters but flags."""

    def change(path: Path) -> None:
        (reserved,) = struct.unpack_from("<H", path.read_bytes()[:512], 14)
        flip(512 * reserved + byte, mask)(path)

    return change


def ntfs_record(path: Path, number: int) -> int:
    """The byte at which a record of the MFT begins."""
    raw = path.read_bytes()[:512]
    return struct.unpack_from("<Q", raw, 48)[0] * 4096 + number * 1024  # type: ignore[no-any-return]


def ntfs_dirty(path: Path) -> None:
    """The flags of $Volume, in its VOLUME_INFORMATION (type 70h)."""
    start = ntfs_record(path, 3)
    record = path.read_bytes()[start : start + 1024]
    at = record.index(b"\x70\0\0\0", 56)
    value = at + struct.unpack_from("<H", record, at + 20)[0]
    flip(start + value + 10, 1)(path)


def ntfs_journal(path: Path) -> None:
    """A restart page as Windows leaves it while the volume is mounted."""
    raw = path.read_bytes()
    start = ntfs_record(path, 2)
    at = start + raw[start : start + 1024].index(b"\x80\0\0\0", 56)
    runs = at + struct.unpack_from("<H", raw, at + 32)[0]
    sizes = raw[runs]
    where = int.from_bytes(raw[runs + 1 + (sizes & 15) : runs + 1 + (sizes & 15) + (sizes >> 4)], "little") * 4096
    page = bytearray(4096)
    struct.pack_into("<4sHHQIIHHH", page, 0, b"RSTR", 30, 9, 0, 4096, 4096, 48, 1, 1)
    struct.pack_into("<QHHHH", page, 48, 77, 1, 0xFFFF, 0, 0)  # a client in use, and not marked clean
    page[30:32] = b"\x05\0"
    for sector in range(1, 9):
        page[sector * 512 - 2 : sector * 512] = b"\x05\0"
    make.patched(path, (where, bytes(page) * 2))


DIRT: dict[str, tuple[str, Callable[[Path], None], str]] = {
    "ext4 mounted": ("ext4", ext_feature("needs_recovery"), "needs_recovery"),
    "ext4 errors": ("ext4", ext_state(3), "errors"),
    "ext2 mounted": ("ext2", ext_state(0), "unmounted"),
    "fat12 mounted": ("fat12", flip(37, 1), "mounted"),
    "fat16 byte": ("fat16", flip(37, 1), "mounted"),
    "fat16 table": ("fat16", fat_entry(3, 0x80), "mounted"),
    "fat32 table": ("fat32", fat_entry(7, 0x08), "mounted"),
    "fat32 errors": ("fat32", fat_entry(7, 0x04), "errors"),
    "ntfs flag": ("ntfs", ntfs_dirty, "dirty flag"),
    "ntfs journal": ("ntfs", ntfs_journal, "journal must be replayed"),
}  # fmt: skip


@pytest.mark.parametrize("name", DIRT)
def test_what_is_not_clean_is_refused_with_the_next_step(tmp_path: Path, name: str) -> None:
    kind, spoil, words = DIRT[name]
    path = MAKERS[kind](tmp_path / "image")
    before = look(path)
    spoil(path)
    assert words in look(path).dirty
    assert look(path).mark != before.mark
    with swd.open(str(path)) as disk:
        with pytest.raises(errors.DeviceBusy, match=r"not clean(.|\n)*--dirty") as caught:
            probe.demand(disk, "DEV")
        assert caught.value.errno == errno.EBUSY
        assert probe.demand(disk, "DEV", dirty=True).dirty


@pytest.mark.parametrize(("byte", "value"), [(9, 0x01), (8, 0x69), (-512 + 43, 2), (-512 + 7, 2)])
def test_an_xfs_log_that_ends_in_anything_but_an_unmount_is_dirty(tmp_path: Path, byte: int, value: int) -> None:
    """The one record of a new log, with another flag, another client, more operations, of another round."""
    path = make.xfs(tmp_path / "image")
    with path.open("rb") as file:
        raw = file.read(512)
        start, bits = int.from_bytes(raw[48:56], "big"), raw[124]
        log = ((start >> bits) * int.from_bytes(raw[84:88], "big") + (start & (1 << bits) - 1)) * 4096
        file.seek(log)
        header = file.read(1024)
    assert header[:4] == bytes.fromhex("feedbabe")
    assert header[512 + 8 : 512 + 10] == b"\xaa\x20"
    assert look(path).dirty == ""
    make.patched(path, (log + 512 + byte, bytes([value])))
    assert "log must be replayed" in look(path).dirty


def test_an_xfs_log_that_a_crash_left_is_dirty(tmp_path: Path) -> None:
    """Made by the kernel: files written, then the file system was shut down under them (xfs_io -x -c shutdown)."""
    path = make.unpacked("xfs-dirty-log.img", tmp_path)
    assert "log must be replayed" in look(path).dirty
    make.run("xfs_repair", "-L", path)
    assert look(path).dirty == ""


@pytest.mark.parametrize(
    "feature", ["inline_data", "mmp", "encrypt", "casefold", "large_dir", "fast_commit", "stable_inodes"]
)
def test_an_ext4_feature_that_is_not_read_right_refuses(tmp_path: Path, feature: str) -> None:
    found = look(make.ext(tmp_path / "image", "-O", feature))
    assert feature in found.unsupported


@pytest.mark.parametrize(
    "feature", ["ea_inode", "metadata_csum_seed", "bigalloc", "quota,project", "verity", "^filetype"]
)
def test_an_ext4_feature_that_is_said_to_be_read_is(tmp_path: Path, feature: str) -> None:
    image = make.ext(tmp_path / "image", "-O", feature)
    assert look(image).unsupported == ""
    with filesystems.opened(str(image)) as volume:
        assert [entry.name for entry in volume.list(volume.root())] == [b"lost+found"]


def test_an_unknown_feature_refuses(tmp_path: Path) -> None:
    ext = make.ext(tmp_path / "ext", "-O", "^metadata_csum")
    flip(1024 + 96 + 3, 0x40)(ext)
    assert look(ext).unsupported == "feature 0x40000000"


def test_a_superblock_of_a_longer_disk_refuses(tmp_path: Path) -> None:
    for kind, maker in MAKERS.items():
        path = maker(tmp_path / kind)
        with path.open("r+b") as file:
            file.truncate(path.stat().st_size // 2)
        with swd.open(str(path)) as disk, pytest.raises(errors.SwdError, match=r"claims|the disk ends") as caught:
            probe.demand(disk, "DEV")
        assert caught.value.errno in (errno.EOPNOTSUPP, errno.EIO)


def test_a_wrong_checksum_is_damage(tmp_path: Path) -> None:
    for path, offset in ((make.ext(tmp_path / "ext"), 1024 + 120), (make.xfs(tmp_path / "xfs"), 110)):
        flip(offset, 1)(path)
        with pytest.raises(errors.FileSystemError, match="checksum"):
            filesystems.check(str(path))


def test_an_xfs_of_lies_about_its_log_and_its_free_space(tmp_path: Path) -> None:
    """A log of more than there is would leave a size below zero; there is not more free space than space."""
    path = make.xfs(tmp_path / "image")
    honest = look(path)
    make.patched(path, (0, xfs_superblock(path, 144, b"\0\0\xff\xff")))
    assert look(path).free_bytes == honest.size_bytes
    make.patched(path, (0, xfs_superblock(path, 96, b"\x7f" * 4)))
    with swd.open(str(path)) as disk, pytest.raises(errors.FileSystemError, match="makes no sense"):
        probe.probe(disk)


def xfs_superblock(path: Path, field: int, value: bytes) -> bytes:
    """With another value in a field, and the checksum that goes with it."""
    raw = bytearray(path.read_bytes()[:512])
    raw[field : field + len(value)] = value
    raw[224:228] = swd.crc32c(bytes(raw[:224]) + bytes(4) + bytes(raw[228:])).to_bytes(4, "little")
    return bytes(raw)


def test_an_ext_of_no_blocks_makes_no_sense(tmp_path: Path) -> None:
    path = make.ext(tmp_path / "image", kind="ext2")
    make.patched(path, (1024 + 4, bytes(4)))
    with swd.open(str(path)) as disk, pytest.raises(errors.FileSystemError, match="makes no sense"):
        probe.probe(disk)


def test_two_superblocks_are_an_error(tmp_path: Path) -> None:
    path = make.ext(tmp_path / "both", mebibytes=300)
    make.patched(path, (0, make.xfs(tmp_path / "xfs").read_bytes()[:512]))
    with pytest.raises(errors.FileSystemError, match=r"ext4 and xfs|xfs and ext4"):
        filesystems.check(str(path))


@pytest.mark.parametrize("kind", ["ext4", "xfs", "ntfs", "fat12", "fat32"])
def test_mutated_superblocks_are_judged(tmp_path: Path, kind: str) -> None:
    """No exception but SwdError, no read outside of the disk: `Look` and the disk itself see to the latter."""
    path = MAKERS[kind](tmp_path / "image")
    with path.open("rb") as file:
        start = file.read(1 << 20)
    size, chance = path.stat().st_size, random.Random(kind)
    for _ in range(300):
        disk = Mutated(path, size, mutation(start, chance))
        try:
            probe.probe(disk)
        except errors.SwdError:
            pass


def mutation(start: bytes, chance: random.Random) -> bytes:
    copy = bytearray(start[:8192])
    for _ in range(chance.randint(1, 8)):
        copy[chance.choice((chance.randrange(512), 1024 + chance.randrange(512)))] = chance.choice(
            (0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256))
        )
    if chance.random() < 0.5 and copy[1080:1082] == b"\x53\xef":  # half of them with a right checksum
        from swd import crc32c

        copy[2044:2048] = (crc32c(bytes(copy[1024:2044])) ^ 0xFFFFFFFF).to_bytes(4, "little")
    if chance.random() < 0.5 and copy[:4] == b"XFSB":
        from swd import crc32c

        copy[224:228] = crc32c(bytes(copy[:224]) + bytes(4) + bytes(copy[228:512])).to_bytes(4, "little")
    return bytes(copy)


class Mutated:
    """An image with another start; asserts that nobody asks for what it does not have."""

    def __init__(self, path: Path, size: int, start: bytes) -> None:
        self.size, self._start, self._path = size, start, path

    def pread(self, length: int, offset: int) -> bytes:
        assert offset >= 0
        assert 0 <= length <= 4 << 20
        assert offset + length <= self.size
        with self._path.open("rb") as file:
            file.seek(offset)
            data = bytearray(file.read(length))
        overlap = self._start[offset : offset + length]
        data[: len(overlap)] = overlap
        return bytes(data)
