"""A bucket on an S3 server of this machine, which forgets everything when it ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

KEY, SECRET = "AKIDEXAMPLE", "wJalrXUtnFEMI"


@contextmanager
def s3_bucket() -> Iterator[str]:
    """An address in it, with all that a client needs to reach it."""
    server = pytest.importorskip("moto.server", reason="needs moto[server] of the dev extra, a local S3 server")
    import boto3  # comes with moto[server]

    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    try:
        host, port = running.get_host_and_port()
        client = boto3.client(
            "s3",
            endpoint_url=f"http://{host}:{port}",
            region_name="us-east-1",
            aws_access_key_id=KEY,
            aws_secret_access_key=SECRET,
        )
        client.create_bucket(Bucket="bucket")
        client.close()
        yield f"s3://{KEY}:{SECRET}@bucket/runs?scheme=http&endpoint_override={host}%3A{port}&region=us-east-1"
    finally:
        running.stop()
