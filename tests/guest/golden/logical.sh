# SPDX-License-Identifier: Apache-2.0
# what: a PV on a logical partition (5) of an MBR disk
# disks: 8
make() {
    printf 'label: dos\nstart=2048, size=2048, type=83\nstart=4096, type=5\nstart=6144, type=8e\n' | sfdisk -q /dev/vda
    until [ -b /dev/vda5 ]; do sleep 0.1; done
    group 128k /dev/vda5
    create -L 1M -n lin "$VG"
    fill lin
    down
}
look() { up; seen lin; }
