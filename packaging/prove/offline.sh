#!/bin/sh
# Install the offline bundle in a Debian without a network, use it, and uninstall it. It plays a video, a stream and a folder
# of pictures. The last line is a JSON object: what the command says, the results of each, and each file that is left.
# Needs root, systemd-container and the bundle in dist/.
#     packaging/prove/offline.sh
set -eu
cd "$(dirname "$0")/../.."
packaging/prove/root.sh amd64
ls dist/limpet-*-amd64-offline.tar.gz >/dev/null 2>&1 || packaging/offline/build.sh amd64
work=$(realpath "$(mktemp -d build/prove/offline.XXXXXX)")
mkdir "$work/upper" "$work/work" "$work/merged"
mount -t overlay overlay -o "lowerdir=$(realpath build/prove/root-amd64),upperdir=$work/upper,workdir=$work/work" "$work/merged"
trap 'umount "$work/merged" && rm -rf "$work"' EXIT
mkdir "$work/merged/proof"
tar -C "$work/merged/proof" --strip-components=1 -xzf dist/limpet-*-amd64-offline.tar.gz
PYTHONPATH=tests .venv/bin/python packaging/prove/eyes.py "$work/merged/proof"
cat >"$work/merged/proof/prove.sh" <<'PROVE'
set -eu
files() { find / -xdev \( -path /proof -o -path /proc -o -path /sys -o -path /dev -o -path /run -o -path /tmp \) -prune -o -print | sort; }
mkdir -p /etc/sysusers.d # as everywhere but in so small a Debian
files >/tmp/before
cd /proof
./install.sh
said=$(limpet --version)
# Pictures and microphones work as it is, cameras and videos do not.
limpet check eyes/ears.toml
limpet check eyes/eyes.toml 2>/tmp/refused && exit 1
grep -q "needs the extra 'camera'" /tmp/refused
./install.sh --with camera
limpet check eyes/eyes.toml
python3 eyes/camera.py eyes/pictures 2>/dev/null &
camera=$!
timeout --signal=INT 10 limpet run eyes/eyes.toml 2>/tmp/run.txt || true
kill $camera
found() { grep '"type":"result"' eyes/found.jsonl | grep "\"pipeline\":\"$1\"" | grep -c "$2" || true; }
counts=
for name in video stream folder; do counts="$counts\"$name\": $(found $name '"label":"square"'), "; done
tone=$(found tone values)
microphone=$(sed -n 's/.*microphone: waiting: \(.*\)/\1/p' /tmp/run.txt | head -n 1 | sed 's/["\]/_/g')
mosquitto -p 1883 -d
limpet demo --broker mqtt://127.0.0.1:1883 --seconds 5 --json >/tmp/demo 2>/tmp/demo.txt || { cat /tmp/demo.txt; exit 1; }
[ -e /usr/local/share/man/man1/limpet-watch.1.gz ]
for file in bash-completion/completions/limpet zsh/site-functions/_limpet fish/vendor_completions.d/limpet.fish; do
    [ -s "/usr/local/share/$file" ]
done
limpet watch mqtt://127.0.0.1:1 || [ $? = 1 ]
./install.sh --uninstall
files >/tmp/after
left=$(comm -13 /tmp/before /tmp/after | tr '\n' ' ')
printf '{"version": "%s", "results": {%s"tone": %s}, "microphone": "%s", "left": "%s"}\n' "$said" "$counts" "$tone" "$microphone" "$left"
PROVE
systemd-nspawn --quiet --directory "$work/merged" --private-network --register=no --keep-unit --pipe \
    --system-call-filter="landlock_create_ruleset landlock_add_rule landlock_restrict_self" sh /proof/prove.sh </dev/null
