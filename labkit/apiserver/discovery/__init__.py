"""What the API serves: groups, OpenAPI, protobuf, and what it does not serve."""
