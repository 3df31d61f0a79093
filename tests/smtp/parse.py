"""Reads a message as Python's own email package does, strictly by the standards, and prints it as JSON."""

import email
import email.policy
import json
import sys

message = email.message_from_bytes(sys.stdin.buffer.read(), policy=email.policy.default)
parts = list(message.walk())
defects = [repr(d) for part in parts for d in part.defects]
defects += [repr(d) for part in parts for value in part.values() for d in value.defects]
json.dump(
    {
        "headers": {name.lower(): str(value) for name, value in message.items()},
        "kinds": [part.get_content_type() for part in parts],
        "text": message.get_body(("plain",)).get_content().replace("\r\n", "\n"),
        "html": message.get_body(("html",)).get_content().replace("\r\n", "\n"),
        "defects": defects,
    },
    sys.stdout,
)
