# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
# What the scenarios of golden/ are written in. VG is the case's name; lines that begin with @ are read by make_golden.py.

for module in dm_mod dm_mirror dm_snapshot dm_thin_pool dm_raid raid0 raid1 raid10 raid456 dm_cache dm_cache_smq \
    dm_writecache dm_integrity dm_zero; do modprobe $module; done

# lvm_conf [FILTER]: no udev, no daemon, all virtio disks unless FILTER says less.
lvm_conf() {
    cat >/etc/lvm/lvm.conf <<CONF
devices { filter=[ ${1:-} "a|^/dev/vd.*|", "r|.*|" ] obtain_device_list_from_udev=0 external_device_info_source="none"
          use_devicesfile=0 scan_lvs=0 ${DEVICES:-} }
activation { udev_sync=0 udev_rules=0 monitoring=0 raid_fault_policy="warn" }
global { use_lvmpolld=0 event_activation=0 ${GLOBAL:-} }
backup { backup=0 archive=0 }
CONF
}
hide() { lvm_conf "\"r|^$1\$|\","; }

# pattern NAME FIRST COUNT: COUNT sectors, each of them the words "NAME NUMBER" over and over.
pattern() {
    awk -v name="$1" -v i="$2" -v n="$3" 'BEGIN {
        for (end = i + n; i < end; i++) {
            s = sprintf("%s %07d\n", name, i); while (length(s) < 512) s = s s; printf "%s", substr(s, 1, 512) } }'
}
# put LV NAME FIRST COUNT: write that pattern at sector FIRST of the LV.
put() { pattern "$2" "$3" "$4" | dd of="/dev/$VG/$1" bs=512 seek="$3" iflag=fullblock conv=notrunc,fsync 2>/dev/null; }
sectors() { blockdev --getsz "/dev/$VG/$1"; }
# fill LV...: every sector, under the LV's own name.
fill() { for lv; do put "$lv" "$lv" 0 "$(sectors "$lv")"; done; }

# seen LV [WORDS]: what device-mapper reads from it; WORDS (`without=pv1`) go into the manifest.
seen() {
    [ -b "/dev/$VG/$1" ] || { echo "no $1"; return 1; }
    echo 3 >/proc/sys/vm/drop_caches
    sum=$(dd if="/dev/$VG/$1" bs=64k iflag=direct 2>/dev/null | sha256sum)
    size=$(blockdev --getsize64 "/dev/$VG/$1")
    lv=$1; shift
    echo "@seen $lv $size ${sum%% *} without=$(echo "$LOST" | tr " " ,) $*"
}
seen_if() { [ ! -e "/dev/$VG/$1" ] || seen "$@"; }
# files LV: the sums of what is in its file system.
files() {
    mount -o ro "/dev/$VG/$1" /mnt
    ( cd /mnt && find . -type f | sort | while read -r path; do
        sum=$(sha256sum "$path"); echo "@file $1 ${path#./} ${sum%% *}"
    done )
    umount /mnt
}
# synced LV: wait until its legs agree.
synced() { until lvm lvs --noheadings -o copy_percent "$VG/$1" | grep -q '100\.00'; do sleep 0.2; done; }
up() { lvm vgchange -qq -ay "$@" "$VG"; }
down() { sync; lvm vgchange -qq -an "$VG"; }
# group EXTENT DISK...: physical volumes and the group over them.
group() { extent=$1; shift; lvm pvcreate -qq -y "$@"; lvm vgcreate -qq -y -s "$extent" "$VG" "$@"; }
create() { lvm lvcreate -qq -y "$@"; }
layout() { lvm lvs -a --noheadings --separator ' ' -o lv_name,segtype,lv_attr,seg_size,devices --units k "$VG" | sed 's/^ */@layout /'; }
lvm_conf

# step make: run the case, tell how it lies on the disks. step look: what device-mapper reads, first from all PVs, then
# from those that are left after each loss; every loss begins from the disks as they were.
step() {
    echo "@made $(uname -r) $(lvm version | sed -n 's/.*LVM version: *//p')"
    if [ "$1" = make ]; then
        set -e
        make
        sync
        return
    fi
    [ -z "${OWNER:-}" ] || echo "$OWNER" >/etc/lvm/owner
    layout
    LOST=''
    [ -z "$LOSSES" ] || for disk in /dev/vd?; do cat "$disk" >"/tmp/${disk##*/}"; done
    ( set -e; look ) || return 1
    lvm vgchange -qq -an "$VG"
    echo "$LOSSES" | tr ';' '\n' | while read -r LOST; do
        [ -n "$LOST" ] || continue
        for disk in /dev/vd?; do dd if="/tmp/${disk##*/}" of="$disk" bs=1M conv=fsync 2>/dev/null; done
        filter=
        for pv in $LOST; do filter="$filter \"r|^/dev/vd$(echo "${pv#pv}" | tr 0-9 a-j)\$|\","; done
        lvm_conf "$filter"
        look || return 1
        lvm vgchange -qq -an "$VG"
    done
}
