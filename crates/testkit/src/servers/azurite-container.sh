# Makes a container with the account's key, signed by openssl: another implementation than ours.
# Arguments: port, container, account, key.
set -euo pipefail
port=$1 name=$2 account=$3
key=$(printf %s "$4" | base64 -d | od -An -v -tx1 | tr -d ' \n')
date=$(LC_ALL=C date -u '+%a, %d %b %Y %H:%M:%S GMT')
text=$(printf 'PUT\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:%s\nx-ms-version:2021-12-02\n/%s/%s/%s\nrestype:container' \
    "$date" "$account" "$account" "$name")
sum=$(printf %s "$text" | openssl dgst -sha256 -mac HMAC -macopt "hexkey:$key" -binary | base64 -w0)
curl -sf -X PUT -H "x-ms-date: $date" -H 'x-ms-version: 2021-12-02' -H 'content-length: 0' \
    -H "authorization: SharedKey $account:$sum" \
    "http://127.0.0.1:$port/$account/$name?restype=container" >/dev/null
