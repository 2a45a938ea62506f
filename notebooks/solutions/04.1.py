# A listening Unix socket stands in /proc/net/unix for as long as its process lives; the file stays even after that.
script = f"""\
last=back
while true; do
  if grep -q ' {node.socket_path}$' /proc/net/unix; then now=back; else now=away; fi
  [ $now = $last ] || echo $now
  last=$now
  usleep 50000
done
"""
node.start_pod({
    "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "watchman"},
    "spec": {
        "hostNetwork": True,
        "containers": [{"name": "main", "image": node.images["busybox"], "command": ["sh", "-c", script]}],
    },
})
