# SPDX-License-Identifier: Apache-2.0
"""Layouts of hosts and their verdicts, as a table; then the rules' corners, and hostile files."""

from __future__ import annotations

import errno
import json
import os
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from host_image import ATA, SESSION, Host, make

from swd.errors import InvalidArgument
from swd.startup import placement

DEV = "iscsi://192.0.2.10:3260/iqn.2026-01.org.example:db/0"
SWD = "/run/swd/mounts/1"  # where the FUSE file system of a `swdctl mount` is
FUSE = (DEV, SWD, "fuse.swd")
ROOT = ("/dev/sda1", "/", "ext4")
LOOP = {"loop0": f"{SWD}/disk"}
VG = {"dm-0": ("vg-var", ["loop0"])}
UUID = "9a1ce8e7-55d2-4fd8-ae3b-53a8c5a5a1a0"

Found = set[tuple[str, str]]


@dataclass(frozen=True)
class Layout:
    name: str
    host: Host
    found: Found  # (verdict, place)


OK: Found = set()

LAYOUTS = (
    Layout("all local", Host(f"/dev/sda1 / ext4 defaults 0 1\nUUID={UUID} /srv ext4 defaults 0 2\n", [ROOT]), OK),
    Layout("no fstab at all", Host(), OK),
    Layout("data on iscsi", Host(f"/dev/sda1 / ext4 defaults 0 1\n{DEV} /srv/data ext4 _netdev 0 0\n", [ROOT]), OK),
    Layout("root on iscsi", Host(f"{DEV} / ext4 _netdev 0 1\n"), {("refused", "/")}),
    Layout("root by the command line", Host(cmdline=f"ro root={DEV} quiet"), {("refused", "/")}),
    Layout("boot on iscsi", Host(f"{DEV} /boot ext4 ro 0 2\n"), {("refused", "/boot")}),
    Layout("noauto changes nothing", Host(f"{DEV} /boot ext4 noauto 0 2\n"), {("refused", "/boot")}),
    Layout(
        "esp by wwid",
        Host("wwid:naa.60014050000000000000000000000001 /boot/efi vfat umask=077 0 1\n"),
        {("refused", "/boot/efi")},
    ),
    Layout("var by hardware path", Host("255/0/0.0.0.0 /var xfs _netdev 0 0\n"), {("refused", "/var")}),
    Layout("var on a volume of swd", Host("lvm://vg/var /var xfs _netdev 0 0\n"), {("refused", "/var")}),
    Layout("a slash too many", Host("lvm://vg/var //var/ xfs _netdev 0 0\n"), {("refused", "/var")}),
    Layout(
        "var through loop and FUSE",
        Host(mounts=[ROOT, FUSE, ("/dev/loop0", "/var", "ext4")], loops=LOOP),
        {("refused", "/var")},
    ),
    Layout(
        "var through kernel LVM, loop and FUSE",
        Host(
            "/dev/vg/var /var ext4 defaults 0 2\n",
            [ROOT, FUSE, ("/dev/mapper/vg-var", "/var", "ext4")],
            loops=LOOP,
            dm=VG,
        ),
        {("refused", "/var")},
    ),
    Layout(
        "a volume half on iscsi",
        Host(
            "/dev/mapper/vg-var /var ext4 defaults 0 2\n",
            [ROOT, FUSE],
            loops=LOOP,
            dm={"dm-0": ("vg-var", ["sda2", "loop0"])},
        ),
        {("refused", "/var")},
    ),
    Layout(
        "var on local LVM", Host("/dev/vg/var /var ext4 defaults 0 2\n", [ROOT], dm={"dm-0": ("vg-var", ["sda2"])}), OK
    ),
    Layout(
        "hyphens in LVM names",
        Host(
            "/dev/my-vg/my-var /var ext4 defaults 0 2\n",
            [ROOT, FUSE],
            loops=LOOP,
            dm={"dm-3": ("my--vg-my--var", ["loop0"])},
        ),
        {("refused", "/var")},
    ),
    Layout(
        "var by UUID through a partition of a loop",
        Host(
            f'UUID="{UUID}" /var ext4 defaults 0 2\n',
            [ROOT, FUSE],
            dm={"dm-1": ("loop0p1", ["loop0"])},
            loops=LOOP,
            links={"/bin": "usr/bin", f"/dev/disk/by-uuid/{UUID}": "../../dm-1"},
        ),
        {("refused", "/var")},
    ),
    Layout(
        "var bound from a folder on iscsi",
        Host("/srv/var /var none bind 0 0\n", [ROOT, FUSE, ("/dev/loop0", "/srv", "ext4")], loops=LOOP),
        {("refused", "/var")},
    ),
    Layout(
        "var as an image file on iscsi",
        Host("/srv/var.img /var ext4 loop 0 0\n", [ROOT, FUSE, ("/dev/loop0", "/srv", "ext4")], loops=LOOP),
        {("refused", "/var")},
    ),
    Layout(
        "var as an overlay whose upper is on iscsi",
        Host(
            mounts=[
                ROOT,
                FUSE,
                ("/dev/loop0", "/srv", "ext4"),
                ("overlay", "/var", "overlay", "rw,lowerdir=/var,upperdir=/srv/up"),
            ],
            loops=LOOP,
        ),
        {("refused", "/var")},
    ),
    Layout("a root that is an overlay", Host(mounts=[("overlay", "/", "overlay", "rw,lowerdir=/l,upperdir=/u")]), OK),
    Layout("leases below var", Host(f"{DEV} /var/lib/dhcp ext4 _netdev 0 0\n"), {("refused", "/var/lib/dhcp")}),
    Layout("the registry below var", Host(f"{DEV} /var/lib/swd ext4 _netdev 0 0\n"), {("refused", "/var/lib/swd")}),
    Layout("a data base below var", Host(f"{DEV} /var/lib/postgresql ext4 _netdev 0 0\n"), OK),
    Layout("the log on iscsi", Host(f"{DEV} /var/log ext4 _netdev 0 0\n"), {("warning", "/var/log")}),
    Layout("merged usr on iscsi", Host(f"{DEV} /usr ext4 _netdev 0 0\n"), {("refused", "/usr")}),
    Layout("usr by the command line", Host(cmdline=f"mount.usr={DEV}"), {("refused", "/usr")}),
    Layout(
        "usr that the boot does without", Host(f"{DEV} /usr ext4 _netdev 0 0\n", links={}, files={"/sbin/init": ""}), OK
    ),
    Layout(
        "usr with the init in it",
        Host(f"{DEV} /usr ext4 0 0\n", links={"/sbin/init": "../usr/lib/init"}),
        {("refused", "/usr")},
    ),
    Layout("usr/local", Host(f"{DEV} /usr/local ext4 _netdev 0 0\n"), OK),
    Layout(
        "usr/local with swd in it",
        Host(f"{DEV} /usr/local ext4 0 0\n", files={"/usr/local/bin/swdctl": ""}),
        {("refused", "/usr/local")},
    ),
    Layout("etc on iscsi", Host(f"{DEV} /etc ext4 _netdev 0 0\n"), {("refused", "/etc")}),
    Layout("the only swap", Host(f"{DEV} none swap sw 0 0\n"), {("refused", "swap")}),
    Layout(
        "swap behind local swap",
        Host(f"/dev/sda2 none swap pri=10 0 0\n{DEV} none swap pri=1 0 0\n"),
        {("warning", "swap")},
    ),
    Layout(
        "swap before local swap",
        Host(f"/dev/sda2 none swap pri=1 0 0\n{DEV} none swap pri=10 0 0\n"),
        {("refused", "swap")},
    ),
    Layout(
        "swap first without priorities",
        Host(f"{DEV} none swap sw 0 0\n/dev/sda2 none swap sw 0 0\n"),
        {("refused", "swap")},
    ),
    Layout(
        "swap behind zram",
        Host(f"{DEV} none swap sw 0 0\n", swaps=[("/dev/zram0", 100)], disks={"zram0": "virtual"}, partitions=()),
        {("warning", "swap")},
    ),
    Layout(
        "a swap file on iscsi in use",
        Host(
            mounts=[ROOT, FUSE, ("/dev/loop0", "/srv", "ext4")],
            loops=LOOP,
            swaps=[("/srv/swap", -2), ("/dev/sda2", -3)],
        ),
        {("refused", "swap")},
    ),
    Layout("resume from iscsi", Host(cmdline=f"root=/dev/sda1 resume={DEV}"), {("refused", "resume")}),
    Layout(
        "kdump.conf names a device",
        Host(files={"/etc/kdump.conf": f"# x\next4 {DEV}\npath /crash\n"}),
        {("refused", "dump")},
    ),
    Layout(
        "kdump.conf names a path on iscsi",
        Host(
            mounts=[ROOT, FUSE, ("/dev/loop0", "/dumps", "ext4")],
            loops=LOOP,
            files={"/etc/kdump.conf": "path /dumps/crash\n"},
        ),
        {("refused", "dump")},
    ),
    Layout(
        "kdump.conf over ssh", Host(mounts=[ROOT], files={"/etc/kdump.conf": "ssh root@192.0.2.1\npath /dumps\n"}), OK
    ),
    Layout(
        "kdump-tools below a mount on iscsi",
        Host(
            mounts=[ROOT, FUSE, ("/dev/loop0", "/var/crash", "ext4")],
            loops=LOOP,
            files={"/etc/default/kdump-tools": 'USE_KDUMP=1\n#KDUMP_COREDIR="/x"\nKDUMP_COREDIR="/var/crash"\n'},
        ),
        {("refused", "dump")},
    ),
    Layout(
        "kdump-tools switched off",
        Host(
            mounts=[ROOT, FUSE, ("/dev/loop0", "/var/crash", "ext4")],
            loops=LOOP,
            files={"/etc/default/kdump-tools": "USE_KDUMP=0\n"},
        ),
        OK,
    ),
    Layout(
        "SUSE's kdump",
        Host(
            files={"/etc/sysconfig/kdump": 'KDUMP_SAVEDIR="file:///srv/d nfs://h/d"\n'},
            mounts=[ROOT, (DEV, "/srv", "fuse.swd")],
        ),
        {("refused", "dump")},
    ),
    Layout("pstore on iscsi", Host(cmdline=f"pstore_blk.blkdev={DEV}"), {("refused", "dump")}),
    Layout(
        "var on a disk of the kernel's initiator",
        Host(
            "/dev/sdb1 /var ext4 _netdev 0 0\n", [ROOT], disks={"sda": ATA, "sdb": SESSION}, partitions=["sda1", "sdb1"]
        ),
        {("warning", "/var")},
    ),
    Layout(
        "data on a disk of the kernel's initiator",
        Host("/dev/sdb /data ext4 _netdev 0 0\n", [ROOT], disks={"sda": ATA, "sdb": SESSION}),
        OK,
    ),
    Layout(
        "var that is not there, of the network",
        Host(f"UUID={UUID} /var ext4 _netdev 0 0\n", [ROOT]),
        {("refused", "/var")},
    ),
    Layout(
        "var that swd brings",
        Host(f"UUID={UUID} /var ext4 x-systemd.requires=swd-pass2.service 0 0\n", [ROOT]),
        {("refused", "/var")},
    ),
    Layout("var that is not there", Host(f"UUID={UUID} /var ext4 defaults 0 0\n", [ROOT]), {("unknown", "/var")}),
    Layout("var over NFS is not ours to judge", Host("nas:/var /var nfs _netdev 0 0\n", [ROOT]), OK),
    Layout("var in memory", Host("tmpfs /var tmpfs size=1G 0 0\n", [ROOT]), OK),
    Layout(
        "a comment and rubbish", Host(f"# {DEV} / ext4 0 0\n/dev/sda1\n\n{DEV} /srv\\040x ext4 _netdev\n", [ROOT]), OK
    ),
    Layout("a loop on itself", Host(mounts=[("/dev/loop0", "/", "ext4")], loops={"loop0": "/image"}), OK),
    Layout(
        "all at once",
        Host(
            f"{DEV} / ext4 0 1\n{DEV} /boot ext4 0 1\n{DEV} /var ext4 0 1\n{DEV} none swap sw 0 0\n",
            files={"/etc/kdump.conf": f"raw {DEV}\n"},
        ),
        {("refused", "/"), ("refused", "/boot"), ("refused", "/var"), ("refused", "swap"), ("refused", "dump")},
    ),
)


