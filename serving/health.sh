#!/usr/bin/env bash
# Whether a version of the model is ready to answer. The server's image has no curl, so bash asks.
exec 3<>"/dev/tcp/127.0.0.1/${PORT:-8501}"
printf 'GET /v1/models/sit HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' >&3
grep -q '"state": *"AVAILABLE"' <&3
