# SPDX-License-Identifier: Apache-2.0
# what: a group that another system owns (system_id swd-golden-owner); device-mapper read it as that system
# disks: 4
# refuse: * EROFS writing: another system owns the group
OWNER=swd-golden-owner
GLOBAL='system_id_source="file" system_id_file="/etc/lvm/owner"'
lvm_conf
make() {
    group 128k /dev/vda
    create -L 1M -n lin "$VG"
    fill lin
    down
    echo "$OWNER" >/etc/lvm/owner
    lvm vgchange -qq -y --systemid "$OWNER" "$VG"
    lvm vgs --noheadings -o systemid "$VG" | grep -q swd-golden-owner
}
look() { up; seen lin; }