@pytest.mark.parametrize("layout", LAYOUTS, ids=[layout.name for layout in LAYOUTS])
def test_a_layout_has_its_verdicts(tmp_path: Path, layout: Layout) -> None:
    report = placement.check(str(make(layout.host, tmp_path)))
    assert {(one.verdict, one.place) for one in report.findings} == layout.found
    assert report.ok is all(verdict != "refused" for verdict, _ in layout.found)
    for one in report.findings:
        assert one.why
        assert one.do
        assert one.evidence


def test_the_table_is_long_enough() -> None:
    assert len(LAYOUTS) >= 25
    assert len({layout.name for layout in LAYOUTS}) == len(LAYOUTS)


def test_a_finding_tells_the_whole_way(tmp_path: Path) -> None:
    host = Host(
        "/dev/vg/var /var ext4 defaults 0 2\n", [ROOT, FUSE, ("/dev/mapper/vg-var", "/var", "ext4")], loops=LOOP, dm=VG
    )
    (one,) = placement.check(str(make(host, tmp_path))).findings
    assert one.device == DEV
    assert one.path == ("/dev/vg/var", "dm-0 (vg-var)", "loop0", f"{SWD}/disk", DEV)
    assert one.evidence == "/etc/fstab line 1; mounted now"


def test_the_error_is_einval_and_says_why_and_what_to_do(tmp_path: Path) -> None:
    report = placement.check(str(make(Host(f"{DEV} /boot ext4 0 0\n{DEV} /var ext4 0 0\n"), tmp_path)))
    with pytest.raises(InvalidArgument) as caught:
        report.require()
    assert caught.value.errno == errno.EINVAL
    assert "firmware" in caught.value.reason
    assert "(and 1 more" in caught.value.reason


