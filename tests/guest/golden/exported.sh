# SPDX-License-Identifier: Apache-2.0
# what: an exported group: LVM activates nothing of it
# disks: 4
# refuse: * EROFS writing: the group is exported; lvm2 does not activate it either
make() {
    group 128k /dev/vda
    create -L 1M -n lin "$VG"
    fill lin
    down
    lvm vgexport -qq "$VG"
}
look() { lvm vgs -o vg_attr "$VG"; lvm vgimport -qq "$VG"; up; seen lin; }
