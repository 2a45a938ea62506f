"""The contract: the messages of CRI v1, made from api.proto of kubernetes/cri-api."""