def test_a_mount_to_be_is_judged_with_the_rest(tmp_path: Path) -> None:
    top = str(make(Host("/dev/sda1 / ext4 defaults 0 1\n", [ROOT]), tmp_path))
    assert placement.check(top, adding=[("/mnt", DEV)]).ok
    refused = placement.check(top, adding=[("/var", DEV)]).refused
    assert [(one.place, one.evidence) for one in refused] == [("/var", "to be mounted")]


def test_another_fstab(tmp_path: Path) -> None:
    top = str(make(Host("/dev/sda1 / ext4 defaults 0 1\n", [ROOT]), tmp_path / "host"))
    other = tmp_path / "fstab"
    other.write_text(f"{DEV} /var ext4 _netdev 0 0\n")
    (one,) = placement.check(top, str(other)).refused
    assert one.evidence == f"{other} line 1"


@pytest.mark.parametrize("words", [("/nowhere", None), ("/", "/nowhere/fstab")])
def test_what_is_not_there_is_an_error(words: tuple[str, str | None]) -> None:
    with pytest.raises(InvalidArgument):
        placement.check(*words)


def test_links_stay_below_the_root(tmp_path: Path) -> None:
    """An absolute link of an image leads to the image's file, not to this host's."""
    host = Host(
        links={"/bin": "usr/bin", "/etc/kdump.conf": "/real/kdump"},
        files={"/real/kdump": f"raw {DEV}\n"},
    )
    assert [one.place for one in placement.check(str(make(host, tmp_path))).refused] == ["dump"]


