# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=sh
# Runs in the guest, by SSH. Each line is a name and what was found.
set -u
say() { printf '%s=%s\n' "$1" "$(echo "$2" | tr '\n' ' ')"; }
# The units of systemd are links to nowhere.
count() {
  number=0
  for name in "$@"; do
    if [ -e "$name" ] || [ -L "$name" ]; then number=$((number + 1)); fi
  done
  echo "$number"
}
say cmdline "$(cat /proc/cmdline)"
say root "$(findmnt -no SOURCE,FSTYPE,OPTIONS / 2>/dev/null || grep ' / ' /proc/mounts)"
say verity "$(dmsetup table root | cut -d' ' -f3-4)"
say var "$(grep ' /var ' /proc/mounts | cut -d' ' -f3)"
say write "$(touch /usr/x /etc/x 2>&1 && echo written)"
say keys "$(ls /run/attested/ssh)"
say key_fs "$(stat -f -c %T /run/attested/ssh)"
say etc_keys "$(count /etc/ssh/*host_*)"
say key_mode "$(stat -c %a /run/attested/ssh/ssh_host_ed25519_key)"
say fingerprint "$(ssh-keygen -lf /run/attested/ssh/ssh_host_ed25519_key.pub | cut -d' ' -f2)"
say machine_id "$(cat /etc/machine-id)"
say swap "$(sed 1d /proc/swaps)"
say shadow "$(grep ^root: /etc/shadow | cut -d: -f2)"
say lockdown "$(cat /sys/kernel/security/lockdown)"
say failed "$(systemctl list-units --failed --plain --no-legend | cut -d' ' -f1)"
say gettys "$(count /run/systemd/units/*getty*)"
say listening "$(ss -tlnH | tr -s ' ' | cut -d' ' -f4)"
say modules "$(modprobe -n -v tdx-guest 2>&1 | wc -l)$(modprobe -n -v sev-guest 2>&1 | wc -l)"
if [ -d /scratch ] && grep -q ' /scratch ' /proc/mounts; then
  echo 'attested scratch marker' >/scratch/marker
  sync
  say scratch "$(grep ' /scratch ' /proc/mounts)"
fi
for bank in sha256 sha384; do
  for pcr in 4 9 11 12; do
    file=/sys/class/tpm/tpm0/pcr-$bank/$pcr
    [ -r "$file" ] && say "pcr$pcr.$bank" "$(tr 'A-F' 'a-f' <"$file")"
  done
done
exit 0
