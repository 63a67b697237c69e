# SPDX-License-Identifier: Apache-2.0
# what: a group that another system owns (system_id)
# disks: 4
# refuse: * EROFS writing: another system owns the group; reading is the decision of docs/volumes.md
make() {
    group 128k /dev/vda
    create -L 1M -n lin "$VG"
    fill lin
    down
    GLOBAL='system_id_source="lvmlocal"' lvm_conf
    mkdir -p /etc/lvm && echo 'local { system_id="swd-golden-owner" extra_system_ids=[ "swd-golden-owner" ] }' >/etc/lvm/lvmlocal.conf
    lvm vgchange -qq -y --systemid swd-golden-owner "$VG"
}
look() {
    GLOBAL='system_id_source="lvmlocal"' lvm_conf
    echo 'local { system_id="swd-golden-guest" extra_system_ids=[ "swd-golden-owner" ] }' >/etc/lvm/lvmlocal.conf
    up; seen lin
}