def test_a_ring_of_links_and_a_pipe_end(tmp_path: Path) -> None:
    top = make(Host(links={"/bin": "usr/bin", "/etc/kdump.conf": "other", "/etc/other": "kdump.conf"}), tmp_path)
    os.mkfifo(top / "etc/default-kdump")
    (top / "etc/default").mkdir()
    os.mkfifo(top / "etc/default/kdump-tools")
    assert placement.check(str(top)).ok


def test_mutilated_files_never_break_it(tmp_path: Path) -> None:
    """400 fstabs and mount tables with bytes cut out, changed and doubled: a report each time."""
    chance = random.Random(20261125)
    host = LAYOUTS[12].host
    top = make(host, tmp_path)
    places = [top / "etc/fstab", top / "proc/self/mountinfo", top / "proc/cmdline", top / "proc/swaps"]
    whole = {place: place.read_bytes() + f"{DEV} / ext4\n".encode() for place in places}
    for _ in range(100):
        for place in places:
            data = bytearray(whole[place])
            for _ in range(chance.randint(1, 8)):
                at = chance.randrange(len(data))
                data[at : at + chance.choice((0, 1, 9))] = chance.randbytes(chance.choice((0, 1, 3)))
                data = data or bytearray(b"x")
            place.write_bytes(data)
        placement.check(str(top))


def test_the_verb_prints_the_report_and_ends_with_einval(ctl: Callable[..., Any], tmp_path: Path) -> None:
    top = make(Host(f"{DEV} /var ext4 _netdev 0 0\n"), tmp_path)
    ended = ctl("placement", "check", "--root", str(top), "--json")
    assert ended.status == errno.EINVAL
    report = json.loads(ended.out)
    assert (report["ok"], [one["place"] for one in report["findings"]]) == (False, ["/var"])
    text = ctl("placement", "check", "--root", str(top))
    assert "network initialisation uses it" in text.out
    assert text.err.startswith("swdctl: /var may not be on iscsi://192.0.2.10")


def test_the_verb_is_content(ctl: Callable[..., Any], tmp_path: Path) -> None:
    ended = ctl("placement", "check", "--root", str(make(LAYOUTS[0].host, tmp_path)))
    assert (ended.status, ended.err) == (0, "")
    assert "nothing that the boot needs is on iSCSI" in ended.out
