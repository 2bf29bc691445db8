"""One signed request to an S3 server: another implementation than the one under test.

Arguments: port, access key, secret key, method, path with query, then headers as NAME:VALUE; the
body comes from standard input. Prints the body and, on a last line, the status.
"""
import datetime
import hashlib
import hmac
import http.client
import sys
import urllib.parse

port, access, secret, method, target = sys.argv[1:6]
body = sys.stdin.buffer.read()
path, _, query = target.partition("?")
now = datetime.datetime.utcnow().strftime("%Y%m%dT%H%M%SZ")
day = now[:8]
payload = hashlib.sha256(body).hexdigest()
host = f"127.0.0.1:{port}"
signed = {"host": host, "x-amz-content-sha256": payload, "x-amz-date": now}
for header in sys.argv[6:]:
    name, _, value = header.partition(":")
    signed[name.lower()] = value.strip()
pairs = sorted(pair.partition("=")[::2] for pair in query.split("&") if pair)
canonical_query = "&".join(f"{name}={value}" for name, value in pairs)
names = ";".join(sorted(signed))
lines = "".join(f"{name}:{signed[name]}\n" for name in sorted(signed))
canonical = "\n".join([method, path, canonical_query, lines, names, payload])
scope = f"{day}/us-east-1/s3/aws4_request"
text = "\n".join(["AWS4-HMAC-SHA256", now, scope, hashlib.sha256(canonical.encode()).hexdigest()])
key = ("AWS4" + secret).encode()
for part in [day, "us-east-1", "s3", "aws4_request"]:
    key = hmac.new(key, part.encode(), hashlib.sha256).digest()
signature = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
headers = dict(signed)
del headers["host"]
headers["authorization"] = (
    f"AWS4-HMAC-SHA256 Credential={access}/{scope}, SignedHeaders={names}, Signature={signature}"
)
url = path + ("?" + canonical_query if canonical_query else "")
connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=60)
connection.request(method, url, body=body, headers=headers)
answer = connection.getresponse()
sys.stdout.buffer.write(answer.read())
print(f"\n{answer.status}")
