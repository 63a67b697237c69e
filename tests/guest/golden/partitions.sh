# SPDX-License-Identifier: Apache-2.0
# what: a striped LV over partition 2 of a GPT disk and partition 1 of an MBR disk (type 8e)
# disks: 8 6
make() {
    printf 'label: gpt\nstart=2048, size=2048\nstart=4096, type=E6D6D379-F507-44C2-A23C-238F2A3DF928\n' | sfdisk -q /dev/vda
    printf 'label: dos\nstart=2048, type=8e\n' | sfdisk -q /dev/vdb
    until [ -b /dev/vda2 ] && [ -b /dev/vdb1 ]; do sleep 0.1; done
    group 128k /dev/vda2 /dev/vdb1
    create -i 2 -I 16k -L 1M -n lin "$VG"
    fill lin
    down
}
look() { up; seen lin; }
