set -u
umask 077

say() { echo "ingot: $*"; }

# json quotes text for JSON; control characters are dropped.
json() { printf '"%s"' "$(printf '%s' "$1" | tr -d '\000-\037\177' | sed 's/\\/\\\\/g; s/"/\\"/g')"; }

# json_list turns lines into a JSON array of at most 64 strings.
json_list() {
	comma=''
	printf '['
	head -n 64 | while IFS= read -r item; do
		[ -n "$item" ] || continue
		printf '%s%s' "$comma" "$(json "$item")"
		comma=','
	done
	printf ']'
}

root_parameter() {
	for word in $(cat /proc/cmdline 2>/dev/null); do
		case $word in root=*) printf '%s' "${word#root=}"; return ;; esac
	done
}

# Only NICs with a device behind them: no bridges, tunnels or loopback.
macs() {
	for nic in /sys/class/net/*; do
		[ -e "$nic/device" ] && cat "$nic/address"
	done 2>/dev/null
}

fingerprints() {
	for key in /etc/ssh/ssh_host_*_key.pub; do
		[ -f "$key" ] && ssh-keygen -lf "$key"
	done 2>/dev/null
}

body() {
	printf '{"machine_id":%s,"instance_id":%s,' "$(json "$INGOT_MACHINE_ID")" "$(json "$INGOT_INSTANCE_ID")"
	printf '"hostname":%s,' "$(json "$(cat /proc/sys/kernel/hostname 2>/dev/null || hostname)")"
	printf '"boot_id":%s,' "$(json "$(cat /proc/sys/kernel/random/boot_id 2>/dev/null)")"
	printf '"kernel":%s,"root":%s,' "$(json "$(uname -r)")" "$(json "$(root_parameter)")"
	printf '"ssh_host_keys":%s,"macs":%s}\n' "$(fingerprints | json_list)" "$(macs | json_list)"
}

# Each way of posting prints the HTTP status, or nothing when there was none.
# The token stays out of the arguments, which every local user can see.
post_curl() {
	printf 'header = "Authorization: Bearer %s"\nheader = "Content-Type: application/json"\n' "$INGOT_REPORT_TOKEN" |
		curl -sS -q -K - --noproxy '*' --max-time 30 --cacert "$work/ca.pem" --data-binary "@$work/body" -o /dev/null -w '%{http_code}' "$INGOT_REPORT_URL"
}

post_python3() {
	INGOT_REPORT_URL=$INGOT_REPORT_URL INGOT_REPORT_TOKEN=$INGOT_REPORT_TOKEN INGOT_WORK=$work python3 - <<'INGOT_PYTHON'
import os, ssl, sys, urllib.error, urllib.request
work = os.environ["INGOT_WORK"]
request = urllib.request.Request(
    os.environ["INGOT_REPORT_URL"], data=open(work + "/body", "rb").read(),
    headers={"Authorization": "Bearer " + os.environ["INGOT_REPORT_TOKEN"], "Content-Type": "application/json"})
opener = urllib.request.build_opener(
    urllib.request.ProxyHandler({}),
    urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=work + "/ca.pem")))
try:
    print(opener.open(request, timeout=30).status)
except urllib.error.HTTPError as e:
    print(e.code)
except Exception as e:
    print(e, file=sys.stderr)
INGOT_PYTHON
}

post_wget() {
	printf 'header = Authorization: Bearer %s\nheader = Content-Type: application/json\nca_certificate = %s\nuse_proxy = off\ntries = 1\n' \
		"$INGOT_REPORT_TOKEN" "$work/ca.pem" >"$work/wgetrc"
	WGETRC=$work/wgetrc wget -S -T 30 -O /dev/null --post-file="$work/body" "$INGOT_REPORT_URL" 2>"$work/wget.log"
	sed -n 's/^ *HTTP\/[0-9.]* \([0-9]*\).*/\1/p' "$work/wget.log" | tail -n 1
}

# The ways are tried in order of how well they are known to check certificates.
post() {
	for way in curl python3 wget; do
		if command -v "$way" >/dev/null 2>&1; then
			"post_$way"
			return
		fi
	done
	say 'neither curl, python3 nor wget is installed, so this system cannot report' >&2
}

work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
ingot_ca >"$work/ca.pem"
body >"$work/body"

left=${INGOT_REPORT_SECONDS:-600}
pause=1
while :; do
	status=$(post)
	case $status in
	2??) say 'first boot reported to the controller'; exit 0 ;;
	400 | 401 | 403 | 413 | 415 | 422)
		say "the controller refused the report with HTTP status $status"
		exit 1
		;;
	esac
	if [ "$left" -le 0 ]; then
		say 'the controller could not be reached; giving up'
		exit 1
	fi
	say "report not delivered (HTTP status ${status:-none}), trying again in $pause seconds"
	sleep "$pause"
	left=$((left - pause))
	pause=$((pause * 2))
	[ "$pause" -le 30 ] || pause=30
done
