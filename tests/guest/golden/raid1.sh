# SPDX-License-Identifier: Apache-2.0
# what: raid1 with two legs and with three
# disks: 6 6 6
# losses: pv0; pv1; pv0 pv1
make() {
    group 128k /dev/vda /dev/vdb /dev/vdc
    create --type raid1 -m 1 -L 1M -n two "$VG" /dev/vda /dev/vdb
    create --type raid1 -m 2 -L 1280k -n three "$VG"
    for lv in two three; do synced $lv; done
    fill two three
    down
}
look() { up --activationmode degraded; seen_if two; seen three; }
